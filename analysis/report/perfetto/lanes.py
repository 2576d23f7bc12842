"""Intervals that overlap, laid side by side."""

import numpy as np

from cvtrace.analysis.trace.intervals import Ints


def side_by_side(start: Ints, end: Ints) -> Ints:
    """Return a lane for each interval (sorted by start), so that those of one lane are disjoint; the first lanes are the fullest.

    Lane after lane takes, of what is left, the first interval, then the first that begins after its end, and so on. The chain
    is followed in jumps whose length doubles.
    """
    lane = np.full(len(start), -1, dtype=np.int64)
    unplaced = np.arange(len(start), dtype=np.int64)
    number = 0
    while len(unplaced):
        count = len(unplaced)
        following = np.searchsorted(start[unplaced], end[unplaced], side="left").astype(np.int64)
        jump = np.append(np.maximum(following, np.arange(1, count + 1)), count)
        chain = np.zeros(1, dtype=np.int64)
        for _ in range(count.bit_length()):
            chain = np.concatenate([chain, jump[chain]])
            chain = chain[chain < count]
            jump = jump[jump]
        lane[unplaced[chain]] = number
        unplaced = np.delete(unplaced, chain)
        number += 1
    return lane


def by_lane(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return an order in which intervals go lane by lane, and the lane of each in that order."""
    order = np.argsort(start, kind="stable")
    lane = side_by_side(start[order], end[order])
    by_lane_order = np.argsort(lane, kind="stable")
    return order[by_lane_order], lane[by_lane_order]
