"""Load against what a sweep varies, or against the size of several variants: the runs, the law of each state, and what it predicted."""

from __future__ import annotations

from typing import Final

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from cvtrace.analysis.bench.laws import fitted
from cvtrace.analysis.bench.schema import Bench, Law, Run
from cvtrace.analysis.bench.statistics import measured
from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report.html.palette import STATES, of_state
from cvtrace.analysis.report.html.pictures import DOT, Figure, Picture, blank, painted, pointed_at, points
from cvtrace.analysis.report.html.scene import Marks

AXES: Final = {
    "size": ("megabytes", 1e6),
    "chunk": ("chunk, megabytes", 1e6),
    "quota": ("limit of the client's cache, megabytes", 1e6),
    "delay": ("delay of each first byte, milliseconds", 1e-3),
    "bandwidth": ("bandwidth, megabytes per second", 1e6),
    "threads": ("threads that compute", 1.0),
}
"""Axis -> what is written below it, and the unit."""


def picture(bench: Bench) -> Picture | None:
    """Return the picture; None if nothing is varied."""
    axis = bench.info.sweep.axis if bench.info.sweep else "size"
    metric = text.headline(bench)
    name, unit = AXES[axis]
    places = {
        (cell.variant, cell.sweep_value): (cell.bytes if axis == "size" else cell.sweep_value or 0.0) / unit
        for cell in bench.info.cells
    }
    if len(set(places.values())) < 2:
        return None
    runs = [run for run in measured(bench.runs, traced=bench.info.trace_all) if getattr(run, metric) is not None]
    runs = [run for run in runs if (run.variant, run.sweep_value) in places]
    if not runs:
        return None
    marks = Marks()
    _add_runs(bench, marks, runs, metric, [places[run.variant, run.sweep_value] for run in runs])
    most_x, most_y = max(places.values()), max(getattr(run, metric) for run in runs)
    plot = blank("law", 380, Range1d(0, most_x * 1.08), Range1d(0, most_y * 1.1), name, "seconds", dimensions="both")
    for law in bench.laws:
        _draw_law(plot, bench, law, places)
    renderers = [points(plot, "law", marks, **DOT)]
    predictions = _predictions(bench, places)
    if len(predictions):
        cross = {"marker": "diamond_cross", "size": 15, "fill_color": None, "line_color": painted(), "line_width": 2}
        renderers.append(points(plot, "law-predicted", predictions, **cross))
    pointed_at(plot, renderers)
    about = "Every run is a point."
    if bench.laws:
        about += " The lines are the laws, through the sizes that were measured. A crossed diamond is what the law predicts for a value that it was fitted without."
    return Picture(
        key="law",
        title=f"Load and {axis}" if metric == "load_s" else f"Run and {axis}",
        about=about,
        model=plot,
        table="",
        label=f"Points of the {'load' if metric == 'load_s' else 'run'} by {axis}, {len(runs)} runs",
    )


def _add_runs(bench: Bench, marks: Marks, runs: list[Run], metric: str, x: list[float]) -> None:
    y = np.array([getattr(run, metric) for run in runs])
    marks.add(
        [f"{text.run_name(bench, run)}, round {run.round + 1}: {seconds(getattr(run, metric))}" for run in runs],
        [f"run {run.order}, {run.started}" for run in runs],
        left=x,
        right=x,
        bottom=y,
        top=y,
        paint=[of_state(run.state) for run in runs],
        phase=[bench.info.states.index(run.state) for run in runs],
    )


def _predictions(bench: Bench, places: dict[tuple[str, float | None], float]) -> Marks:
    marks = Marks()
    for law in bench.laws:
        held = law.held_out
        if held is None or (held.variant, held.sweep_value) not in places:
            continue
        x = places[held.variant, held.sweep_value]
        marks.add(
            [f"{law.state}: predicted {seconds(held.predicted_s)}, measured {seconds(held.measured_s)}"],
            [f"{100 * held.error:+.0f} %, 95 % {seconds(held.interval[0])} to {seconds(held.interval[1])}"],
            left=x,
            right=x,
            bottom=held.predicted_s,
            top=held.predicted_s,
            paint=of_state(law.state),
            phase=bench.info.states.index(law.state),
        )
    return marks


def _draw_law(plot: Figure, bench: Bench, law: Law, places: dict[tuple[str, float | None], float]) -> None:
    """Draw a law as a line through the values of the sweep."""
    cells = [cell for cell in bench.info.cells if law.variant in ("", cell.variant)]
    axis = bench.info.sweep.axis if bench.info.sweep else "size"
    points = sorted(
        (places[cell.variant, cell.sweep_value], y) for cell, y in zip(cells, fitted(axis, law, cells), strict=True)
    )
    plot.line(
        x="x",
        y="y",
        source=ColumnDataSource({"x": [x for x, _ in points], "y": [y for _, y in points]}),
        line_color=STATES[law.state],
        line_width=2,
        line_alpha=0.7,
    )
