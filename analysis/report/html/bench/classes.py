"""The load of one traced run of each cell by class of time, as stacked bars."""

from __future__ import annotations

from typing import Final

from bokeh.models import Range1d

from cvtrace.analysis.bench.schema import Bench, Run
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report.html.phases import add_bar
from cvtrace.analysis.report.html.pictures import (
    Picture,
    blank,
    name_lanes,
    pointed_at,
    rectangles,
    room_for_labels,
    values,
)
from cvtrace.analysis.report.html.scene import Marks

LANE: Final = 36
HALF: Final = 0.38


def picture(bench: Bench) -> Picture | None:
    """Return the bars, None without a traced run."""
    runs = text.traced_runs(bench)
    if not runs:
        return None
    marks = Marks()
    for lane, run in enumerate(runs):
        add_bar(marks, run.classes, text.run_name(bench, run), bench.info.states.index(run.state), lane, HALF)
    totals = [sum(run.classes.values()) for run in runs]
    plot = blank(
        "phases", 70 + LANE * len(runs), Range1d(0, max(totals) * 1.3), Range1d(len(runs) - 0.5, -0.5), "seconds"
    )
    pointed_at(plot, [rectangles(plot, "phases", marks)])
    room_for_labels(plot, "phases-labels")
    middles = [float(lane) for lane in range(len(runs))]
    name_lanes(plot, middles, [text.run_name(bench, run) for run in runs])
    values(plot, "phases", totals, middles, [_beside(run, total) for run, total in zip(runs, totals, strict=True)])
    what = "load" if any(run.load_s for run in runs) else "run"
    return Picture(
        key="phases",
        title=f"Where the time of the {what} went",
        about=f"The {what} of one traced run in each state, by class of time. Recording makes a run take longer than the others.",
        model=plot,
        table="",
        label=f"Stacked bars of the {what}: "
        + ", ".join(f"{text.run_name(bench, run)} {seconds(total)}" for run, total in zip(runs, totals, strict=True)),
    )


def _beside(run: Run, total: float) -> str:
    fetched = f", {pluralize(run.fetches, 'fetch')}, {size(run.bytes_fetched or 0)}" if run.fetches else ""
    reads = "" if run.reads is None else f"  {pluralize(run.reads, 'read')}{fetched}"
    return f"{seconds(total)}{reads}"
