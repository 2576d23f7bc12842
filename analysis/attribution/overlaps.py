"""What the classes cannot tell by themselves: time that is only known to lie within a bound, or that has a second cause.

Both are parts of time that is in a class already, and are never added to it.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.path import CriticalPath
from cvtrace.analysis.attribution.waits import Waits
from cvtrace.analysis.contract.classes import OWN_FETCH, Class
from cvtrace.analysis.joins.fetches import Jobs
from cvtrace.analysis.joins.phases import PhaseCalls, Segments
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, Steps, add_by_group, empty, match, overlay, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind


@dataclass(frozen=True)
class Overlaps:
    """Nanoseconds of each interval of a critical path.

    `spin`: of `compute.cpu`, at most so much was spinning for a thread that was blocked on CVMFS (`spins`).
    `starved`: of a wait for CVMFS, so long the client's thread that was at it was ready to run and had no CPU.
    """

    spin: Ints
    starved: Ints


def overlaps(
    recording: Recording, requests: Requests, jobs: Jobs, waits: Waits, path: CriticalPath, of: Segments | PhaseCalls
) -> Overlaps:
    """Measure both on a path through the threads of `of`."""
    return Overlaps(
        spin=_spin(recording, waits, path, of),
        starved=_starved(recording, requests, jobs, path, len(of)),
    )


def _spin(recording: Recording, waits: Waits, path: CriticalPath, of: Segments | PhaseCalls) -> Ints:
    """Return how much of the time of each interval on the CPU may be spinning.

    A thread that spins for another computes nothing, makes no call and touches no new page until that other one gets on. So
    while a thread of the same process is blocked on a FUSE request, the phase's thread spins at most from the last thing
    that was seen of it to the end of that wait.
    """
    blocked = np.flatnonzero(waits.request >= 0)
    if not len(blocked) or not len(of) or not waits.scheduler:
        return np.zeros(len(of), dtype=np.int64)
    tids, tgids = recording.target_threads
    carriers = np.unique(of.thread)
    process = pick(tgids, np.searchsorted(tids, carriers), -1)
    of_wait = pick(tgids, np.searchsorted(tids, waits.tid[blocked]), -2)
    steps = Steps.constant(0)
    lanes = recording.lanes(carriers)
    for thread, tgid in zip(carriers.tolist(), process.tolist(), strict=True):
        other_waits = blocked[(of_wait == tgid) & (waits.tid[blocked] != thread)]
        if not len(other_waits):
            continue
        since = np.maximum(waits.start[other_waits], _last_sign(recording, thread, waits.woken[other_waits]))
        carrier = np.full(len(other_waits), thread, dtype=np.int64)
        steps = overlay(steps, lanes.at(carrier, since), lanes.at(carrier, waits.woken[other_waits]), 1)
    spin = np.zeros(len(of), dtype=np.int64)
    if len(steps.at) > 1:
        for part in path.parts():
            chosen = np.flatnonzero(part.value == Class.COMPUTE_CPU)
            interval, begin = part.of[chosen], part.start[chosen]
            thread = of.thread[interval]
            start, end = lanes.at(thread, begin), lanes.at(thread, begin + part.length[chosen])
            spin += add_by_group(interval, _within(steps, start, end, start >= 0), len(of))
    return spin


def _last_sign(recording: Recording, thread: int, until: Ints) -> Ints:
    """Return when the last thing that a thread did was over, up to each time.

    Being preempted is nothing it does, and when a request of it ends is the daemon's doing. Nor counts what it was in at that
    time: who has spun in vain for a while goes to sleep.
    """
    signs = [empty()]
    for kind, rows in recording.every(thread):
        if kind == Kind.OFFCPU:
            signs.append(rows.end[rows.c != 0])
        else:
            signs.append(rows.start if kind == Kind.FUSE_SEND else rows.end)
    times = np.sort(np.concatenate(signs), kind="stable")
    return pick(times, np.searchsorted(times, until, side="right") - 1, recording.start_ns)


def _within(steps: Steps, start: Ints, end: Ints, chosen: Bools) -> Ints:
    """Return for each chosen interval how long the steps are 1 in it, 0 for the others."""
    total = np.zeros(len(start), dtype=np.int64)
    places = np.flatnonzero((start >= 0) & chosen)
    if len(steps.at) > 1 and len(places):
        before = np.append(0, np.cumsum(steps.value[:-1] * np.diff(steps.at)))
        total[places] = _until(steps, before, end[places]) - _until(steps, before, start[places])
    return total


def _until(steps: Steps, before: Ints, position: Ints) -> Ints:
    """Return how long steps of 0 and 1 are 1 before each position; `before` is that of each step's begin."""
    place = np.searchsorted(steps.at, position, side="right") - 1
    total: Ints = before[place] + steps.value[place] * (position - steps.at[place])
    return total


def _starved(recording: Recording, requests: Requests, jobs: Jobs, path: CriticalPath, intervals: int) -> Ints:
    """Return how long, of each interval, the thread of the client that was at it was ready to run without a CPU.

    The scheduler counts such a thread as off the CPU but not blocked: preempted, or woken and not on a CPU yet.
    """
    off = recording.of(Kind.OFFCPU)
    off = off.where(np.isin(off.tgid, recording.daemon_pids))
    lanes = recording.lanes(off.tid)
    ready = np.where(off.c == 0, off.start, np.where(off.a > 0, np.clip(off.a, off.start, off.end), off.end))
    steps = overlay(Steps.constant(0), lanes.at(off.tid, ready), lanes.at(off.tid, off.end), 1)
    starved = np.zeros(intervals, dtype=np.int64)
    for part in path.parts():
        waiting = np.flatnonzero(part.request >= 0)
        thread, begin = _of_client(requests, jobs, part.request[waiting], part.value[waiting]), part.start[waiting]
        start, end = lanes.at(thread, begin), lanes.at(thread, begin + part.length[waiting])
        starved += add_by_group(part.of[waiting], _within(steps, start, end, thread >= 0), intervals)
    return starved


def _of_client(requests: Requests, jobs: Jobs, request: Ints, value: Ints) -> Ints:
    """Return the thread of the client that is at each piece of a wait."""
    downloading = np.isin(value, OWN_FETCH)
    downloader = pick(jobs.downloader, match(jobs.request, request), -1)
    return np.where(downloading, downloader, pick(requests.worker, request, -1))
