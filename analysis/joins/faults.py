"""How long the target was in the kernel for page faults on a mount: what is certain of it, from events that are points.

No event tells when a fault is over. What is certain (mm/filemap.c, mm/memory.c of Linux 6.x):

- fault-around (PAGE_MAP, at its end) comes first; if it did not map the page wanted, the fault goes on in FAULT;
- READs that the thread sends after a FAULT are the fault's readahead, and so is the wait for the reply to one;
- a fault that sends a READ or waits for one lets go of the mapping and is tried again, by fault-around over the page wanted.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.paths import CALLS
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, empty, ints, narrow, numbered
from cvtrace.analysis.trace.keys import file_key, first_page, high_half, page_count
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind, Opcode

UNINTERRUPTIBLE: Final = 2
FLAGS: Final = ("inside", "reading")
NOTHING: Final = {"kind": 0, "length": 0, "inside": 0, "reading": 0, "file": -1, "page": 0, "pages": 0}
"""Of steps that do not say otherwise."""
OUTSIDE: Final = (Kind.PHASE, *CALLS, Kind.SYS_UNMAP)
"""Calls: none begins or ends inside a fault."""


@dataclass(frozen=True)
class Spans:
    """Intervals of threads."""

    tid: Ints
    start: Ints
    end: Ints


@dataclass(frozen=True)
class _Steps:
    """What threads did, sorted by (thread, time), in columns as narrow as their numbers allow. `fault`, `map`: which kind of page event;
    `inside`: part of a fault's handling, if one is going on; `reading`: that handling sent a READ or waited for one, for `length` ns."""

    lane: Ints
    time: Ints
    length: Ints
    fault: Bools
    map: Bools
    inside: Bools
    reading: Bools
    file: Ints
    page: Ints
    pages: Ints


def fault_spans(recording: Recording, requests: Requests, waits: Spans, request: Ints) -> Spans:
    """Return when threads of the target were certainly handling a fault on a mount; what they were off the CPU included.

    `waits` are disjoint waits of threads, `request` the FUSE request each was for, -1 for none.
    """
    faults = recording.of(Kind.FAULT)
    if not len(faults):
        return Spans(empty(), empty(), empty())
    tids = np.unique(faults.tid)
    steps = _steps(recording, requests, waits, request, tids)
    first = np.flatnonzero(steps.fault)
    boundary = np.append(np.flatnonzero(~steps.inside), len(steps.time))
    # What follows a fault, up to the next event that is not part of one.
    following = boundary[np.searchsorted(boundary, first, side="right")]
    del boundary
    same_thread = np.append(steps.lane, -1)[following] == steps.lane[first]
    reads = np.flatnonzero(steps.reading)
    has_read = np.searchsorted(reads, following) > np.searchsorted(reads, first + 1)
    reached = _reach(steps, first, following)
    covers = same_thread & _covers(steps, following, first)
    again = same_thread & _same_page(steps, following, first)
    tried = _is_second_try(steps, first)
    ended = has_read & (again | (covers & ~tried))
    end = np.where(ended, np.append(steps.time, 0)[following], reached)
    before = _around(steps, first)
    return Spans(tids[steps.lane[first]], np.where(before >= 0, steps.time[before], steps.time[first]), end)


def _steps(recording: Recording, requests: Requests, waits: Spans, request: Ints, tids: Ints) -> _Steps:
    """Put everything that tells of the threads' faults in one order."""
    parts = [
        *_of_pages(recording, tids),
        *_of_calls(recording, tids),
        _of_sends(recording, tids),
        *_of_sleeps(recording, tids),
        _of_waits(requests, waits, request, tids),
    ]
    table = {name: np.concatenate([part.pop(name) for part in parts]) for name in tuple(parts[0])}
    order = np.lexsort((table["time"], table["lane"]))
    for name in table:  # one by one: a column is there twice for a moment only
        table[name] = table[name][order]
    kind = table.pop("kind")
    return _Steps(
        **{name: column for name, column in table.items() if name not in FLAGS},
        **{name: table[name].astype(bool) for name in FLAGS},
        fault=kind == Kind.FAULT,
        map=kind == Kind.PAGE_MAP,
    )


def _of_pages(recording: Recording, tids: Ints) -> list[dict[str, Ints]]:
    kinds = (Kind.FAULT, Kind.PAGE_MAP, Kind.PAGE_READ)
    files = [numbered(file_key(pages.a, pages.b))[0] for pages in recording.windows(*kinds)]
    known, parts = np.unique(np.concatenate(files)), []
    for pages in recording.windows(*kinds):
        file = np.searchsorted(known, file_key(pages.a, pages.b))
        first, count = first_page(pages.c), page_count(pages.c)
        parts.append(_part(tids, pages.tid, pages.start, kind=pages.kind, file=file, page=first, pages=count))
    return parts


def _of_calls(recording: Recording, tids: Ints) -> tuple[dict[str, Ints], dict[str, Ints]]:
    calls = recording.of(*OUTSIDE)
    return _part(tids, calls.tid, calls.start), _part(tids, calls.tid, calls.end)


def _of_sends(recording: Recording, tids: Ints) -> dict[str, Ints]:
    sends = recording.of(Kind.FUSE_SEND)
    is_read = high_half(sends.c) == Opcode.READ
    return _part(tids, sends.tid, sends.start, inside=is_read, reading=is_read)


def _of_sleeps(recording: Recording, tids: Ints) -> list[dict[str, Ints]]:
    asleep = (off.where((off.c != 0) & ((off.c & UNINTERRUPTIBLE) == 0)) for off in recording.windows(Kind.OFFCPU))
    return [_part(tids, off.tid, off.start) for off in asleep]


def _of_waits(requests: Requests, waits: Spans, request: Ints, tids: Ints) -> dict[str, Ints]:
    reads = (request >= 0) & requests.is_(Opcode.READ)[np.maximum(request, 0)] if len(requests) else request >= 0
    start, end = waits.start[reads], waits.end[reads]
    return _part(tids, waits.tid[reads], start, length=end - start, inside=True, reading=True)


def _part(tids: Ints, tid: Ints, time: Ints, **columns: Ints | Bools | int) -> dict[str, Ints]:
    """Return the steps of the threads `tids` among these, as columns of `_Steps`."""
    lane = np.minimum(np.searchsorted(tids, tid), len(tids) - 1)
    chosen = np.flatnonzero(tids[lane] == tid)
    table = {"lane": narrow(lane[chosen]), "time": time[chosen]}
    for name, value in {**NOTHING, **columns}.items():
        table[name] = narrow(ints(np.broadcast_to(np.asarray(value), tid.shape)[chosen]))
    return table


def _reach(steps: _Steps, first: Ints, following: Ints) -> Ints:
    """Return the end of the last READ sent or waited for after each fault, the fault itself if there is none."""
    signs = np.flatnonzero(steps.reading | steps.fault)
    last = signs[np.searchsorted(signs, following) - 1]
    until = steps.time[last] + np.where(steps.reading[last], ints(steps.length[last]), 0)
    return np.maximum(until, steps.time[first])


def _covers(steps: _Steps, around: Ints, fault: Ints) -> Bools:
    """Tell which steps are a fault-around over the page of a fault."""
    step = np.minimum(around, len(steps.time) - 1)
    behind = steps.page[fault] - steps.page[step]
    maps_file: Bools = steps.map[step] & (steps.file[step] == steps.file[fault]) & (behind >= 0)
    return maps_file & (behind < steps.pages[step])


def _same_page(steps: _Steps, other: Ints, fault: Ints) -> Bools:
    step = np.minimum(other, len(steps.time) - 1)
    same: Bools = steps.fault[step] & (steps.file[step] == steps.file[fault]) & (steps.page[step] == steps.page[fault])
    return same


def _around(steps: _Steps, fault: Ints) -> Ints:
    """Return the fault-around that each fault began with, -1 if it is not the step right before."""
    before = np.maximum(fault - 1, 0)
    is_around = (fault > 0) & (steps.lane[before] == steps.lane[fault]) & _covers(steps, before, fault)
    return np.where(is_around, before, -1)


def _is_second_try(steps: _Steps, fault: Ints) -> Bools:
    """Tell which faults are on the page of the thread's fault before: the kernel does not let go of the mapping twice."""
    same = steps.lane[fault[1:]] == steps.lane[fault[:-1]]
    same &= _same_page(steps, fault[1:], fault[:-1])
    is_second: Bools = np.append(False, same)[: len(fault)]
    return is_second
