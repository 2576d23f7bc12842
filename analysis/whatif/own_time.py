"""What reading from the client costs the target's own CPUs, beside the waits: what would be gone if its pages were there.

Two costs, both measured in the trace itself:

filling   the kernel's work in the target for pages that are not in the page cache: it allocates pages, puts them into the page cache,
          sends the READs, and after the reply finds the page again. What a page that is there costs (copying it, mapping it with its
          neighbours) is not in it, but for faults that would not be there at all (extra_faults.py).
ousted    the target could run, and had no CPU because a thread of the client was on it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.critical_path import as_followed, followed_threads
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.joins.faults import Spans
from cvtrace.analysis.trace.intervals import (
    Ints,
    Lanes,
    Steps,
    add_by_group,
    cut,
    empty,
    latest,
    match,
    overlay,
    pick,
)
from cvtrace.analysis.trace.recording import Rows
from cvtrace.analysis.whatif.extra_faults import is_extra
from cvtrace.probes.events import Kind, Opcode

NOTHING, FILLING, OUSTED, OUSTED_BY_DOWNLOAD = range(4)
HANDOVERS: Final = 4
"""Threads of the client that are followed, each of which had the CPU before the next."""


@dataclass(frozen=True)
class OwnTime:
    """Nanoseconds of the critical path by phase (row)."""

    filling: Ints
    ousted: Ints
    """By any thread of a client."""
    ousted_by_download: Ints
    """By a thread of a client that receives and unpacks: part of `ousted`."""


def own_time(study: Study) -> OwnTime:
    """Measure what the target's CPUs did for reading, and what they could not do for it, on the critical path."""
    lanes, waits, path = study.threads.lanes, study.waits, study.critical_path
    steps = Steps.constant(NOTHING)
    closers = _closers(study, lanes)
    filling = ((_of_faults(study, closers), FILLING), (_of_calls(study, closers), FILLING))
    for spans, value in (*filling, *_ousted(study)):
        steps = overlay(steps, lanes.at(spans.tid, spans.start), lanes.at(spans.tid, spans.end), value)
    steps = as_followed(steps, lanes, followed_threads(waits), lambda value: value)
    total = np.zeros((3, len(study.phases.names)), dtype=np.int64)
    for part in path.parts():
        chosen = np.flatnonzero((part.value == Class.CACHE_PAGE) | (part.value == Class.COMPUTE_WAIT))
        of, start = part.of[chosen], part.start[chosen]
        thread = study.segments.thread[of]
        pieces = cut(steps, lanes.at(thread, start), lanes.at(thread, start + part.length[chosen]))
        row, length = study.segments.row[of][pieces.which], pieces.end - pieces.start
        without_cpu = part.value[chosen][pieces.which] == Class.COMPUTE_WAIT
        by_download = pieces.value == OUSTED_BY_DOWNLOAD
        for sums, counts in zip(
            total,
            (
                ~without_cpu & (pieces.value == FILLING),
                without_cpu & (by_download | (pieces.value == OUSTED)),
                without_cpu & by_download,
            ),
            strict=True,
        ):
            sums += add_by_group(np.where(counts, row, -1), length, len(sums))
    return OwnTime(filling=total[0], ousted=total[1], ousted_by_download=total[2])


def _busy(study: Study) -> tuple[Spans, Rows]:
    """Return the page faults, and the calls on files of a mount."""
    faults = next((each for each, _ in study.waits.busy if isinstance(each, Spans)), Spans(empty(), empty(), empty()))
    calls = [each for each, value in study.waits.busy if isinstance(each, Rows) and value is Class.CACHE_PAGE]
    return faults, calls[0] if calls else study.calls.rows.where(empty())


def _closers(study: Study, lanes: Lanes) -> Ints:
    """Return the places, sorted, at which filling goes on: READs that threads sent, and ends of their waits for one."""
    requests, waits = study.requests, study.waits
    reads = requests.is_(Opcode.READ) & requests.by_target
    for_read = pick(reads.astype(np.int64), waits.request, 0) == 1
    sent = lanes.at(requests.asker[reads], requests.sent[reads])
    places = np.concatenate([sent, lanes.at(waits.tid[for_read], waits.end[for_read])])
    return np.sort(places[places >= 0])


def _of_faults(study: Study, closers: Ints) -> Spans:
    """Return faults that read, up to the last READ sent or waited for: what follows, mapping the page, is done for every fault.

    Faults that would not be there with all pages in memory are returned whole.
    """
    faults, _ = _busy(study)
    lanes = study.threads.lanes
    start, end = lanes.at(faults.tid, faults.start), lanes.at(faults.tid, faults.end)
    last = pick(closers, latest(closers, end), -1)
    reading = (last > start) & (start >= 0)
    until = np.where(is_extra(study.recording, lanes, faults), faults.end, lanes.time(last))
    return Spans(faults.tid[reading], faults.start[reading], until[reading])


def _of_calls(study: Study, closers: Ints) -> Spans:
    """Return what read() did for pages that were not there: from the readahead to the last READ sent or waited for, again and again.

    In between it copies what is there. The kernel tells when it has a piece to copy (PAGE_READ).
    """
    lanes, recording = study.threads.lanes, study.recording
    _, calls = _busy(study)
    calls = calls.where(calls.kind == Kind.SYS_READ)
    begin, end = lanes.at(calls.tid, calls.start), lanes.at(calls.tid, calls.end)
    pages, ahead = recording.of(Kind.PAGE_READ), recording.of(Kind.READAHEAD)
    openers = np.sort(np.concatenate([closers, lanes.at(ahead.tid, ahead.start)]))
    order = np.argsort(begin, kind="stable")
    call = latest(begin[order], openers)
    openers = openers[(pick(begin[order], call, -1) >= 0) & (openers < pick(end[order], call, -1))]
    barriers = np.sort(np.concatenate([begin, end, lanes.at(pages.tid, pages.start)]))
    turn = np.searchsorted(barriers, openers, side="right")
    first = np.flatnonzero(np.append(True, turn[1:] != turn[:-1])[: len(turn)])
    last = pick(closers, latest(closers, pick(barriers, turn[first], np.iinfo(np.int64).max)), -1)
    opened = openers[first]
    filled = last > opened
    tid = lanes.keys[opened[filled] // lanes.span_ns]
    return Spans(tid, lanes.time(opened[filled]), lanes.time(last[filled]))


def _ousted(study: Study) -> list[tuple[Spans, int]]:
    """Return when threads of the target could run, while the CPU that they then got was with a thread of the client.

    One record of the scheduler's ends a thread's absence and begins that of the thread before it on that CPU, at the same time.
    """
    waits, recording = study.waits, study.recording
    off = recording.of(Kind.OFFCPU)
    off = off.where(~recording.is_target_thread(off.tid))
    order = np.lexsort((off.start, off.tid))
    left, tid = off.start[order], off.tid[order]
    same = np.append(False, tid[1:] == tid[:-1])[: len(tid)]
    came = np.where(same, np.append(0, off.end[order][:-1])[: len(tid)], recording.start_ns)
    seen = recording.threads
    is_download = np.isin(tid, seen.tid[np.isin(seen.kind, (Kind.HTTP_SEND, Kind.HTTP_RECV))])
    late = np.flatnonzero(waits.end > waits.woken)
    until, parts = waits.end[late], []
    for _ in range(HANDOVERS):
        who = match(left, until)
        known = (who >= 0) & (until > waits.woken[late])
        late, who, until = late[known], who[known], until[known]
        if not len(late):
            break
        since = np.maximum(came[who], waits.woken[late])
        for chosen, value in ((is_download[who], OUSTED_BY_DOWNLOAD), (~is_download[who], OUSTED)):
            parts.append((Spans(waits.tid[late][chosen], since[chosen], until[chosen]), value))
        until = since
    return parts
