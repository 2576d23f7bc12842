"""The critical path as a table of pieces. It is as long as the trace, so it is held packed, and read part by part."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

import numpy as np

from cvtrace.analysis.attribution.layers import Window
from cvtrace.analysis.contract.classes import GROUPS, MEMBERS, Class, GroupSeconds
from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, Steps, cut, empty, ints, narrow
from cvtrace.tracer.columns import Packed
from cvtrace.tracer.scratch import Scratch

CLASSES: Final = len(Class)
PART_PIECES: Final = 1 << 20
"""Pieces of a part, where they are put in order as a whole; else it has those of a window."""


def packed(value: Class | Ints, request: Ints | int = -1) -> Ints:
    """Put a class and the request it belongs to (-1: none) into one number."""
    return np.asarray((np.asarray(request, dtype=np.int64) + 1) * CLASSES + np.asarray(value, dtype=np.int64))


@dataclass(frozen=True)
class _Held:
    """Pieces that follow each other, as they are held: interval, `packed` value, length."""

    of: Packed
    value: Packed
    length: Packed
    count: int

    @classmethod
    def keep(cls, which: Ints, value: Ints, length: Ints, scratch: Scratch) -> "_Held":
        of, values, lengths = (Packed.of(column, scratch) for column in (which, value, length))
        return cls(of, values, lengths, len(which))


@dataclass(frozen=True)
class PathPart:
    """Pieces that follow each other: the columns of `CriticalPath`, unpacked when they are read first."""

    _held: _Held
    _begin: Ints
    """When the first piece of each interval of the path begins."""
    _since: int
    """When the first piece of this part begins."""

    def __len__(self) -> int:
        return self._held.count

    @cached_property
    def of(self) -> Ints:
        return self._held.of.unpacked(len(self))

    @cached_property
    def _packed(self) -> Ints:
        return self._held.value.unpacked(len(self))

    @cached_property
    def value(self) -> Ints:
        return np.asarray(self._packed % CLASSES)

    @cached_property
    def request(self) -> Ints:
        return np.asarray(self._packed // CLASSES - 1)

    @cached_property
    def length(self) -> Ints:
        return self._held.length.unpacked(len(self))

    @cached_property
    def start(self) -> Ints:
        of, before = self.of, np.cumsum(self.length) - self.length
        first = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: len(of)])
        shift = self._begin[of[first]] - before[first]
        shift[:1] = self._since
        return np.asarray(before + np.repeat(shift, np.diff(np.append(first, len(of)))))

    @property
    def end(self) -> Ints:
        return self.start + self.length


@dataclass(frozen=True)
class CriticalPath:
    """The critical path: pieces of intervals, without gap, in the order of the intervals and of time.

    `of` numbers the interval that a piece is of, `value` is a `Class`, `request` the FUSE request waited for, -1 if none. Two pieces that
    follow each other differ in interval, class or request. A column as a whole is for paths that are short: `parts` is for all.
    """

    _parts: tuple[tuple[_Held, int], ...]
    """With the time at which the first piece of each part begins."""
    _begin: Ints

    def parts(self) -> Iterator[PathPart]:
        """Return the pieces, those of a part at a time."""
        for held, since in self._parts:
            yield PathPart(held, self._begin, since)

    def __len__(self) -> int:
        return sum(held.count for held, _ in self._parts)

    def _whole(self, name: str) -> Ints:
        return np.concatenate([empty(), *(getattr(part, name) for part in self.parts())])

    @property
    def of(self) -> Ints:
        return self._whole("of")

    @property
    def value(self) -> Ints:
        return self._whole("value")

    @property
    def request(self) -> Ints:
        return self._whole("request")

    @property
    def length(self) -> Ints:
        return self._whole("length")

    @property
    def start(self) -> Ints:
        return self._whole("start")

    @property
    def end(self) -> Ints:
        return self._whole("end")


@dataclass(frozen=True)
class _Pieces:
    """Pieces of intervals, in order: interval, `packed` value, length."""

    which: Ints
    value: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.which)

    def taken(self, index: Ints | slice) -> "_Pieces":
        return _Pieces(self.which[index], self.value[index], self.length[index])

    def joined(self) -> "_Pieces":
        """Make one of pieces that follow each other in an interval and have the same value."""
        which, value = self.which, self.value
        differs = np.append(True, (which[1:] != which[:-1]) | (value[1:] != value[:-1]))[: len(which)]
        first = np.flatnonzero(differs)
        total = np.add.reduceat(self.length, first, dtype=np.int64) if len(first) else empty()
        return _Pieces(which[first], value[first], total)

    def before(self, other: "_Pieces") -> tuple["_Pieces", "_Pieces"]:
        """Return both, the last piece of this one joined to the first of the other if they are one."""
        if int(self.which[-1]) != int(other.which[0]) or int(self.value[-1]) != int(other.value[0]):
            return self, other
        length = other.length.copy()
        length[0] += int(self.length[-1])
        return self.taken(slice(None, -1)), _Pieces(other.which, other.value, length)


class PathPieces:
    """Gathers the pieces of intervals, each of one thread (tid), window by window."""

    def __init__(self, lanes: Lanes, scratch: Scratch, tid: Ints, start: Ints, end: Ints) -> None:
        self._lanes, self._scratch, self._rank = lanes, scratch, lanes.rank(tid)
        self._start = lanes.time(lanes.at_rank(0 * self._rank, start))
        self._end = lanes.time(lanes.at_rank(0 * self._rank, end))
        self._in_order = True
        self._last = _Pieces(empty(), empty(), empty())
        self._parts: list[_Held] = []

    def add(self, window: Window, steps: Steps) -> None:
        """Cut what of the intervals lies in the window."""
        begin, end = np.maximum(self._start, window.start_ns), np.minimum(self._end, window.end_ns)
        chosen = np.flatnonzero((self._rank >= 0) & (end > begin))
        rank, lanes = self._rank[chosen], self._lanes
        pieces = cut(steps, lanes.at_rank(rank, begin[chosen]), lanes.at_rank(rank, end[chosen]))
        self._add(_Pieces(chosen[pieces.which], pieces.value, pieces.end - pieces.start).joined())

    def _add(self, pieces: _Pieces) -> None:
        if not len(pieces):
            return
        if len(self._last):
            self._in_order &= int(self._last.which[-1]) <= int(pieces.which[0])
            last, pieces = self._last.before(pieces)
            self._keep(last)
        self._last = pieces

    def _keep(self, pieces: _Pieces) -> None:
        if len(pieces):
            self._parts.append(_Held.keep(pieces.which, pieces.value, pieces.length, self._scratch))

    def path(self) -> CriticalPath:
        """Return the pieces in order, joined where an interval goes on over the end of a window."""
        self._keep(self._last)
        if not self._in_order:
            self._put_in_order()
        parts: list[tuple[_Held, int]] = []
        interval, until = -1, 0
        for held in self._parts:
            of = held.of.unpacked(held.count)
            since = until if int(of[0]) == interval else int(self._start[of[0]])
            parts.append((held, since))
            interval, until = int(of[-1]), int(PathPart(held, self._start, since).end[-1])
        return CriticalPath(tuple(parts), self._start)

    def _put_in_order(self) -> None:
        """Put the pieces of intervals that overlap in time, of several threads, one interval after the other."""
        held = self._parts
        which, value, length = (
            np.concatenate([narrow(column.unpacked(part.count)) for part in held for column in [getattr(part, name)]])
            for name in ("of", "value", "length")
        )
        self._parts = []
        order = np.argsort(which, kind="stable")
        every = _Pieces(which[order], value[order], length[order]).joined()
        for first in range(0, len(every), PART_PIECES):
            part = every.taken(slice(first, first + PART_PIECES))
            self._keep(_Pieces(ints(part.which), ints(part.value), part.length))


def class_times(path: CriticalPath, group: Ints, groups: int) -> Ints:
    """Add up nanoseconds by (group, class): an array of shape (groups, classes). `group` is that of each interval, -1 for none."""
    total = np.zeros(groups * CLASSES, dtype=np.int64)
    for part in path.parts():
        of = group[part.of]
        chosen = of >= 0
        key = of[chosen] * CLASSES + part.value[chosen]
        total += np.bincount(key, weights=part.length[chosen], minlength=len(total)).astype(np.int64)
    return total.reshape(groups, CLASSES)


def add_by_request(path: CriticalPath, requests: int, classes: tuple[int, ...], intervals: Bools) -> Ints:
    """Add up nanoseconds by the request that was waited for, in some classes and some intervals."""
    total = np.zeros(requests, dtype=np.int64)
    of_class = np.isin(np.arange(CLASSES), classes)
    for part in path.parts():
        chosen = np.flatnonzero((part.request >= 0) & of_class[part.value] & intervals[part.of])
        request = part.request[chosen]
        if len(request):
            first = int(request.min())
            sums = np.bincount(request - first, weights=part.length[chosen]).astype(np.int64)
            total[first : first + len(sums)] += sums
    return total


@dataclass(frozen=True)
class WaitOf:
    """One wait for each request that was waited for: in which interval it is, and when it begins."""

    request: Ints
    of: Ints
    start: Ints


def first_waits(path: CriticalPath, requests: int, intervals: Bools) -> WaitOf:
    """Return the first wait for each request in some intervals, in the order of the path."""
    of, start = np.full(requests, -1, dtype=np.int64), np.zeros(requests, dtype=np.int64)
    for part in path.parts():
        waiting = np.flatnonzero((part.request >= 0) & intervals[part.of])
        waiting = waiting[of[part.request[waiting]] < 0][::-1]  # the first one is written last
        of[part.request[waiting]], start[part.request[waiting]] = part.of[waiting], part.start[waiting]
    request = np.flatnonzero(of >= 0)
    return WaitOf(request, of[request], start[request])


def last_waits(path: CriticalPath, requests: int) -> WaitOf:
    """Return the last wait for each request, in the order of the path."""
    of, start = np.full(requests, -1, dtype=np.int64), np.zeros(requests, dtype=np.int64)
    for part in path.parts():
        waiting = np.flatnonzero(part.request >= 0)
        of[part.request[waiting]], start[part.request[waiting]] = part.of[waiting], part.start[waiting]
    request = np.flatnonzero(of >= 0)
    return WaitOf(request, of[request], start[request])


def group_seconds(times: Ints) -> GroupSeconds:
    """Return the seconds of each group, from one row of `class_times`."""
    return cast("GroupSeconds", {f"{group}_s": int(times[list(MEMBERS[group])].sum()) / 1e9 for group in GROUPS})
