"""Medians, spread and intervals of the runs of each cell: one variant at one value of the sweep in one state.

The intervals are percentile bootstrap intervals of the median: the runs of a cell are drawn with replacement, RESAMPLES times, by a
generator with a fixed seed, so that the same runs give the same interval (B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, ch. 13).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.bench.schema import LOCAL, METRICS, BenchInfo, Run, Statistic, SummaryRow, TracingCost

RESAMPLES: Final = 4000
LEVEL: Final = (2.5, 97.5)
SEED: Final = 20260101

Floats = npt.NDArray[np.float64]
CellKey = tuple[str, float | None, str]


def cell_of(run: Run) -> CellKey:
    """Return the cell of a run."""
    return run.variant, run.sweep_value, run.state


def cells(info: BenchInfo) -> list[CellKey]:
    """Return the cells of an experiment in the order of its tables."""
    values: Sequence[float | None] = info.sweep.values if info.sweep else (None,)
    return [(each.name, value, state) for each in info.variants for value in values for state in info.states]


def measured(runs: Iterable[Run], *, traced: bool) -> list[Run]:
    """Return the runs that statistics are made of."""
    return [run for run in runs if run.counts and run.traced == traced]


def values_of(runs: Iterable[Run], metric: str) -> Floats:
    """Return a figure of each run that has it."""
    known = [value for run in runs if (value := getattr(run, metric)) is not None]
    return np.array(known, dtype=np.float64)


def resampled_medians(values: Floats) -> Floats:
    """Return the medians of RESAMPLES draws with replacement."""
    draws = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    medians: Floats = np.median(values[draws], axis=1)
    return medians


def interval(medians: Floats) -> tuple[float, float]:
    """Return the interval that holds 95 % of the draws."""
    low, high = np.percentile(medians, LEVEL)
    return float(low), float(high)


def statistic(values: Floats, local: Floats | None = None) -> Statistic | None:
    """Return the statistic of some values, with their ratio to those of the state `local`; None without values."""
    if not len(values):
        return None
    medians = resampled_medians(values)
    low, high = np.percentile(values, (25, 75))
    ratio, ratio_interval = None, None
    if local is not None and len(local) and float(np.median(local)) > 0:
        ratio = float(np.median(values) / np.median(local))
        # The two samples are independent, so their draws are paired at random: the second half of the sequence is another one.
        ratio_interval = interval(medians / np.roll(resampled_medians(local), RESAMPLES // 2))
    return Statistic(
        len(values), float(np.median(values)), (float(low), float(high)), interval(medians), ratio, ratio_interval
    )


def summarise(info: BenchInfo, runs: Sequence[Run]) -> tuple[SummaryRow, ...]:
    """Return one row for each cell, those without a run included."""
    of_kind = [run for run in runs if run.traced == info.trace_all]
    chosen = measured(runs, traced=info.trace_all)
    by_cell = {cell: [run for run in chosen if cell_of(run) == cell] for cell in cells(info)}
    rows = []
    for cell, in_cell in by_cell.items():
        variant, value, state = cell
        local = by_cell.get((variant, value, LOCAL), [])
        figures = {
            metric: statistic(values_of(in_cell, metric), values_of(local, metric) if local else None)
            for metric in METRICS
        }
        left_out = sum(cell_of(run) == cell and not run.counts for run in of_kind)
        rows.append(SummaryRow(variant, value, state, len(in_cell), left_out, **figures))
    return tuple(rows)


def tracing_cost(info: BenchInfo, runs: Sequence[Run]) -> tuple[TracingCost, ...]:
    """Return for each cell what its traced runs took, divided by what the others took."""
    rows = []
    for cell in cells(info):
        with_trace, without = (
            [run for run in measured(runs, traced=traced) if cell_of(run) == cell] for traced in (True, False)
        )
        if with_trace and without:
            ratios = [_ratio(values_of(with_trace, name), values_of(without, name)) for name in ("load_s", "total_s")]
            rows.append(TracingCost(*cell, len(with_trace), len(without), *ratios))
    return tuple(rows)


def _ratio(above: Floats, below: Floats) -> float | None:
    if not len(above) or not len(below) or float(np.median(below)) <= 0:
        return None
    return float(np.median(above) / np.median(below))
