"""One figure of all runs: a point for each run, and for each cell the box of half of its runs with the median in it."""

from __future__ import annotations

from typing import Final

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.bench.schema import Bench, Run, Statistic
from cvtrace.analysis.bench.statistics import cell_of, measured
from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report.html.palette import CLASSES, of_state
from cvtrace.analysis.report.html.pictures import (
    DOT,
    Picture,
    blank,
    name_lanes,
    pointed_at,
    points,
    rectangles,
    values,
)
from cvtrace.analysis.report.html.scene import Marks

LANE: Final = 44
HALF: Final = 0.3
NAMES: Final = {
    "load_s": ("load", "Load", "seconds"),
    "first_token_s": ("first", "First token", "seconds"),
    "tokens_per_s": ("tokens", "Tokens per second", "tokens per second"),
    "total_s": ("total", "Whole run", "seconds"),
}
"""Metric -> key of its picture, its title, the unit of its axis."""


def picture(bench: Bench, metric: str) -> Picture | None:
    """Return the picture of one figure, None if no run has it."""
    rows = [row for row in bench.summary if row.statistic(metric) is not None]
    if not rows:
        return None
    key, title, unit = NAMES[metric]
    runs = [run for run in measured(bench.runs, traced=bench.info.trace_all) if getattr(run, metric) is not None]
    boxes, dots = Marks(), Marks()
    for lane, row in enumerate(rows):
        statistic = row.statistic(metric)
        assert statistic is not None
        state = bench.info.states.index(row.state)
        name = text.cell_name(bench, row)
        in_cell = [run for run in runs if cell_of(run) == (row.variant, row.sweep_value, row.state)]
        _add_box(boxes, name, metric, statistic, lane, state, row.state)
        _add_dots(dots, name, metric, in_cell, lane, state, row.state)
    most = max(getattr(run, metric) for run in runs)
    plot = blank(key, 70 + LANE * len(rows), Range1d(0, most * 1.12), Range1d(len(rows) - 0.5, -0.5), unit)
    box = rectangles(plot, f"{key}-boxes", boxes)
    pointed_at(plot, [box, points(plot, key, dots, **DOT, fill_alpha=0.85)])
    middles = [float(lane) for lane in range(len(rows))]
    name_lanes(plot, middles, [text.cell_name(bench, row) for row in rows])
    medians = [statistic.median for row in rows if (statistic := row.statistic(metric)) is not None]
    tops = [
        max(getattr(run, metric) for run in runs if cell_of(run) == (row.variant, row.sweep_value, row.state))
        for row in rows
    ]
    values(plot, key, tops, middles, [shown(metric, each) for each in medians], x_offset=10)
    return Picture(
        key=key,
        title=title,
        about="Every run is a point. The box holds half of the runs, the line in it is the median, which is written beside it; the thin bar is its 95 % interval.",
        model=plot,
        table="runs" if metric == text.headline(bench) else "",
        label=f"{title}: "
        + ", ".join(
            f"{text.cell_name(bench, row)} {shown(metric, each)}" for row, each in zip(rows, medians, strict=True)
        ),
    )


def shown(metric: str, value: float) -> str:
    """Return a value of a metric in words."""
    return f"{value:.1f} tokens/s" if metric == "tokens_per_s" else seconds(value)


def _add_box(marks: Marks, name: str, metric: str, statistic: Statistic, lane: int, state: int, kind: str) -> None:
    """Add the box, the interval below it, and the median as a line over both."""
    low, high = statistic.quartiles
    from_, to = statistic.interval
    thin = statistic.median * 0.004 or 1e-6
    how = f"median {shown(metric, statistic.median)} of {statistic.n} runs, 95 % {shown(metric, from_)} to {shown(metric, to)}"
    marks.add(
        [f"{name}: half of the runs", f"{name}: 95 % interval of the median", f"{name}: median"],
        [how] * 3,
        left=[low, from_, statistic.median - thin],
        right=[max(high, low + thin), max(to, from_ + thin), statistic.median + thin],
        bottom=[lane - HALF, lane + HALF, lane - HALF],
        top=[lane + HALF, lane + HALF + 0.1, lane + HALF + 0.1],
        paint=[CLASSES, CLASSES + 1, of_state(kind)],
        phase=state,
    )


def _add_dots(marks: Marks, name: str, metric: str, runs: list[Run], lane: int, state: int, kind: str) -> None:
    at = np.array([getattr(run, metric) for run in runs])
    # Runs of one cell lie above each other in the order in which they were made.
    spread = np.linspace(-HALF * 0.75, HALF * 0.75, len(runs)) if len(runs) > 1 else np.zeros(len(runs))
    marks.add(
        [f"{name}, round {run.round + 1}: {shown(metric, getattr(run, metric))}" for run in runs],
        [f"run {run.order}, {run.started}" for run in runs],
        left=at,
        right=at,
        bottom=lane + spread,
        top=lane + spread,
        paint=of_state(kind),
        phase=state,
    )
