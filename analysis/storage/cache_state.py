"""How warm the caches were: where what the target used came from, in the whole run and in each phase."""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.cache_use import HIT
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.recording import EventIndex
from cvtrace.probes.events import Kind, Opcode

COLD_SHARE: Final = 0.8
"""A run is cold if at least this share of the objects it touched had to be fetched."""
DISK_SHARE: Final = 0.1
"""Cached objects come from disk if the client's threads wait in the kernel for at least this share of the time of their reads."""
UNINTERRUPTIBLE: Final = 2


def cache_state(study: Study) -> str | None:
    """Return cold, warm (reads, all from the client's cache), hot (no reads, no fetches), mixed, or none (no CVMFS).

    None where requests cannot be observed, or all failed: a failed one tells nothing of the caches.
    """
    if not study.recording.sees_requests:
        return None
    expected = study.requests.by_target & study.requests.expects_reply
    succeeded = expected & ~study.requests.failed
    reads = bool((succeeded & study.requests.reads).any())
    get_succeeded = pick(succeeded.astype(np.int64), study.gets.request, 0) == 1
    fetched = np.unique(study.get_object[get_succeeded & (study.get_object >= 0)])
    fetches = int(get_succeeded.sum())
    if expected.any() and not succeeded.any():
        return None
    if not succeeded.any() and not study.recording.has(Kind.PAGE_MAP, Kind.PAGE_READ, Kind.FAULT):
        return "none"
    if not fetches:
        return "warm" if reads else "hot"
    request = study.opens.request
    by_target = (request >= 0) & study.requests.by_target[np.maximum(request, 0)] if len(succeeded) else request >= 0
    objects = np.unique(study.opens.object[by_target & (study.opens.object >= 0)])
    there_before = len(np.setdiff1d(objects, fetched))
    share = len(fetched) / max(len(fetched) + there_before, 1)
    return "cold" if reads and share >= COLD_SHARE else "mixed"


def states_by_row(study: Study) -> list[str | None]:
    """Return the state of the caches for each row of phases: as `cache_state`, and warm-disk or warm-memory for warm.

    It is warm-disk if the client had to wait for the disk that its cache lies on, warm-memory if the objects were in the kernel's page
    cache, and warm where its threads were not observed.
    """
    rows = range(len(study.phases.names))
    if not study.recording.sees_requests:
        return [None for _ in rows]
    requests, use = study.requests, study.use
    read_row = np.where(requests.reads, study.request_phase, -1)
    open_row = np.where(requests.is_(Opcode.OPEN) & ~requests.failed, study.request_phase, -1)
    failed = pick(requests.failed.astype(np.int64), study.gets.request, 0) == 1
    get_row = np.where(failed, -1, study.get_phase)
    pages = study.recording.of(Kind.PAGE_MAP, Kind.PAGE_READ, Kind.FAULT)
    page_row = study.phases.row_at(pages.tid, pages.start)
    of_use = pick(study.request_phase, use.use_request, -1)
    of_read = pick(study.request_phase, use.read_request, -1)
    waits = disk_waits(study)
    states: list[str | None] = []
    for row in rows:
        fetched = np.unique(study.get_object[get_row == row])
        cached = np.concatenate([use.use_object[(of_use == row) & (use.use == HIT)], use.read_object[of_read == row]])
        not_fetched = len(np.setdiff1d(np.unique(cached[cached >= 0]), fetched))
        if (get_row == row).any():
            states.append("cold" if len(fetched) / max(len(fetched) + not_fetched, 1) >= COLD_SHARE else "mixed")
        elif (read_row == row).any():
            states.append(_warm(waits, of_read == row))
        else:
            states.append("hot" if (open_row == row).any() or (page_row == row).any() else "none")
    return states


def _warm(waits: tuple[Ints, Ints] | None, chosen: Bools) -> str:
    if waits is None or not chosen.any():
        return "warm"
    waited, length = (int(column[chosen].sum()) for column in waits)
    return "warm-disk" if waited >= DISK_SHARE * max(length, 1) else "warm-memory"


def disk_waits(study: Study) -> tuple[Ints, Ints] | None:
    """Return for each read of a cache file (CacheUse.read_at) how long its thread waited in the kernel, and how long it took, in ns.

    None where the scheduler's events of the client were not seen.
    """
    recording = study.recording
    off = recording.of(Kind.OFFCPU)
    off = off.where(np.isin(off.tgid, recording.daemon_pids))
    if not len(off):
        return None
    off = off.where((off.c & UNINTERRUPTIBLE) != 0)
    asleep = EventIndex(recording, off, off.tid)
    reads = recording.of(Kind.CACHE_READ).where(study.use.read_at)
    first = asleep.asof_forward(reads.tid, reads.start)
    wait_start = pick(asleep.rows.start, first, -1)
    inside = (wait_start >= 0) & (wait_start < reads.end)
    waited = np.where(inside, np.minimum(pick(asleep.rows.end, first, 0), reads.end) - wait_start, 0)
    return waited, reads.end - reads.start
