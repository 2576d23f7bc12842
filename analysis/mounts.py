"""Which of the observed mounts the target used: several on one machine are normal, and most are nobody's business."""

import numpy as np

from cvtrace.analysis.intervals import Ints
from cvtrace.analysis.paths import Calls
from cvtrace.analysis.recording import Mount, Recording
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Kind


def used_mounts(recording: Recording, requests: Requests, calls: Calls) -> tuple[Mount, ...]:
    """Return the mounts that the target asked something of, touched a page of, or opened a file on."""
    asked = np.unique(requests.connection[requests.by_target & requests.asked])
    touched = np.unique(recording.of(Kind.FAULT, Kind.PAGE_READ, Kind.PAGE_MAP).a)
    opened = np.unique(calls.mount)
    return tuple(
        mount
        for number, mount in enumerate(recording.mounts)
        if number in opened or _has(asked, mount.connection) or _has(touched, mount.connection, mount.device)
    )


def _has(found: Ints, *wanted: int) -> bool:
    return bool(np.isin(np.array(wanted, dtype=np.int64), found).any())
