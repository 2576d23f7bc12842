"""Every nanosecond of the target's threads into exactly one class: the critical path.

A thread's lane is painted from the bottom up: on a CPU; in a call on CVMFS pages; off the CPU and why. A wait for a FUSE
request becomes what the daemon did for that request; a wait for another thread of the target, of the same process or of another one,
becomes what that thread did meanwhile, a few threads deep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from cvtrace.analysis.attribution.layers import Layer, LayerSweep, Sweep, Window, window_edges, windows_between
from cvtrace.analysis.attribution.waits import Waits
from cvtrace.analysis.attribution.workers import Workers, WorkersSweep
from cvtrace.analysis.contract.classes import GROUPS, MEMBERS, Class, GroupSeconds
from cvtrace.analysis.joins.phases import PhaseCalls, Segments
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, Lanes, Pieces, Steps, cut, empty, ints, match, narrow, overlay, pick
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
    """The critical path: pieces of intervals, without gap, in the order of the intervals and of time.

    `of` numbers the interval that a piece is of, `value` is a `Class`, `request` the FUSE request waited for, -1 if none. Two pieces that
    follow each other differ in class or request. The columns are held as narrow as their numbers allow, and made wide when they are read.
    """

    _of: Ints
    _value: Ints
    _request: Ints
    _lengths: Ints
    _begin: Ints
    """When the first piece of each interval begins."""

    @property
    def of(self) -> Ints:
        return ints(self._of)

    @property
    def value(self) -> Ints:
        return ints(self._value)

    @property
    def request(self) -> Ints:
        return ints(self._request)

    @property
    def length(self) -> Ints:
        return ints(self._lengths)

    def lengths(self, pieces: Ints) -> Ints:
        """Return the lengths of some pieces."""
        return ints(self._lengths[pieces])

    @property
    def start(self) -> Ints:
        of = self._of
        before = np.append(0, np.cumsum(self._lengths, dtype=np.int64)[:-1])[: len(of)]
        first = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: len(of)])
        shift = np.zeros(len(self._begin), dtype=np.int64)
        shift[of[first]] = self._begin[of[first]] - before[first]
        return before + shift[of]

    @property
    def end(self) -> Ints:
        return self.start + self._lengths


@dataclass(frozen=True)
class Painted:
    """What every thread did in a window: a step function, held as lanes, times since the window's begin, and values."""

    window: Window
    lane: Ints
    since: Ints
    value: Ints

    @classmethod
    def of(cls, window: Window, lanes: Lanes, steps: Steps) -> "Painted":
        differs = np.append(True, steps.value[1:] != steps.value[:-1])
        at = steps.at[differs]
        since = lanes.time(at) - window.start_ns
        since[0] = 0  # the begin of the axis: nothing before the window is looked for
        return cls(window, narrow(at // lanes.span_ns), narrow(since), narrow(steps.value[differs]))

    def steps(self, lanes: Lanes) -> Steps:
        since = ints(self.since) + (self.window.start_ns - lanes.start_ns)
        return Steps(ints(self.lane) * lanes.span_ns + since, ints(self.value))


@dataclass(frozen=True)
class Threads:
    """What every thread of the target did at every moment: a function over `lanes`, one lane for each thread (tid), by windows."""

    lanes: Lanes
    windows: tuple[Painted, ...]

    def between(self, tid: Ints, start: Ints, end: Ints) -> CriticalPath:
        """Return the pieces of intervals, each of one thread; `of` numbers the interval."""
        pieces = _PathPieces(self.lanes, tid, start, end)
        for painted in self.windows:
            pieces.add(painted.window, painted.steps(self.lanes))
        return pieces.path()


class _PathPieces:
    """Gathers the pieces of intervals, window by window."""

    def __init__(self, lanes: Lanes, tid: Ints, start: Ints, end: Ints) -> None:
        self._lanes, self._rank = lanes, lanes.rank(tid)
        self._start = lanes.time(lanes.at_rank(0 * self._rank, start))
        self._end = lanes.time(lanes.at_rank(0 * self._rank, end))
        self._parts: list[tuple[Ints, Ints, Ints]] = [(empty(), empty(), empty())]

    def add(self, window: Window, steps: Steps) -> None:
        """Cut what of the intervals lies in the window."""
        begin, end = np.maximum(self._start, window.start_ns), np.minimum(self._end, window.end_ns)
        chosen = np.flatnonzero((self._rank >= 0) & (end > begin))
        rank, lanes = self._rank[chosen], self._lanes
        pieces = cut(steps, lanes.at_rank(rank, begin[chosen]), lanes.at_rank(rank, end[chosen]))
        self._parts.append(_joined(chosen[pieces.which], pieces.value, pieces.end - pieces.start))

    def path(self) -> CriticalPath:
        """Return the pieces in order, joined where an interval goes on over the end of a window."""
        which, value, length = (np.concatenate(column) for column in zip(*self._parts[1:] or self._parts, strict=True))
        self._parts.clear()
        if not bool((which[1:] >= which[:-1]).all()):
            order = np.argsort(which, kind="stable")
            which, value, length = _joined(which[order], value[order], length[order])
        value = ints(value)
        return CriticalPath(which, narrow(value % _CLASSES), narrow(value // _CLASSES - 1), length, self._start)


def _joined(which: Ints, value: Ints, length: Ints) -> tuple[Ints, Ints, Ints]:
    """Make one of pieces that follow each other in an interval and have the same value; return narrow columns."""
    differs = np.append(True, (which[1:] != which[:-1]) | (value[1:] != value[:-1]))[: len(which)]
    first = np.flatnonzero(differs)
    total = np.add.reduceat(length, first, dtype=np.int64) if len(first) else empty()
    return narrow(which[first]), narrow(value[first]), narrow(total)


def critical_paths(
    recording: Recording, requests: Requests, workers: Workers, waits: Waits, life: Segments, calls: PhaseCalls
) -> tuple[CriticalPath, CriticalPath, Threads]:
    """Paint the target's threads; read off those that carry the segments of its life, and those that made the calls."""
    threads = [recording.target_threads[0], life.thread, calls.thread]
    lanes = recording.lanes(np.unique(np.concatenate(threads)))
    sweep = _ThreadsSweep(requests, workers, waits, lanes, recording.sees_requests, unknown_tails(recording))
    of_life, of_calls = (_PathPieces(lanes, each.thread, each.start, each.end) for each in (life, calls))
    windows = []
    for window in windows_between(window_edges(recording, lanes)):
        steps = sweep.steps(window)
        of_life.add(window, steps)
        of_calls.add(window, steps)
        windows.append(Painted.of(window, lanes, steps))
    return of_life.path(), of_calls.path(), Threads(lanes, tuple(windows))


def unknown_tails(recording: Recording) -> tuple[Ints, Ints] | None:
    """Return since when nothing is known of each thread of the target: (tid, time), None in a finished recording.

    A call, and an absence from the CPU, is one record at its end. Where a recording was cut off, those under way are not in it.
    That a FUSE request has ended is the daemon's doing, and tells nothing of the thread that sent it.
    """
    if recording.meta.get("finished", True) and not recording.damage:
        return None
    threads = recording.target_threads[0]
    known = np.full(len(threads), recording.start_ns, dtype=np.int64)
    seen = recording.threads
    of_target = recording.is_target_thread(seen.tid)
    sign = np.where(seen.kind == Kind.FUSE_SEND, seen.last_start, seen.last)
    np.maximum.at(known, np.searchsorted(threads, seen.tid[of_target]), sign[of_target])
    return threads, known


class _ThreadsSweep:
    """Paints class and request (`packed`) of every moment of every thread of the target, window by window.

    A thread that waits for nothing computes, as far as the recording can tell. It cannot tell where the probe sees no requests (`sees_requests`),
    nor after `unknown` (tid, time) in a recording that was cut off: that time is unattributed.
    """

    def __init__(
        self,
        requests: Requests,
        workers: Workers,
        waits: Waits,
        lanes: Lanes,
        sees_requests: bool,
        unknown: tuple[Ints, Ints] | None,
    ) -> None:
        self._requests, self._waits, self._lanes = requests, waits, lanes
        self._workers, self._torn = WorkersSweep(workers), unknown is not None
        self._otherwise = int(packed(Class.COMPUTE_CPU if sees_requests else Class.UNATTRIBUTED))
        layers = []
        if unknown is not None:
            until = np.full(len(unknown[0]), lanes.start_ns + lanes.span_ns - 1, dtype=np.int64)
            layers.append(Layer(*unknown, until, int(packed(Class.UNATTRIBUTED))))
        layers += [Layer(rows.tid, rows.start, rows.end, int(packed(busy))) for rows, busy in waits.busy]
        layers.append(Layer(waits.tid, waits.start, waits.woken, narrow(packed(waits.value))))
        late = np.where(waits.request >= 0, int(Class.CACHE_TRANSPORT), int(Class.COMPUTE_WAIT))
        layers.append(Layer(waits.tid, waits.woken, waits.end, narrow(packed(late, waits.request))))
        self._layers = [LayerSweep(layer) for layer in layers]
        self._for_request = np.flatnonzero(waits.request >= 0)
        self._served = Sweep(waits.start[self._for_request], waits.woken[self._for_request])
        self._followed = followed_threads(waits)
        self._follows = Sweep(self._followed[2], self._followed[3])

    def steps(self, window: Window) -> Steps:
        """Return the steps of a window; those before and after it mean nothing."""
        steps = Steps.constant(self._otherwise)
        for layer in self._layers:
            steps = layer.paint(steps, self._lanes, window)
        wait = self._for_request[self._served.until(window.end_ns, last=window.last)]
        lives = _lives(self._requests, self._workers.steps(window), self._waits, wait, window, torn=self._torn)
        steps = window.paint(steps, self._lanes, self._waits.tid[lives.which], lives.start, lives.end, lives.value)
        return self._as_followed(steps, window)

    def _as_followed(self, steps: Steps, window: Window) -> Steps:
        chosen, lanes = self._follows.until(window.end_ns, last=window.last), self._lanes
        waiter, whom, since, until = (column[chosen] for column in self._followed)
        since, until = np.maximum(since, window.start_ns), np.minimum(until, window.end_ns)
        return as_followed(
            steps,
            lanes,
            (waiter, whom, since, until),
            lambda value: packed(_AS_WAITED_FOR[value % _CLASSES], value // _CLASSES - 1),
        )


def as_followed(
    steps: Steps, lanes: Lanes, whom: tuple[Ints, Ints, Ints, Ints], as_waited_for: Callable[[Ints], Ints]
) -> Steps:
    """Put what a thread of the target did where another one waits for it; `whom` are `followed_threads`, `as_waited_for` turns values of
    the one into those of the other."""
    waiter, thread, since, until = whom
    at_waiter, at_followed, until_followed = lanes.at(waiter, since), lanes.at(thread, since), lanes.at(thread, until)
    valid = (at_followed >= 0) & (at_waiter >= 0) & (until > since)
    at_waiter, at_followed, until_followed = at_waiter[valid], at_followed[valid], until_followed[valid]
    for _ in range(DEPTH if len(at_waiter) else 0):
        pieces = cut(steps, at_followed, until_followed)
        back = at_waiter[pieces.which] - at_followed[pieces.which]
        before = steps
        steps = overlay(steps, pieces.start + back, pieces.end + back, as_waited_for(pieces.value))
        if np.array_equal(before.at, steps.at) and np.array_equal(before.value, steps.value):
            break
    return steps


def followed_threads(waits: Waits) -> tuple[Ints, Ints, Ints, Ints]:
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


def _lives(requests: Requests, workers: Steps, waits: Waits, wait: Ints, window: Window, torn: bool) -> Pieces:
    """Cut waits for requests into three parts each: transport to the worker, what the worker does, transport back.

    `wait` has their indices. Only what lies in the window counts. In a `torn` recording, what the worker did may be missing.
    """
    request = waits.request[wait]
    start, end = waits.start[wait], waits.woken[wait]
    worker = requests.worker[request]
    received = np.where(worker >= 0, np.clip(requests.received[request], start, end), end)
    replied = np.where(worker >= 0, np.clip(requests.replied[request], received, end), end)
    start, received, replied, end = (
        np.clip(time, window.start_ns, window.end_ns) for time in (start, received, replied, end)
    )
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
