"""What happened: events of the kernel, the daemon and the target joined to requests, files, fetches and phases.

    requests                    what the kernel sent, joined with what the daemon answered
    paths                       which file a request is about, and which calls touch it
    objects, cache_use          what a request did with the client's cache
    fetches                     jobs of the download thread and their GETs (the central join)
    library_calls, answers, engine, idle, user_phases, phases   the target's life cut into phases, tokens and answers
    faults, bytes_used          page faults, and which bytes the target used itself
    mounts, unobserved_requests which mounts the target used, observed or not
    client_counters, client_functions   what the client counted, and what its functions tell

In: Recording. Out: one table of columns for each. May import `trace` and `contract`.
"""
