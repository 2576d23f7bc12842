"""How sure: what others counted, what is missing, and the answer that follows.

    reconcile, client_calls, counted_evidence   what the client counted
    kernel_counters                             what the kernel numbered
    access_log, access_check                    what a server or proxy logged
    opened_elsewhere                            files on mounts that were not observed, by their names
    complete                                    what speaks for a complete recording, and what is missing
    generation, verdict, program_verdict        yes, no or inconclusive: `verdict.verdict` decides for generation

In: Study and Tables. Out: checks, proofs and the Verdict. May import `storage` and what is below.
"""
