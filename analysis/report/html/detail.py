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

from cvtrace.analysis.intervals import Bools, Ints

EACH: Final = 200
"""Longest of every phase that every picture holds one by one."""
FINEST: Final = 2000
COARSEST: Final = 50
"""Stretches that the time of a picture is cut into."""


def longest(length: Ints, group: Ints, most: int, each: int = EACH) -> Bools:
    """Tell which are kept one by one; `group` may be -1, which is a group like others."""
    if len(length) <= most:
        return np.ones(len(length), dtype=bool)
    order = np.lexsort((-length, group))
    starts = np.flatnonzero(np.append(True, group[order][1:] != group[order][:-1]))
    size = np.diff(np.append(starts, len(order)))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, size)
    kept: Bools = rank < each
    room = most - int(kept.sum())
    if room > 0:
        others = np.flatnonzero(~kept)
        kept[others[np.argpartition(-length[others], room - 1)[:room]]] = True
    return kept


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
    stretches = FINEST
    while True:
        width = max(-(-(until - since) // stretches), 1)
        stretch = np.clip((start - since) // width, 0, stretches - 1)
        table = np.column_stack([stretch, keys])
        distinct, where = _distinct(table)
        if len(distinct) <= room or stretches <= coarsest:
            break
        stretches = max(coarsest, stretches // 2)
    where = where.ravel()
    length = end - start
    most = np.zeros(len(distinct), dtype=np.int64)
    np.maximum.at(most, where, length)
    return Merged(
        keys=distinct[:, 1:],
        start=since + distinct[:, 0] * width,
        end=np.minimum(since + (distinct[:, 0] + 1) * width, max(until, since + 1)),
        count=np.bincount(where, minlength=len(distinct)).astype(np.int64),
        total=np.bincount(where, weights=length, minlength=len(distinct)).astype(np.int64),
        longest=most,
        stretch=distinct[:, 0],
    )


def _distinct(table: Ints) -> tuple[Ints, Ints]:
    """Return the distinct rows, sorted, and which of them each row is; far faster than np.unique with an axis."""
    if not len(table):
        return table, np.empty(0, dtype=np.int64)
    low = table.min(axis=0)
    sizes = tuple(int(size) for size in table.max(axis=0) - low + 1)
    number = np.ravel_multi_index(tuple((table - low).T), sizes)
    found, where = np.unique(number, return_inverse=True)
    return np.column_stack(np.unravel_index(found, sizes)) + low, where.ravel().astype(np.int64)


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
