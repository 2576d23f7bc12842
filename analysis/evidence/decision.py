"""The rule of every answer in a report: yes, no or inconclusive. Nothing else in cvtrace decides that.

What was needed is worked out in needs.py and generation.py, what is missing for a proof in complete.py and verdict.py.
"""

from collections.abc import Sized

from cvtrace.analysis.contract.verdict_schema import INCONCLUSIVE, NO, YES


def decide(*, requests: bool, counters: bool = False, unobserved: bool = False, missing: Sized | bool) -> str:
    """Answer whether something (generation, a phase, a run, an answer, a program) needed CVMFS.

    `requests`: it sent a FUSE request to an observed mount, or waited for one or for a fetch.
    `counters`: the client's own counters grew in it (where the target reads them, for want of requests that can be seen).
    `unobserved`: it sent a request to a CVMFS mount that was not recorded.
    `missing`: whatever keeps the recording from proving that there was nothing: lost events, counts that differ, mounts left out.

        requests   counters   unobserved   missing     answer
        ---------  ---------  ----------   --------    ------------
        any        -          -            -           yes
        -          grew       -            -           yes
        -          -          any          -           yes
        none       same       none         something   inconclusive
        none       same       none         nothing     no

    One need is proof enough for yes, so what is missing does not matter there; a no needs a complete proof.
    """
    if requests or counters or unobserved:
        return YES
    is_complete = not missing if isinstance(missing, bool) else len(missing) == 0
    return NO if is_complete else INCONCLUSIVE
