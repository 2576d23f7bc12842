"""How sure: what others counted, what is missing, and the answer that follows.

    reconcile, client_calls, counted_evidence   what the client counted
    kernel_counters                             what the kernel numbered
    access_log, access_check                    what a server or proxy logged
    unobserved_opens                            files on mounts that were not observed, by their names
    complete                                    all of these together: Evidence, with what is missing for a proof
    needs, generation                           which requests a phase, generation or a program needed
    decision                                    the rule: yes, no or inconclusive (`decide`; nothing else decides that)
    verdict, program_verdict                    the answer to the target's question, with its numbers

In: Study and Tables. Out: Evidence and the Verdict. May import `storage` and what is below.
"""
