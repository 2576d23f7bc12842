"""Arithmetic on sorted intervals: lay many threads on one axis, overlay, cut, measure.

Everything that happens on one thread is a function of time. To work on all threads at once, each gets a *lane*:
a stretch of one common int64 axis as long as the recording. A step function over that axis (`Steps`) then holds
the state of every thread, and one binary search answers a question about all of them.
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CLOSE = 1 << 20
"""Values of a range up to this are numbered by a table, whatever their number."""
NARROWER: Final = (np.int8, np.int16, np.int32)
NOWHERE = -1
"""Position of something whose lane does not exist."""


def ints(values: npt.ArrayLike) -> Ints:
    """Return `values` as int64; a u64 above the range wraps, as in `NO_OFFSET` -> -1."""
    return np.asarray(values).astype(np.int64)


def narrow(values: Ints) -> Ints:
    """Return `values` in the narrowest type that holds them. Only compare them, or choose rows: in arithmetic they overflow."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in NARROWER:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return cast("Ints", values.astype(kind))
    return values


def empty() -> Ints:
    """Return no numbers."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Lanes:
    """Places (key, time) on one axis; `keys` is sorted and unique, times lie in [start_ns, start_ns + span_ns)."""

    keys: Ints
    start_ns: int
    span_ns: int

    @classmethod
    def of(cls, keys: Ints, start_ns: int, end_ns: int) -> "Lanes":
        """Make a lane for each distinct key. Raises OverflowError if keys x time do not fit 63 bits."""
        keys, span_ns = distinct(keys), max(end_ns - start_ns, 0) + 2
        if len(keys) * span_ns >= 2**63:
            raise OverflowError(f"{len(keys)} lanes of {span_ns} ns are more than the axis holds")
        return cls(keys, start_ns, span_ns)

    def rank(self, key: Ints) -> Ints:
        """Return the number of each key's lane, NOWHERE where there is none."""
        if not len(self.keys):
            return np.full(len(key), NOWHERE, dtype=np.int64)
        rank = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where(self.keys[rank] == key, rank, NOWHERE)

    def at(self, key: Ints, time_ns: Ints) -> Ints:
        """Return the position of (key, time); a time outside the recording is moved to its edge."""
        rank = self.rank(key)
        return np.where(rank >= 0, self.at_rank(rank, time_ns), NOWHERE)

    def at_rank(self, rank: Ints, time_ns: Ints) -> Ints:
        """Return the position of a time in the lane of that number."""
        return rank * self.span_ns + np.clip(time_ns - self.start_ns, 0, self.span_ns - 1)

    def time(self, position: Ints) -> Ints:
        """Return the time at a position."""
        return position % self.span_ns + self.start_ns


@dataclass(frozen=True)
class Steps:
    """A step function: `value[i]` from `at[i]` to `at[i + 1]`, the last for ever; `at[0]` is 0."""

    at: Ints
    value: Ints

    @classmethod
    def constant(cls, value: int) -> "Steps":
        return cls(np.zeros(1, dtype=np.int64), np.full(1, value, dtype=np.int64))

    def value_at(self, position: Ints) -> Ints:
        """Return the value at each position (those below 0 count as 0)."""
        return self.value[np.maximum(np.searchsorted(self.at, position, side="right") - 1, 0)]


def distinct(values: Ints) -> Ints:
    """Return the distinct values, sorted. Far faster than np.unique here: the input consists of a few sorted runs."""
    ordered = np.sort(values, kind="stable")
    unique: Ints = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return unique


def numbered(values: Ints) -> tuple[Ints, Ints]:
    """Return the distinct values, sorted, and which of them each value is.

    As np.unique with its inverse, but in linear time where the values lie close together.
    """
    if not len(values):
        return empty(), empty()
    low, high = int(values.min()), int(values.max())
    if high - low >= max(CLOSE, 2 * len(values)):
        unique, which = np.unique(values, return_inverse=True)
        return unique, which.ravel().astype(np.int64)
    present = np.zeros(high - low + 1, dtype=bool)
    present[values - low] = True
    unique = np.flatnonzero(present)
    rank = np.empty(len(present), dtype=np.int64)
    rank[unique] = np.arange(len(unique))
    return unique + low, rank[values - low]


def disjoint(start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Make intervals disjoint: what an earlier one covers is taken from the later.

    Returns (index, start, end), sorted, without empty intervals; `index` says which interval a result comes from.
    """
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    if len(start):
        covered = np.maximum.accumulate(end)
        start = np.concatenate([start[:1], np.maximum(start[1:], covered[:-1])])
    keep = end > start
    return order[keep], start[keep], end[keep]


def overlay(steps: Steps, start: Ints, end: Ints, value: Ints | int) -> Steps:
    """Return `steps` with `value` inside the intervals; where intervals overlap, the one that starts first wins."""
    values = np.broadcast_to(np.asarray(value, dtype=np.int64), start.shape)
    index, start, end = disjoint(start, end)
    if not len(start):
        return steps
    values = values[index]
    # Three sorted runs are merged in linear time; what precedes a position is counted instead of searched for.
    every = np.concatenate([steps.at, start, end])
    order = np.argsort(every, kind="stable")
    at = every[order]
    del every
    last = np.append(at[1:] != at[:-1], True)
    at, is_start = at[last], (order >= len(steps.at)) & (order < len(steps.at) + len(start))
    below = steps.value[np.cumsum(order < len(steps.at))[last] - 1]
    interval = np.cumsum(is_start)[last] - 1
    del order, is_start, last
    inside = (interval >= 0) & (at < end[np.maximum(interval, 0)])
    return Steps(at, np.where(inside, values[np.maximum(interval, 0)], below))


def ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Expand each [first, last) into its integers. Returns (which range, integer)."""
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(count), dtype=np.int64), count)
    within = np.arange(len(which), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    return which, first[which] + within


@dataclass(frozen=True)
class Pieces:
    """Intervals cut at the steps of a function: piece of which interval, from, to, the value there."""

    which: Ints
    start: Ints
    end: Ints
    value: Ints


def cut(steps: Steps, start: Ints, end: Ints) -> Pieces:
    """Cut intervals (they may overlap) at the steps of a function; empty intervals give no piece."""
    first = np.maximum(np.searchsorted(steps.at, start, side="right") - 1, 0)
    last = np.searchsorted(steps.at, end, side="left")
    which, piece = ranges(first, np.where(end > start, np.maximum(last, first + 1), first))
    following = np.append(steps.at, np.iinfo(np.int64).max)[piece + 1]
    return Pieces(
        which, np.maximum(steps.at[piece], start[which]), np.minimum(following, end[which]), steps.value[piece]
    )


def add_by_group(group: Ints, amount: Ints | Bools, groups: int) -> Ints:
    """Add up amounts by group; group -1 is left out."""
    chosen = group >= 0
    return np.bincount(group[chosen], weights=amount[chosen], minlength=groups).astype(np.int64)


def latest(positions: Ints, query: Ints) -> Ints:
    """Return the index of the last of sorted `positions` at or before each query, -1 if there is none."""
    return np.searchsorted(positions, query, side="right").astype(np.int64) - 1


def earliest(positions: Ints, query: Ints) -> Ints:
    """Return the index of the first of sorted `positions` at or after each query; len(positions) if there is none."""
    return np.searchsorted(positions, query, side="left").astype(np.int64)


def match(keys: Ints, query: Ints) -> Ints:
    """Return for each wanted key the index of its first occurrence in `keys` (any order), -1 if there is none."""
    if not len(keys):
        return np.full(len(query), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], query)
    hit = order[np.minimum(place, len(keys) - 1)]
    return np.where(keys[hit] == query, hit, -1)


def pick(values: Ints, index: Ints, otherwise: Ints | int) -> Ints:
    """Return values[index], and `otherwise` where the index points nowhere (negative or behind the end)."""
    if not len(values):
        return np.broadcast_to(np.asarray(otherwise, dtype=np.int64), index.shape).copy()
    valid = (index >= 0) & (index < len(values))
    return np.where(valid, values[np.where(valid, index, 0)], otherwise)


def covered(group: Ints, start: Ints, end: Ints, groups: int) -> Ints:
    """Return how much each group's intervals cover together (their union); `start` and `end` are not negative."""
    if not len(start):
        return np.zeros(groups, dtype=np.int64)
    order = np.lexsort((start, group))
    group, start, end = group[order], start[order], end[order]
    width = int(end.max()) + 1
    lane = np.searchsorted(np.unique(group), group)
    reach = np.maximum.accumulate(lane * width + end) - lane * width
    before = np.zeros(len(start), dtype=np.int64)
    before[1:] = np.where(group[1:] == group[:-1], reach[:-1], 0)
    gained = np.maximum(end - np.maximum(start, before), 0)
    return np.bincount(group, weights=gained, minlength=groups).astype(np.int64)


def earliest_within(places: Ints, query: Ints, span_ns: int) -> Ints:
    """Return the index of the first of sorted `places` at or after each query in the same lane, -1 if there is none."""
    index = earliest(places, query)
    same = pick(places, index, -1) // span_ns == query // span_ns
    return np.where(same & (query >= 0), index, -1)


def latest_within(places: Ints, query: Ints, span_ns: int) -> Ints:
    """Return the index of the last of sorted `places` at or before each query in the same lane, -1 if there is none."""
    index = latest(places, query)
    same = pick(places, index, -1) // span_ns == query // span_ns
    return np.where(same & (query >= 0), index, -1)
