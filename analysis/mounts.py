"""Which of the observed mounts the target used: several on one machine are normal, and most are nobody's business."""

from typing import Final

import numpy as np

from cvtrace.analysis.intervals import Ints
from cvtrace.analysis.paths import Calls
from cvtrace.analysis.recording import Mount, Recording
from cvtrace.analysis.requests import Requests
from cvtrace.probes.events import Kind

ACTIVITY: Final = (
    "cvmfs.n_fs_open",
    "cvmfs.n_fs_read",
    "cvmfs.n_fs_lookup",
    "download.n_requests",
    "nopen",
    "ndownload",
)
"""Counters that only grow when somebody uses the mount."""


def used_mounts(recording: Recording, requests: Requests, calls: Calls) -> tuple[Mount, ...]:
    """Return the mounts that the target asked something of, touched a page of, or opened a file on.

    Where no request can be observed: those of which the client counted any activity.
    """
    if not recording.sees_requests:
        return tuple(mount for mount in recording.mounts if any(mount.counted(name) for name in ACTIVITY))
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
