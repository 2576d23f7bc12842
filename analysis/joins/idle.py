"""When a thread of the target has nothing to do: it sleeps, or waits for input, a client or another thread to hand it work."""

from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import Bools, Ints, disjoint
from cvtrace.analysis.trace.recording import EventIndex, Recording
from cvtrace.probes.events import Kind

# Numbers of x86-64; probes on other machines translate.
IDLE_CALLS: Final = (
    7, 23, 34, 35, 43, 45, 47, 128, 130, 202, 230, 232, 270, 271, 281, 288, 441, 449, 455,
)  # fmt: skip
"""poll, select, pause, nanosleep, accept, recvfrom, recvmsg, sigtimedwait, sigsuspend, futex, clock_nanosleep, epoll_wait, pselect6,
ppoll, epoll_pwait, accept4, epoll_pwait2, futex_waitv, futex_wait."""
LEAST_NS: Final = 1_000_000
"""A shorter wait is part of some work."""


def _idle(recording: Recording, kind: Ints, a: Ints, start: Ints, end: Ints) -> Bools:
    waiting = (kind == Kind.SYS_WAIT) & np.isin(a, IDLE_CALLS)
    waiting |= (kind == Kind.SYS_READ) & (a == 0)
    is_idle: Bools = waiting & (end - start >= LEAST_NS)
    return is_idle


class Idle:
    """Waits of threads, in calls that wait for somebody else's doing: disjoint for each thread, sorted by (thread, start)."""

    def __init__(self, recording: Recording) -> None:
        rows = recording.of(Kind.SYS_WAIT, Kind.SYS_READ)
        rows = rows.where(_idle(recording, rows.kind, rows.a, rows.start, rows.end))
        self._placed = EventIndex(recording, rows, rows.tid)
        rows = self._placed.rows
        self.tid, self.start, self.end = rows.tid, rows.start, rows.end

    def __len__(self) -> int:
        return len(self.start)

    def lies_between(self, tid: Ints, start: Ints, end: Ints) -> Bools:
        """Tell for each interval of a thread whether one of its waits lies in it as a whole."""
        if not len(self):
            return np.zeros(len(tid), dtype=bool)
        last = self._placed.asof_backward(tid, end)
        place = np.maximum(last, 0)
        inside: Bools = (last >= 0) & (self.start[place] >= start) & (self.end[place] <= end)
        return inside

    def of(self, tid: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the parts of disjoint, sorted intervals of threads in which the thread waits: (interval, start, end), disjoint."""
        lanes = self._placed.lanes
        if not len(self) or not len(tid):
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing, nothing
        places, ends = lanes.at(self.tid, self.start), lanes.at(self.tid, self.end)
        _, places, ends = disjoint(places, ends)
        from_, to = lanes.at(tid, start), lanes.at(tid, end)
        first = np.searchsorted(ends, from_, side="right")
        last = np.where(from_ >= 0, np.searchsorted(places, to, side="left"), first)
        count = np.maximum(last - first, 0)
        which = np.repeat(np.arange(len(tid)), count)
        place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
        begin, stop = np.maximum(places[place], from_[which]), np.minimum(ends[place], to[which])
        not_empty = stop > begin
        return which[not_empty], lanes.time(begin[not_empty]), lanes.time(begin[not_empty]) + (stop - begin)[not_empty]
