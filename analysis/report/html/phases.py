"""The phases as stacked bars, coloured by class."""

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.contract.report_schema import Phase
from cvtrace.analysis.report.html.pictures import (
    Figure,
    Picture,
    blank,
    name_lanes,
    pointed_at,
    rectangles,
    room_for_labels,
    values,
)
from cvtrace.analysis.report.html.scene import Marks, Scene

BAR = 30


def picture(scene: Scene) -> Picture:
    """Return one bar for each phase, the first on top."""
    rows = [row for row in scene.report.phases if row.wall_s > 0]
    marks = Marks()
    number = {name: place for place, name in enumerate(scene.study.phases.names)}
    for place, row in enumerate(rows):
        add_bar(marks, row.classes, scene.phases[number[row.name]], number[row.name], place, 0.38)
    names = [scene.phases[number[row.name]] for row in rows]
    plot = bars(marks, rows, BAR, 0.5, len(rows))
    middles = [float(place) for place in range(len(rows))]
    name_lanes(plot, middles, names)
    write_totals(plot, rows, middles)
    spoken = ", ".join(f"{name} {seconds(row.wall_s)}" for name, row in zip(names, rows, strict=True))
    return Picture(
        key="phases",
        title="Phases",
        about="How long each phase took, and in which class of time. The pieces of a bar add up to the time beside it.",
        model=plot,
        table="phases",
        label=f"Stacked bars of the phases: {spoken}",
    )


def bars(marks: Marks, rows: Sequence[Phase], height: int, edge: float, lanes: int) -> Figure:
    """Draw the bars of `rows` in so many lanes of a `height` in pixels, the first on top, with an `edge` in lanes above it and below."""
    lanes = max(lanes, 1)
    longest = max((row.wall_s for row in rows), default=1.0)
    plot = blank("phases", 70 + height * lanes, Range1d(0, longest * 1.08), Range1d(lanes - 1 + edge, -edge), "seconds")
    pointed_at(plot, [rectangles(plot, "phases", marks)])
    room_for_labels(plot, "phases-labels")
    return plot


def write_totals(plot: Figure, rows: Sequence[Phase], middles: Sequence[float]) -> None:
    """Write the time of each bar behind it."""
    values(plot, "phases", [row.wall_s for row in rows], middles, [seconds(row.wall_s) for row in rows])


def add_bar(marks: Marks, classes: Mapping[str, float], name: str, number: int, middle: float, half: float) -> None:
    """Add a bar of the seconds of each class of a phase or a run, `half` as high on each side of the `middle`."""
    times = np.array([classes.get(label, 0.0) for label in LABELS])
    ends, total = np.cumsum(times), float(times.sum())
    there = np.flatnonzero(times)
    captions = [f"{LABELS[each]} {seconds(times[each])}\n{seconds(times[each])}" for each in there]
    marks.add(
        [f"{name}: {LABELS[each]}" for each in there],
        [f"{seconds(times[each])}, {100 * times[each] / total:.1f} % of {seconds(total)}" for each in there],
        left=(ends - times)[there],
        right=ends[there],
        bottom=middle - half,
        top=middle + half,
        paint=there,
        phase=number,
        caption=captions,
    )
