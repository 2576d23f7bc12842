"""How the target went through each file: one place after the other, or here and there; and how much of it was used at least.

A read() tells which pages it copied. A page fault tells one page; when fault-around maps some 16 pages at once, no event tells which of
them are used. Whoever goes through a mapping in order uses all of them, and the next fault is right behind them; whoever does not has used
one page at least.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import file_of, used_ranges
from cvtrace.analysis.joins.paths import enclosing_call
from cvtrace.analysis.storage.chunks import requested_bytes_of_files
from cvtrace.analysis.storage.file_map import Axis, union
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, match, pick
from cvtrace.analysis.trace.keys import PAGE
from cvtrace.probes.events import Kind

SEQUENTIAL: Final = "sequential"
RANDOM: Final = "random"
MIXED: Final = "mixed"
NEAR: Final = 4 * PAGE
"""A step that begins so near behind the one before goes on from it."""
NEAR_READ: Final = 1 << 17
"""The same of READ requests, which readahead puts out of order: one of 128 KiB."""
FEW_JUMPS: Final = 0.1
MANY_JUMPS: Final = 0.5


@dataclass(frozen=True)
class Access:
    """One entry per file. `pattern` is None where nothing was read; `used` bytes at least, -1 where that is not known; `jumps` of `steps`
    did not go on from the one before; `faults` are the page faults among the events."""

    pattern: list[str | None]
    used: Ints
    jumps: Ints
    steps: Ints


@dataclass(frozen=True)
class _Steps:
    """What threads did to files, sorted by (file, thread, time), each step what overlaps without a break.

    `first` page of a step is one that was surely used; `whole`: all of it was; `read`: by a read().
    """

    file: Ints
    start: Ints
    end: Ints
    first: Ints
    read: Bools
    same_thread: Bools
    """Same file and thread as the step before."""


def access(study: Study, files: Ints) -> Access:
    """Return how each of the files (keys.file_key, distinct) was gone through."""
    pages = _page_steps(study)
    place = match(files, pages.file)
    jumps, steps = _jumps(pages, place, len(files), NEAR)
    by_request = _request_steps(study)
    of = match(files, by_request.file)
    fewer = _jumps(by_request, of, len(files), NEAR_READ)
    has_pages = np.bincount(place[place >= 0], minlength=len(files)) > 0
    has_reads = np.bincount(of[of >= 0], minlength=len(files)) > 0
    jumps, steps = np.where(has_pages, jumps, fewer[0]), np.where(has_pages, steps, fewer[1])
    pattern = [
        _pattern(jump, step) if known else None
        for jump, step, known in zip(jumps.tolist(), steps.tolist(), (has_pages | has_reads).tolist(), strict=True)
    ]
    used = np.minimum(_used(study, pages, files), requested_bytes_of_files(study, files))
    return Access(pattern, np.where(has_pages, used, -1), jumps, steps)


def _pattern(jumps: int, steps: int) -> str:
    if jumps <= FEW_JUMPS * steps:
        return SEQUENTIAL
    return RANDOM if jumps >= MANY_JUMPS * steps else MIXED


def _page_steps(study: Study) -> _Steps:
    """Put the target's page events into steps."""
    pages = used_ranges(study.recording)
    faulted = pages.kind == Kind.FAULT
    return _steps(pages.file, pages.tid, pages.when, pages.start, pages.end, faulted, pages.kind == Kind.PAGE_READ)


def _request_steps(study: Study) -> _Steps:
    """Put the target's READ requests into steps."""
    requests = study.requests
    rows = np.flatnonzero(requests.by_target & requests.reads & (requests.offset >= 0))
    start = requests.offset[rows]
    end = start + np.maximum(requests.read_bytes[rows], 1)
    nothing = np.zeros(len(rows), dtype=bool)
    return _steps(file_of(requests)[rows], requests.asker[rows], requests.sent[rows], start, end, nothing, ~nothing)


def _steps(file: Ints, tid: Ints, when: Ints, start: Ints, end: Ints, fault: Bools, read: Bools) -> _Steps:
    """Sort events, and join those that overlap the one before: a fault is tried again by fault-around over its page."""
    order = np.lexsort((when, tid, file))
    file, tid, start, end = file[order], tid[order], start[order], end[order]
    fault, read = fault[order], read[order]
    same_thread = _same(file, tid)
    overlaps = same_thread & (start < np.append(0, end[:-1])[: len(end)]) & (end > np.append(0, start[:-1])[: len(end)])
    head = np.flatnonzero(~overlaps)
    if not len(head):
        none = np.empty(0, dtype=np.int64)
        return _Steps(none, none, none, none, none.astype(bool), none.astype(bool))
    fault_at = np.where(fault, start, np.iinfo(np.int64).max)
    surely = np.minimum.reduceat(fault_at, head)
    low = np.minimum.reduceat(start, head)
    return _Steps(
        file=file[head],
        start=low,
        end=np.maximum.reduceat(end, head),
        first=np.where(surely < np.iinfo(np.int64).max, surely, low),
        read=np.logical_or.reduceat(read, head),
        same_thread=same_thread[head],
    )


def _same(file: Ints, tid: Ints) -> Bools:
    """Tell which events are of the file and thread of the one before."""
    same = (file[1:] == file[:-1]) & (tid[1:] == tid[:-1])
    return np.append(False, same)[: len(file)]


def _follows(steps: _Steps, near: int) -> Bools:
    """Tell which steps go on from the one before."""
    gap = steps.start - np.append(0, steps.end[:-1])[: len(steps.end)]
    behind = np.append(0, steps.start[:-1])[: len(steps.start)] - steps.end
    follows: Bools = steps.same_thread & (gap <= near) & (behind <= near)
    return follows


def _jumps(steps: _Steps, place: Ints, files: int, near: int) -> tuple[Ints, Ints]:
    """Return how many steps of each file were jumps, and how many there were, the first of each thread not counted."""
    jumped = steps.same_thread & ~_follows(steps, near)
    return add_by_group(place, jumped, files), add_by_group(place, steps.same_thread, files)


def _used(study: Study, steps: _Steps, files: Ints) -> Ints:
    """Return how many bytes of each file were used at least."""
    follows = _follows(steps, NEAR)
    goes_on = np.append(follows[1:], False)[: len(follows)]
    mapped = np.flatnonzero(~steps.read)
    start = np.where(goes_on, steps.start, steps.first)[mapped]
    end = np.where(goes_on, steps.end, steps.first + PAGE)[mapped]
    return _sizes(files, steps.file[mapped], start, end) + _read(study, files)


def _read(study: Study, files: Ints) -> Ints:
    """Return how many bytes of each file read() and its kin used: no more than they returned, where that is known."""
    pages = used_ranges(study.recording)
    rows = np.flatnonzero(pages.kind == Kind.PAGE_READ)
    file, start, end = pages.file[rows], pages.start[rows], pages.end[rows]
    calls = study.calls.rows
    call = enclosing_call(study.recording, study.calls, pages.tid[rows], pages.when[rows], pages.when[rows])
    call = np.where(pick(calls.kind, call, -1) == Kind.SYS_READ, call, -1)
    inside = call >= 0
    which, first = np.unique(call[inside], return_index=True)
    returned = add_by_group(match(files, file[inside][first]), np.maximum(pick(calls.ret, which, 0), 0), len(files))
    copied = _sizes(files, file[inside], start[inside], end[inside])
    return np.minimum(copied, returned) + _sizes(files, file[~inside], start[~inside], end[~inside])


def _sizes(files: Ints, file: Ints, start: Ints, end: Ints) -> Ints:
    """Return how many bytes of each file the ranges cover together."""
    axis = Axis.of(files, end)
    of, begin, stop = union(axis, file, start, end)
    return add_by_group(match(files, of), stop - begin, len(files))
