"""What the target's threads wait for whenever they are off the CPU, and the calls that keep them busy on CVMFS pages."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.joins.faults import Spans, fault_spans
from cvtrace.analysis.joins.paths import Calls, enclosing_call
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.joins.unobserved_requests import UnobservedRequests, waited_for
from cvtrace.analysis.trace.intervals import Bools, Ints, disjoint, match, pick
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind
from cvtrace.tracer.allocator import give_back

UNINTERRUPTIBLE: Final = 2

# Numbers of x86-64; probes on other machines translate.
SLEEPS: Final = (7, 23, 34, 35, 56, 58, 61, 128, 130, 230, 232, 247, 270, 271, 281, 435, 441)
"""poll, select, pause, nanosleep, clone and vfork (until the child has executed), wait4, sigtimedwait, sigsuspend, clock_nanosleep, …"""
BY_THE_CLOCK: Final = (35, 230)
"""nanosleep, clock_nanosleep: no thread ends them but by a signal."""
POLLS: Final = (7, 23, 208, 232, 270, 271, 281, 333, 441)
"""poll and its kin, which return 0 if their time is over."""
EXPIRED: Final = (-11, -62, -110)
"""EAGAIN, ETIME, ETIMEDOUT of the others."""
LOCKS: Final = (65, 202, 220, 449, 455)
"""semop, futex, semtimedop, futex_waitv, futex_wait."""
TRANSFERS: Final = (
    1, 18, 20, 40, 42, 43, 44, 45, 46, 47, 69, 70, 73, 74, 75, 162, 187, 208, 209, 221, 242, 243, 275, 288, 299, 307, 310, 326, 328,
    333, 426,
)  # fmt: skip
"""write and its kin, sendfile, connect, accept, send, recv, messages, flock, fsync, sync, readahead, io_submit, io_uring_enter, …"""


@dataclass(frozen=True)
class Waits:
    """When threads of the target were off the CPU, disjoint per thread: blocked in [start, woken], then runnable to `end`.

    `value` is the class of the blocked part where neither `request` (the FUSE request waited for) nor `follow` (the
    thread of the target waited for, of the same process or of another) is known, -1 both. `busy` are calls and page faults with the class of the
    time they take on the CPU. `scheduler` tells whether the waits were seen, or put together from requests and calls.
    """

    tid: Ints
    start: Ints
    woken: Ints
    end: Ints
    value: Ints
    request: Ints
    follow: Ints
    births: tuple[Ints, Ints, Ints]
    """When threads of the target were made, and by which thread: (tid, time, maker)."""
    busy: tuple[tuple[Rows | Spans, Class], ...]
    scheduler: bool


def waits(recording: Recording, requests: Requests, calls: Calls, unobserved: UnobservedRequests) -> Waits:
    """Tell what every wait of the target was for."""
    off = recording.of(Kind.OFFCPU)
    off = off.where(recording.is_target_thread(off.tid))
    if len(off):
        return _from_scheduler(recording, requests, calls, off, unobserved)
    return _from_requests(recording, requests, calls)


def _on_pages(
    recording: Recording, requests: Requests, calls: Calls, waits: Spans, request: Ints
) -> tuple[tuple[Rows | Spans, Class], ...]:
    give_back(len(recording))
    touching = (calls.rows.kind == Kind.SYS_READ) | (calls.rows.kind == Kind.SYS_OPEN)
    return (
        (fault_spans(recording, requests, waits, request), Class.CACHE_PAGE),
        (calls.rows.where(calls.on_mount & touching), Class.CACHE_PAGE),
    )


def _from_scheduler(
    recording: Recording, requests: Requests, calls: Calls, off: Rows, unobserved: UnobservedRequests
) -> Waits:
    lanes = recording.lanes(off.tid)
    index, begin, stop = disjoint(lanes.at(off.tid, off.start), lanes.at(off.tid, off.end))
    off = off.where(index)
    start = lanes.time(begin)
    end = start + (stop - begin)
    blocked = off.c != 0
    woken = np.where(blocked, np.where(off.a > 0, np.clip(off.a, start, end), end), start)
    call = enclosing_call(recording, calls, off.tid, start, woken)
    value = np.where(blocked, _reason(calls, call, off.c), int(Class.COMPUTE_WAIT))
    follows = blocked & _woken_by_target(recording, calls, off, call)
    request = np.where(blocked, _request_of_waker(recording, requests, off.b, woken), -1)
    unknown = blocked & (request < 0) & ~follows & ~_names_itself(calls, call)
    request = np.where(unknown, _outstanding(recording, requests, off.tid, start, woken), request)
    unknown &= (request < 0) & waited_for(recording, unobserved, off.tid, start, woken)
    value = np.where(unknown, int(Class.OTHER_FUSE), value)
    return Waits(
        tid=off.tid,
        start=start,
        woken=woken,
        end=end,
        value=value,
        request=request,
        follow=np.where(follows & (request < 0), off.b, -1),
        births=_births(recording),
        busy=_on_pages(recording, requests, calls, Spans(off.tid, start, end), request),
        scheduler=True,
    )


def _births(recording: Recording) -> tuple[Ints, Ints, Ints]:
    forks = recording.of(Kind.PROC_FORK)
    child, last = np.unique(forks.b[::-1], return_index=True)  # a number that was used again is that of the last
    return child, forks.start[::-1][last], forks.tid[::-1][last]


def _woken_by_target(recording: Recording, calls: Calls, off: Rows, call: Ints) -> Bools:
    """Tell which waits a thread of the target ended, of the same process or of another, that the waiter waited for.

    The scheduler names the thread that was on the CPU. Where a clock or a disk ended the wait, that is whoever was interrupted.
    """
    tids, tgids = recording.target_threads
    process = pick(tgids, match(tids, off.b), -1)
    number = np.where(pick(calls.rows.kind, call, -1) == Kind.SYS_WAIT, pick(calls.rows.a, call, -1), -1)
    result = pick(calls.rows.ret, call, 0)
    by_clock = np.isin(number, BY_THE_CLOCK) | (np.isin(number, POLLS) & (result == 0))
    by_clock |= (number >= 0) & np.isin(result, EXPIRED)
    of_file = pick(_call_class(calls), call, -1) == Class.OTHER_IO
    by_disk = ((off.c & UNINTERRUPTIBLE) != 0) & (of_file | ((call < 0) & (process != off.tgid)))
    by_target: Bools = (process >= 0) & (off.b != off.tid) & ~by_clock & ~by_disk
    return by_target


def _request_of_waker(recording: Recording, requests: Requests, waker: Ints, woken: Ints) -> Ints:
    """Return the request whose reply was being written by the waker at the wake-up, -1 if none."""
    handled = np.flatnonzero(requests.worker >= 0)
    lanes = recording.lanes(requests.worker[handled])
    places = lanes.at(requests.worker[handled], requests.replying[handled])
    order = np.argsort(places, kind="stable")
    position = lanes.at(waker, woken)
    request = handled[order][_latest(places[order], position)] if len(handled) else np.full(len(waker), -1)
    inside = (pick(requests.worker, request, -1) == waker) & (pick(requests.replying, request, 0) <= woken)
    return np.where(inside & (pick(requests.replied, request, -1) >= woken), request, -1)


def _latest(places: Ints, position: Ints) -> Ints:
    return np.maximum(np.searchsorted(places, position, side="right").astype(np.int64) - 1, 0)


def _outstanding(recording: Recording, requests: Requests, tid: Ints, start: Ints, woken: Ints) -> Ints:
    """Return the thread's own request that was under way over a wait, -1 if none: for a waker that cannot be told."""
    pending = np.flatnonzero(requests.expects_reply & requests.by_target)
    lanes = recording.lanes(requests.asker[pending])
    places = lanes.at(requests.asker[pending], requests.sent[pending])
    order = np.argsort(places, kind="stable")
    if not len(pending):
        return np.full(len(tid), -1, dtype=np.int64)
    request = pending[order][_latest(places[order], lanes.at(tid, start))]
    covers = (requests.asker[request] == tid) & (requests.sent[request] <= start) & (requests.replied[request] >= woken)
    return np.where(covers, request, -1)


def _names_itself(calls: Calls, call: Ints) -> Bools:
    """Tell which waits lie in a call that says what it waits for, so that no request need be looked for."""
    number = np.where(pick(calls.rows.kind, call, -1) == Kind.SYS_WAIT, pick(calls.rows.a, call, -1), -1)
    named: Bools = np.isin(number, SLEEPS + LOCKS)
    return named


def _reason(calls: Calls, call: Ints, state: Ints) -> Ints:
    """Return the class of a wait, by the call it lies in, else by the scheduler's state."""
    by_call = pick(_call_class(calls), call, int(Class.UNATTRIBUTED))
    uninterruptible = (state & UNINTERRUPTIBLE) != 0
    return np.where(uninterruptible & (by_call == Class.UNATTRIBUTED), int(Class.OTHER_IO), by_call)


def _call_class(calls: Calls) -> Ints:
    """Return the class of time blocked in each call."""
    rows = calls.rows
    waiting = rows.kind == Kind.SYS_WAIT
    file = np.isin(rows.kind, (Kind.SYS_READ, Kind.SYS_OPEN, Kind.SYS_STAT, Kind.SYS_LIST, Kind.SYS_LINK))
    return np.select(
        [
            calls.on_mount,
            (rows.kind == Kind.SYS_READ) & (rows.a == 0),
            file | (waiting & np.isin(rows.a, TRANSFERS)),
            waiting & np.isin(rows.a, SLEEPS),
            waiting & np.isin(rows.a, LOCKS),
        ],
        [
            int(Class.CACHE_TRANSPORT),
            int(Class.OTHER_IDLE),
            int(Class.OTHER_IO),
            int(Class.OTHER_IDLE),
            int(Class.COMPUTE_WAIT),
        ],
        int(Class.UNATTRIBUTED),
    ).astype(np.int64)


def _from_requests(recording: Recording, requests: Requests, calls: Calls) -> Waits:
    """Without scheduler events: a thread is blocked while a request of its own is under way, within the call that asked."""
    pending = np.flatnonzero(requests.expects_reply & requests.by_target)
    tid, start = requests.asker[pending], requests.sent[pending]
    end = requests.replied[pending]
    call = enclosing_call(recording, calls, tid, start, start)
    end = np.where(call >= 0, np.minimum(end, pick(calls.rows.end, call, 0)), end)
    lanes = recording.lanes(tid)
    index, begin, stop = disjoint(lanes.at(tid, start), lanes.at(tid, end))
    start = lanes.time(begin)
    woken = start + (stop - begin)
    kind = _call_class(calls)
    named = (Class.OTHER_IO, Class.OTHER_IDLE, Class.COMPUTE_WAIT)
    by_call: tuple[tuple[Rows | Spans, Class], ...] = tuple(
        (calls.rows.where(kind == int(value)), value) for value in named
    )
    on_pages = _on_pages(recording, requests, calls, Spans(tid[index], start, woken), pending[index])
    none = np.full(len(index), -1, dtype=np.int64)
    return Waits(
        tid=tid[index],
        start=start,
        woken=woken,
        end=woken,
        value=np.full(len(index), int(Class.CACHE_TRANSPORT), dtype=np.int64),
        request=pending[index],
        follow=none,
        births=(none[:0], none[:0], none[:0]),
        busy=(*by_call, *on_pages),
        scheduler=False,
    )
