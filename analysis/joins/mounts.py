"""Which of the observed mounts the target used: several on one machine are normal, and most are nobody's business."""

from typing import Final

import numpy as np

from cvtrace.analysis.joins.paths import Calls
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.analysis.trace.recording import Mount, Recording
from cvtrace.probes.events import Kind
from cvtrace.probes.portable.counts import INDEX

ACTIVITY: Final = (
    "cvmfs.n_fs_open",
    "cvmfs.n_fs_read",
    "cvmfs.n_fs_lookup",
    "download.n_requests",
    "nopen",
    "ndownload",
)
"""Counters that only grow when somebody uses the mount."""


def held_mounts(recording: Recording) -> Ints | None:
    """Return the numbers of the mounts of which the target had a file open or mapped, or that its arguments name.

    None where nobody looked: then nothing tells the target's own mounts from those of others.
    """
    rows = recording.of(Kind.COUNTER)
    rows = rows.where((rows.ret == 1) & (rows.b == INDEX["process.held_files"]))
    if not len(rows):
        return None
    target = recording.meta.get("target") or {}
    words = [str(word) for word in (*(target.get("argv") or ()), target.get("cwd") or "")]
    named = [
        number
        for number, mount in enumerate(recording.mounts)
        if mount.path and any(f"{word}/".startswith(f"{mount.path}/") for word in words)
    ]
    return np.union1d(rows.a[rows.c > 0], np.array(named, dtype=np.int64))


def used_mounts(recording: Recording, requests: Requests, calls: Calls) -> tuple[Mount, ...]:
    """Return the mounts that the target asked something of, touched a page of, or opened a file on.

    Where no request can be observed: those that it held files of, and of which the client counted any activity.
    """
    if not recording.sees_requests:
        held = held_mounts(recording)
        return tuple(
            mount
            for number, mount in enumerate(recording.mounts)
            if (held is None or number in held) and any(mount.counter_delta(name) for name in ACTIVITY)
        )
    connections = np.unique(requests.connection[requests.by_target & requests.expects_reply])
    devices = np.unique(np.concatenate([recording.of(kind).a for kind in (Kind.FAULT, Kind.PAGE_READ, Kind.PAGE_MAP)]))
    opened = np.unique(calls.mount)
    return tuple(
        mount
        for number, mount in enumerate(recording.mounts)
        if number in opened or _has(connections, mount.connection) or _has(devices, mount.connection, mount.device)
    )


def _has(values: Ints, *candidates: int) -> bool:
    return bool(np.isin(np.array(candidates, dtype=np.int64), values).any())
