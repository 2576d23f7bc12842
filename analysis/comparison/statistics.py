"""Medians of two sets of runs, their difference, and how sure that is."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

RESAMPLES: Final = 4000
CONFIDENCE: Final = 0.95
FEWEST: Final = 3
"""An interval needs at least so many runs on each side."""
ENOUGH: Final = 6
"""With fewer runs on a side, the interval of a median is too narrow."""
Floats = npt.NDArray[np.float64]
Key = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """A figure (`of` what, its `name`) on both sides, medians where there are several runs; None if not observed.

    `low` to `high` is where the difference of the medians lies with 95 % confidence; None with fewer than FEWEST runs on a side.
    `certain` tells whether that excludes 0.
    """

    of: str
    name: str
    unit: str
    a: float | None
    b: float | None
    difference: float | None
    ratio: float | None
    low: float | None
    high: float | None
    certain: bool | None


def median(table: Floats) -> Floats:
    """Return the median of each column over the runs in which it was observed."""
    is_known = ~np.isnan(table)
    ordered = np.sort(table, axis=-2)  # NaN comes last
    count = is_known.sum(axis=-2)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    bounds = [
        np.take_along_axis(ordered, np.minimum(place, table.shape[-2] - 1)[..., None, :], axis=-2)
        for place in (low, high)
    ]
    middle: Floats = np.where(count > 0, (bounds[0] + bounds[1])[..., 0, :] / 2, np.nan)
    return middle


def intervals(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return where the difference of the medians (b - a) lies: a percentile bootstrap, runs drawn anew on each side.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if min(len(a), len(b)) < FEWEST:
        return (np.full(a.shape[1], np.nan),) * 2
    random = np.random.default_rng(0)
    parts = []
    for _ in range(0, RESAMPLES, 200):
        resamples = [side[random.integers(0, len(side), (200, len(side)))] for side in (a, b)]
        parts.append(median(resamples[1]) - median(resamples[0]))
    differences = np.concatenate(parts)
    differences = np.where(np.isnan(differences).any(axis=0), np.nan, differences)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail], axis=0)
    return low, high


def change_of(key: Key, unit: str, a: float, b: float, low: float, high: float) -> Change:
    """Return the change of a figure from `a` to `b`; NaN stands for a figure that was not observed."""
    is_comparable = not (np.isnan(a) or np.isnan(b))
    has_interval = not np.isnan(low)
    return Change(
        *key,
        unit,
        a=_known(a),
        b=_known(b),
        difference=b - a if is_comparable else None,
        ratio=b / a if is_comparable and a else None,
        low=_known(low),
        high=_known(high),
        certain=bool(low > 0 or high < 0) if has_interval else None,
    )


def number(value: float | None) -> float:
    """Return a figure as a number: NaN where it was not measured."""
    return np.nan if value is None else float(value)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def too_few(a: int, b: int) -> list[str]:
    """Say what is doubtful with so many runs on each side."""
    if min(a, b) < FEWEST:
        return [f"no interval where a side has fewer than {FEWEST} runs; a difference may be chance"]
    if min(a, b) < ENOUGH:
        return [f"fewer than {ENOUGH} runs on a side: intervals are narrower than they should be"]
    return []
