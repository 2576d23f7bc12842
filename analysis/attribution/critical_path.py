"""Every nanosecond of the target's threads into exactly one class: the critical path.

A thread's lane is painted from the bottom up: on a CPU; in a call on CVMFS pages; off the CPU and why. A wait for a FUSE
request becomes what the daemon did for that request; a wait for another thread of the target, of the same process or of another one,
becomes what that thread did meanwhile, a few threads deep.
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from cvtrace.analysis.attribution.waits import Waits
from cvtrace.analysis.contract.classes import GROUPS, MEMBERS, Class, GroupSeconds
from cvtrace.analysis.joins.phases import PhaseCalls, Segments
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, Lanes, Pieces, Steps, cut, match, overlay, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind

DEPTH: Final = 6
"""Threads that a wait is followed through; what lies deeper keeps the class of the call it is in."""
ANCESTORS: Final = 3
"""Makers of threads that are looked for, one before the other."""

_AS_WAITED_FOR: Final = np.array(
    [Class.COMPUTE_WAIT if member is Class.COMPUTE_CPU else member for member in Class], dtype=np.int64
)
_CLASSES: Final = len(Class)


def packed(value: Class | Ints, request: Ints | int = -1) -> Ints:
    """Put a class and the request it belongs to (-1: none) into one number."""
    return np.asarray((np.asarray(request, dtype=np.int64) + 1) * _CLASSES + np.asarray(value, dtype=np.int64))


@dataclass(frozen=True)
class CriticalPath:
    """The critical path: pieces of intervals, without gap.

    `of` numbers the interval that a piece is of, `value` is a `Class`, `request` the FUSE request waited for, -1 if none.
    """

    of: Ints
    start: Ints
    end: Ints
    value: Ints
    request: Ints

    @property
    def length(self) -> Ints:
        return self.end - self.start


@dataclass(frozen=True)
class Threads:
    """What every thread of the target did at every moment: a function over `lanes`, one lane for each thread (tid)."""

    lanes: Lanes
    steps: Steps

    def between(self, tid: Ints, start: Ints, end: Ints) -> CriticalPath:
        """Return the pieces of intervals, each of one thread; `of` numbers the interval."""
        pieces = cut(self.steps, self.lanes.at(tid, start), self.lanes.at(tid, end))
        begin = self.lanes.time(pieces.start)
        return CriticalPath(
            of=pieces.which,
            start=begin,
            end=begin + (pieces.end - pieces.start),
            value=pieces.value % _CLASSES,
            request=pieces.value // _CLASSES - 1,
        )


def critical_paths(
    recording: Recording, requests: Requests, workers: Steps, waits: Waits, life: Segments, calls: PhaseCalls
) -> tuple[CriticalPath, CriticalPath, Threads]:
    """Paint the target's threads; read off those that carry the segments of its life, and those that made the calls."""
    threads = [recording.target_threads[0], life.thread, calls.thread]
    lanes = recording.lanes(np.unique(np.concatenate(threads)))
    steps = thread_steps(requests, workers, waits, lanes, recording.sees_requests, unknown_tails(recording))
    threads_of_target = Threads(lanes, steps)
    of_life = threads_of_target.between(life.thread, life.start, life.end)
    return of_life, threads_of_target.between(calls.thread, calls.start, calls.end), threads_of_target


def unknown_tails(recording: Recording) -> tuple[Ints, Ints] | None:
    """Return since when nothing is known of each thread of the target: (tid, time), None in a finished recording.

    A call, and an absence from the CPU, is one record at its end. Where a recording was cut off, those under way are not in it.
    That a FUSE request has ended is the daemon's doing, and tells nothing of the thread that sent it.
    """
    if recording.meta.get("finished", True) and not recording.damage:
        return None
    threads = recording.target_threads[0]
    known = np.full(len(threads), recording.start_ns, dtype=np.int64)
    of_target = recording.is_target_thread(recording.all.tid)
    sign = np.where(recording.all.kind == Kind.FUSE_SEND, recording.all.start, recording.all.end)
    np.maximum.at(known, np.searchsorted(threads, recording.all.tid[of_target]), sign[of_target])
    return threads, known


def thread_steps(
    requests: Requests,
    workers: Steps,
    waits: Waits,
    lanes: Lanes,
    sees_requests: bool = True,
    unknown: tuple[Ints, Ints] | None = None,
) -> Steps:
    """Return class and request (`packed`) of every moment of every thread of the target.

    A thread that waits for nothing computes, as far as the recording can tell. It cannot tell where the probe sees no requests (`sees_requests`),
    nor after `unknown` (tid, time) in a recording that was cut off: that time is unattributed.
    """
    steps = Steps.constant(int(packed(Class.COMPUTE_CPU if sees_requests else Class.UNATTRIBUTED)))
    if unknown is not None:
        tid, since = unknown
        known = lanes.rank(tid) >= 0
        tid, since = tid[known], since[known]
        until = np.full(len(tid), lanes.start_ns + lanes.span_ns - 1, dtype=np.int64)
        steps = overlay(steps, lanes.at(tid, since), lanes.at(tid, until), int(packed(Class.UNATTRIBUTED)))
    for rows, busy in waits.busy:
        steps = overlay(steps, lanes.at(rows.tid, rows.start), lanes.at(rows.tid, rows.end), int(packed(busy)))
    for_request = waits.request >= 0
    start, end = lanes.at(waits.tid, waits.start), lanes.at(waits.tid, waits.end)
    woken = lanes.at(waits.tid, waits.woken)
    steps = overlay(steps, start, woken, packed(waits.value))
    late = np.where(for_request, int(Class.CACHE_TRANSPORT), int(Class.COMPUTE_WAIT))
    steps = overlay(steps, woken, end, packed(late, np.where(for_request, waits.request, -1)))
    lives = _lives(requests, workers, waits, np.flatnonzero(for_request), torn=unknown is not None)
    shift = start[lives.which] - waits.start[lives.which]
    steps = overlay(steps, lives.start + shift, lives.end + shift, lives.value)
    waiter, whom, since, until = _followed(waits)
    at_waiter, at_followed, until_followed = lanes.at(waiter, since), lanes.at(whom, since), lanes.at(whom, until)
    valid = (at_followed >= 0) & (at_waiter >= 0)
    at_waiter, at_followed, until_followed = at_waiter[valid], at_followed[valid], until_followed[valid]
    for _ in range(DEPTH if len(at_waiter) else 0):
        pieces = cut(steps, at_followed, until_followed)
        back = at_waiter[pieces.which] - at_followed[pieces.which]
        value = packed(_AS_WAITED_FOR[pieces.value % _CLASSES], pieces.value // _CLASSES - 1)
        before, steps = steps, overlay(steps, pieces.start + back, pieces.end + back, value)
        if np.array_equal(before.at, steps.at) and np.array_equal(before.value, steps.value):
            break
    return steps


def _followed(waits: Waits) -> tuple[Ints, Ints, Ints, Ints]:
    """Return which threads are followed: waiter, whom it waits for, from when, until when.

    A thread that is younger than the wait that it ends did nothing before it was made: who waits for it waits for its maker until then.
    """
    chosen = np.flatnonzero(waits.follow >= 0)
    parts = [(waits.tid[chosen], waits.follow[chosen], waits.start[chosen], waits.woken[chosen])]
    whom, since = parts[0][1], parts[0][2]
    for _ in range(ANCESTORS):
        birth = match(waits.births[0], whom)
        young = pick(waits.births[1], birth, 0) > since
        if not young.any():
            break
        child, which = np.unique(whom[young], return_inverse=True)
        first = np.full(len(child), np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(first, which.ravel(), since[young])
        birth = match(waits.births[0], child)
        maker, born = waits.births[2][birth], waits.births[1][birth]
        parts.append((child, maker, first, born))
        whom, since = maker, first
    waiter, followed, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    return waiter, followed, start, end


def _lives(requests: Requests, workers: Steps, waits: Waits, wait: Ints, torn: bool) -> Pieces:
    """Cut waits for requests (by index) at what happened to the request: transport, the worker's doing, transport.

    In a `torn` recording, what the worker did may be missing.
    """
    request = waits.request[wait]
    start, end = waits.start[wait], waits.woken[wait]
    worker = requests.worker[request]
    received = np.where(worker >= 0, np.clip(requests.received[request], start, end), end)
    replied = np.where(worker >= 0, np.clip(requests.replied[request], received, end), end)
    lanes = requests.lanes
    served = cut(workers, lanes.at(worker, received), np.where(worker >= 0, lanes.at(worker, replied), -1))
    served_start = lanes.time(served.start)
    unserved = np.where(torn & (worker < 0), int(Class.UNATTRIBUTED), int(Class.CACHE_TRANSPORT))
    transport = packed(unserved, request)
    return Pieces(
        which=np.concatenate([wait, wait[served.which], wait]),
        start=np.concatenate([start, served_start, replied]),
        end=np.concatenate([received, served_start + (served.end - served.start), end]),
        value=np.concatenate([transport, packed(served.value, request[served.which]), transport]),
    )


def class_times(path: CriticalPath, group: Ints, groups: int) -> Ints:
    """Add up nanoseconds by (group, class): an array of shape (groups, classes). `group` has one entry per piece."""
    chosen = group >= 0
    key = group[chosen] * _CLASSES + path.value[chosen]
    total = np.bincount(key, weights=path.length[chosen], minlength=groups * _CLASSES)
    return total.astype(np.int64).reshape(groups, _CLASSES)


def group_seconds(times: Ints) -> GroupSeconds:
    """Return the seconds of each group, from one row of `class_times`."""
    return cast("GroupSeconds", {f"{group}_s": int(times[list(MEMBERS[group])].sum()) / 1e9 for group in GROUPS})
