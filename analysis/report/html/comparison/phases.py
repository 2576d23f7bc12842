"""The phases of both runs as stacked bars on one scale, a pair for each phase."""

from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.contract.report_schema import Phase
from cvtrace.analysis.report.html.comparison.sides import LETTERS, Sides
from cvtrace.analysis.report.html.phases import add_bar, bars, write_totals
from cvtrace.analysis.report.html.pictures import Picture, name_lanes
from cvtrace.analysis.report.html.scene import Marks

PAIR = 46
HALF = 0.2
"""Half the height of a bar, of a pair 1 high."""


def picture(sides: Sides) -> Picture:
    """Return a pair of bars for each phase that took time in either run, A above B."""
    rows = [{row.name: row for row in scene.report.phases if row.wall_s > 0} for scene in sides.both]
    shown = [number for number, name in enumerate(sides.names) if any(name in side for side in rows)]
    marks, middles, names = Marks(), [], []
    drawn: list[tuple[Phase, float]] = []
    for place, number in enumerate(shown):
        for letter, side, middle in zip(LETTERS, rows, (place - HALF, place + HALF), strict=True):
            row = side.get(sides.names[number])
            name = sides.phases[number]
            if row:
                add_bar(marks, row.classes, f"{letter}, {name}", number, middle, HALF * 0.92)
                drawn.append((row, middle))
            middles.append(middle)
            names.append(f"{name}  {letter}" if letter == "A" else letter)
    plot = bars(marks, [row for side in rows for row in side.values()], PAIR, 0.55, len(shown))
    name_lanes(plot, middles, names)
    write_totals(plot, [row for row, _ in drawn], [middle for _, middle in drawn])
    spoken = ", ".join(
        f"{sides.phases[number]} {' and '.join(_wall(side.get(sides.names[number])) for side in rows)}"
        for number in shown
    )
    return Picture(
        key="phases",
        title="Phases",
        about="Wall time of each phase by class, A above B, all on one scale.",
        model=plot,
        table="phases",
        label=f"Pairs of stacked bars, A and B: {spoken}",
    )


def _wall(row: Phase | None) -> str:
    return seconds(row.wall_s) if row else "none"
