"""Every nanosecond of the target's threads into exactly one class: the critical path.

A thread's lane is painted from the bottom up: on a CPU; in a call on CVMFS pages; off the CPU and why. A wait for a FUSE
request becomes what the daemon did for that request; a wait for another thread of the target, of the same process or of another one,
becomes what that thread did meanwhile, a few threads deep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.layers import Layer, LayerSweep, Sweep, Window, window_edges, windows_between
from cvtrace.analysis.attribution.path import CLASSES, CriticalPath, PathPieces, packed
from cvtrace.analysis.attribution.waits import Waits
from cvtrace.analysis.attribution.workers import Workers, WorkersSweep
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.joins.phases import PhaseCalls, Segments
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Ints, Lanes, Pieces, Steps, cut, match, narrow, overlay, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind
from cvtrace.tracer.columns import Packed
from cvtrace.tracer.scratch import Scratch

DEPTH: Final = 6
"""Threads that a wait is followed through; what lies deeper keeps the class of the call it is in."""
ANCESTORS: Final = 3
"""Makers of threads that are looked for, one before the other."""

_AS_WAITED_FOR: Final = np.array(
    [Class.COMPUTE_WAIT if member is Class.COMPUTE_CPU else member for member in Class], dtype=np.int64
)


@dataclass(frozen=True)
class Painted:
    """What every thread did in a window: a step function, held as lanes, times since the window's begin, and values."""

    window: Window
    lane: Packed
    since: Packed
    value: Packed
    count: int

    @classmethod
    def of(cls, window: Window, lanes: Lanes, steps: Steps, scratch: Scratch) -> "Painted":
        differs = np.append(True, steps.value[1:] != steps.value[:-1])
        at = steps.at[differs]
        since = lanes.time(at) - window.start_ns
        since[0] = 0  # the begin of the axis: nothing before the window is looked for
        lane, times, value = (
            Packed.of(column, scratch) for column in (at // lanes.span_ns, since, steps.value[differs])
        )
        return cls(window, lane, times, value, len(at))

    def steps(self, lanes: Lanes) -> Steps:
        since = self.since.unpacked(self.count) + (self.window.start_ns - lanes.start_ns)
        return Steps(self.lane.unpacked(self.count) * lanes.span_ns + since, self.value.unpacked(self.count))


@dataclass(frozen=True)
class Threads:
    """What every thread of the target did at every moment: a function over `lanes`, one lane for each thread (tid), by windows."""

    lanes: Lanes
    windows: tuple[Painted, ...]
    scratch: Scratch

    def between(self, tid: Ints, start: Ints, end: Ints) -> CriticalPath:
        """Return the pieces of intervals, each of one thread; `of` numbers the interval."""
        pieces = PathPieces(self.lanes, self.scratch, tid, start, end)
        for painted in self.windows:
            pieces.add(painted.window, painted.steps(self.lanes))
        return pieces.path()


def critical_paths(
    recording: Recording, requests: Requests, workers: Workers, waits: Waits, life: Segments, calls: PhaseCalls
) -> tuple[CriticalPath, CriticalPath, Threads]:
    """Paint the target's threads; read off those that carry the segments of its life, and those that made the calls."""
    threads = [recording.target_threads[0], life.thread, calls.thread]
    lanes = recording.lanes(np.unique(np.concatenate(threads)))
    sweep = _ThreadsSweep(requests, workers, waits, lanes, recording.sees_requests, unknown_tails(recording))
    scratch = recording.columns.scratch
    of_life, of_calls = (PathPieces(lanes, scratch, each.thread, each.start, each.end) for each in (life, calls))
    windows = []
    for window in windows_between(window_edges(recording, lanes)):
        steps = sweep.steps(window)
        of_life.add(window, steps)
        of_calls.add(window, steps)
        windows.append(Painted.of(window, lanes, steps, scratch))
    return of_life.path(), of_calls.path(), Threads(lanes, tuple(windows), scratch)


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
            lambda value: packed(_AS_WAITED_FOR[value % CLASSES], value // CLASSES - 1),
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
