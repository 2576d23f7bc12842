"""How much of a picture is drawn one by one: the longest waits always, the rest in bins that say how many they hold.

1. Of every group (a phase), the `each` longest are kept.
2. Of what is left, the longest are kept as long as there is room for `most` altogether.
3. The rest is merged: what lies in the same lane, group, file and stretch of time becomes one mark for each class, with its count, its
   total and its longest.

Nothing is left out: kept and merged together count everything.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import CLOSE, Bools, Ints, numbered

EACH: Final = 200
"""Longest of every phase that every picture holds one by one."""
FINEST: Final = 2000
COARSEST: Final = 50
"""Stretches that the time of a picture is cut into."""


def longest(length: Ints, group: Ints, most: int, each: int = EACH) -> Bools:
    """Tell which are kept one by one; `group` may be -1, which is a group like others."""
    if len(length) <= most:
        return np.ones(len(length), dtype=bool)
    chosen = np.zeros(len(length), dtype=bool)
    which, order = _runs(group)
    for members in np.split(order, which):
        chosen[members[_first_longest(length[members], each)]] = True
    room = most - int(chosen.sum())
    if room > 0:
        remaining = np.flatnonzero(~chosen)
        chosen[remaining[np.argpartition(-length[remaining], room - 1)[:room]]] = True
    return chosen


def _runs(group: Ints) -> tuple[Ints, Ints]:
    """Return the order in which groups follow each other, and the places in it where all but the first begin."""
    number = numbered(group)[1]
    narrow = (
        number.astype(np.int16) if int(number.max()) < 2**15 else number
    )  # of these, numpy sorts the narrow in linear time
    order = np.argsort(narrow, kind="stable")
    return np.flatnonzero(np.diff(narrow[order])) + 1, order


def _first_longest(length: Ints, most: int) -> Bools:
    """Tell which are the longest; of equally long ones, the first."""
    if len(length) <= most:
        return np.ones(len(length), dtype=bool)
    least = np.partition(length, len(length) - most)[len(length) - most]
    chosen: Bools = length > least
    chosen[np.flatnonzero(length == least)[: most - int(chosen.sum())]] = True
    return chosen


@dataclass(frozen=True)
class Merged:
    """Marks that stand for several: one for each stretch of time and combination of keys."""

    keys: Ints
    """Shape (marks, keys)."""
    start: Ints
    end: Ints
    count: Ints
    total: Ints
    longest: Ints
    stretch: Ints
    """Number of the stretch of time."""

    def __len__(self) -> int:
        return len(self.start)


def merged(start: Ints, end: Ints, keys: Ints, since: int, until: int, room: int, coarsest: int = COARSEST) -> Merged:
    """Merge intervals that begin in the same stretch of time and agree in all keys (shape: intervals x keys).

    Stretches are made longer until there are at most `room` marks, or only `coarsest` stretches.
    """
    kinds, kind = _distinct(keys)
    stretches, since_start = FINEST, start - since
    while True:
        width = max(-(-(until - since) // stretches), 1)
        code = np.clip(since_start // width, 0, stretches - 1)
        code *= len(kinds)
        code += kind
        if stretches <= coarsest or _how_many(code, stretches * len(kinds)) <= room:
            break
        stretches = max(coarsest, stretches // 2)
    code, where = numbered(code)
    length = end - start
    most = np.zeros(len(code), dtype=np.int64)
    np.maximum.at(most, where, length)
    stretch = code // max(len(kinds), 1)
    return Merged(
        keys=kinds[code % max(len(kinds), 1)],
        start=since + stretch * width,
        end=np.minimum(since + (stretch + 1) * width, max(until, since + 1)),
        count=np.bincount(where, minlength=len(code)).astype(np.int64),
        total=np.bincount(where, weights=length, minlength=len(code)).astype(np.int64),
        longest=most,
        stretch=stretch,
    )


def _how_many(code: Ints, limit: int) -> int:
    """Return how many distinct numbers there are, all of them less than `limit`."""
    if limit > max(CLOSE, 2 * len(code)):
        return len(numbered(code)[0])
    there = np.zeros(limit, dtype=bool)
    there[code] = True
    return int(np.count_nonzero(there))


def _distinct(table: Ints) -> tuple[Ints, Ints]:
    """Return the distinct rows, sorted, and which of them each row is; far faster than np.unique with an axis."""
    if not len(table):
        return table, np.empty(0, dtype=np.int64)
    number = np.zeros(len(table), dtype=np.int64)
    columns = []
    for column in table.T:
        values, which = numbered(column)
        number = number * len(values) + which
        columns.append(values)
    codes, where = numbered(number)
    places = np.unravel_index(codes, [len(values) for values in columns])
    return np.column_stack([values[place] for values, place in zip(columns, places, strict=True)]), where


def shares(mark: Merged, lanes: Ints) -> tuple[Ints, Ints]:
    """Return how far up each mark begins and ends in its lane, in thousandths: classes of a stretch are stacked.

    A stretch that is less than full leaves room above.
    """
    if not len(mark):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    place = np.unique(mark.stretch * (int(lanes.max()) + 1) + lanes, return_inverse=True)[1].ravel()
    order = np.argsort(place, kind="stable")
    total = np.bincount(place, weights=mark.total)
    full = np.maximum(total, (mark.end - mark.start)[order][np.searchsorted(place[order], np.arange(len(total)))])
    share = mark.total / full[place]
    up = np.cumsum(share[order])
    first = np.searchsorted(place[order], place[order])
    before = np.append(0.0, up)[first]
    top = np.empty(len(mark))
    top[order] = up - before
    bottom = top - share
    return np.rint(1000 * bottom).astype(np.int64), np.rint(1000 * top).astype(np.int64)
