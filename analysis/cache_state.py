"""How warm the caches were: where what the target used came from."""

from typing import Final

import numpy as np

from cvtrace.analysis.study import Study
from cvtrace.probes.events import Kind, Opcode

COLD_SHARE: Final = 0.8
"""A run is cold if at least this share of the objects it touched had to be fetched."""


def cache_state(study: Study) -> str | None:
    """Return cold, warm (reads, all from the client's cache), hot (no reads, no fetches), mixed, or none (no CVMFS).

    None where requests cannot be observed.
    """
    if not study.recording.sees_requests:
        return None
    mine = study.requests.by_target & study.requests.asked
    reads = bool((mine & study.requests.is_(Opcode.READ)).any())
    fetched = np.unique(study.gets.object[study.gets_of_target & (study.gets.object >= 0)])
    fetches = int(study.gets_of_target.sum())
    if not mine.any() and not study.recording.has(Kind.PAGE_MAP, Kind.PAGE_READ, Kind.FAULT):
        return "none"
    if not fetches:
        return "warm" if reads else "hot"
    request = study.opens.request
    asked = (request >= 0) & study.requests.by_target[np.maximum(request, 0)] if len(mine) else request >= 0
    touched = np.unique(study.opens.object[asked & (study.opens.object >= 0)])
    there_before = len(np.setdiff1d(touched, fetched))
    share = len(fetched) / max(len(fetched) + there_before, 1)
    return "cold" if reads and share >= COLD_SHARE else "mixed"
