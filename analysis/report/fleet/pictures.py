"""The pictures of a fleet: what each node did over time, slow nodes by class, distributions, and the start."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.fleet_report import Moment
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.fleet.frames import Frames, counts, numbers, texts
from cvtrace.analysis.report.fleet.sentences import FIGURES
from cvtrace.analysis.report.html.palette import CLASSES
from cvtrace.analysis.report.html.pictures import Picture, blank, name_lanes, pointed_at, rectangles
from cvtrace.analysis.report.html.scene import Marks
from cvtrace.analysis.report.names import printable, shortened
from cvtrace.analysis.trace.intervals import Ints, add_by_group, ints

MOST_MARKS: Final = 20_000
MOST_NODES: Final = 2_000
MOST_BARS: Final = 30
MOST_NAMES: Final = 40
COLUMNS: Final = 30
NAME: Final = 24
NS: Final = 1e9
GREY: Final = CLASSES
DISTRIBUTIONS: Final = {"work_s": "s", "load_s": "s", "first_token_s": "s", "tokens_per_s": "x"}


def pictures(frames: Frames, moments: Sequence[Moment]) -> list[Picture]:
    """Return all pictures that have something to show, in their order."""
    drawn = [heat(frames), bars(frames), *(distribution(frames, name) for name in DISTRIBUTIONS), *start(moments)]
    return [each for each in drawn if each is not None]


def slowest_first(frames: Frames) -> Ints:
    """Return the numbers of the nodes, the slowest first; of very many, those at even steps, and the slowest."""
    work = np.nan_to_num(numbers(frames.nodes, "work_s"))
    order = np.lexsort((np.arange(len(work)), -work))
    if len(order) <= MOST_NODES:
        return order
    steps = np.linspace(0, len(order) - 1, MOST_NODES).astype(np.int64)
    return order[np.union1d(steps, np.arange(MOST_NODES // 10))]


def heat(frames: Frames) -> Picture | None:
    """Return a row for each node, in which the class that took most of each stretch of time has its colour."""
    table = frames.part["activity"]
    if not table.num_rows:
        return None
    order = slowest_first(frames)
    row = np.full(len(frames.place), -1, dtype=np.int64)
    row[order] = np.arange(len(order))
    number = {label: place for place, label in enumerate(LABELS)}
    columns = (
        row[ints([frames.place[each] for each in texts(table, "trace")])],
        counts(table, "bin_unix_ns"),
        ints([number.get(each, len(LABELS) - 1) for each in texts(table, "class")]),
        counts(table, "time_ns"),
    )
    width = int(counts(table, "width_ns").max())
    marks = _runs(*columns, width)
    while len(marks[0]) > MOST_MARKS:
        width *= 2
        marks = _runs(*columns, width)
    of, first, last, value = marks
    since = int(first.min())
    left, right = (first - since) / NS, (last - since) / NS
    names = [shortened(frames.names[each], NAME) for each in order.tolist()]
    drawn = Marks()
    drawn.add(
        [f"{names[each]}: mostly {LABELS[what]}" for each, what in zip(of.tolist(), value.tolist(), strict=True)],
        [f"{seconds(begin)} to {seconds(end)}" for begin, end in zip(left.tolist(), right.tolist(), strict=True)],
        left=left,
        right=right,
        bottom=of - 0.5,
        top=of + 0.5,
        paint=value,
    )
    height = 90 + min(max(len(order) * 12, 60), 900)
    plot = blank(
        "heat",
        height,
        Range1d(0, float(right.max())),
        Range1d(len(order) - 0.5, -0.5),
        "seconds since the first node began",
    )
    pointed_at(plot, [rectangles(plot, "heat", drawn)])
    labelled = range(0, len(order), max(-(-len(order) // MOST_NAMES), 1))
    name_lanes(plot, [float(each) for each in labelled], [names[each] for each in labelled])
    return Picture(
        key="heat",
        title="Nodes over time",
        about="A row for each node, the slowest on top. The colour is that of the class that took most of the time there. "
        f"One stretch is {seconds(width / NS)}; times are the nodes' own clocks.",
        model=plot,
        table="",
        label=f"Heat map of {len(order)} nodes over time, by class",
    )


def _runs(row: Ints, begin: Ints, value: Ints, time_ns: Ints, width: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return stretches with the class that took most of each: row, begin, end, class; neighbours that are alike are one."""
    there = row >= 0
    first = int(begin[there].min()) // width
    place = begin[there] // width - first
    bins = int(place.max()) + 1
    cell = row[there] * bins + place
    cells, of = np.unique(cell, return_inverse=True)
    spent = add_by_group(of * len(LABELS) + value[there], time_ns[there], len(cells) * len(LABELS)).reshape(
        -1, len(LABELS)
    )
    most = spent.argmax(axis=1)
    starts = np.flatnonzero(
        np.append(True, (np.diff(cells) != 1) | (np.diff(most) != 0) | (cells[1:] // bins != cells[:-1] // bins))
    )
    ends = np.append(starts[1:], len(cells)) - 1
    at = (cells[starts] % bins + first) * width
    until = (cells[ends] % bins + first + 1) * width
    return cells[starts] // bins, at, until, most[starts]


def bars(frames: Frames) -> Picture | None:
    """Return the slowest nodes as bars by class, and the median of each class as the last bar."""
    order = slowest_first(frames)[:MOST_BARS]
    if not len(order):
        return None
    times = np.vstack([frames.class_times[order], np.median(frames.class_times, axis=0)[None]]) / NS
    names = [*(shortened(frames.names[each], NAME) for each in order.tolist()), "median of each class"]
    marks = Marks()
    for place, (name, spent) in enumerate(zip(names, times, strict=True)):
        ends = np.cumsum(spent)
        there = np.flatnonzero(spent)
        marks.add(
            [f"{name}: {LABELS[each]}" for each in there],
            [f"{seconds(spent[each])} of {seconds(ends[-1])}" for each in there],
            left=(ends - spent)[there],
            right=ends[there],
            bottom=place - 0.4,
            top=place + 0.4,
            paint=there,
        )
    longest = float(times.sum(axis=1).max()) or 1.0
    plot = blank("bars", 70 + 20 * len(names), Range1d(0, longest * 1.05), Range1d(len(names) - 0.5, -0.5), "seconds")
    pointed_at(plot, [rectangles(plot, "bars", marks)])
    name_lanes(plot, [float(place) for place in range(len(names))], names)
    return Picture(
        key="bars",
        title="Slowest nodes by class",
        about=f"Work of the {len(order)} slowest nodes by class of time, and the median of each class over all nodes.",
        model=plot,
        table="",
        label=f"Stacked bars of the {len(order)} slowest nodes",
    )


def distribution(frames: Frames, name: str) -> Picture | None:
    """Return how many nodes had which value of a figure."""
    amounts = numbers(frames.nodes, name)
    amounts = amounts[~np.isnan(amounts)]
    if not len(amounts):
        return None
    heights, edges = np.histogram(amounts, bins=min(COLUMNS, max(len(amounts), 5)))
    there = np.flatnonzero(heights)
    unit = DISTRIBUTIONS[name]
    marks = Marks()
    marks.add(
        [f"{heights[each]:,} of {len(amounts):,} nodes" for each in there],
        [f"{_value(edges[each], unit)} to {_value(edges[each + 1], unit)}" for each in there],
        left=edges[there],
        right=edges[there + 1],
        bottom=np.zeros(len(there)),
        top=heights[there],
        paint=GREY,
    )
    title = FIGURES[name]
    label = "seconds" if unit == "s" else "tokens per second"
    return _chart(
        f"spread-{name.replace('_', '-')}", f"Distribution: {title}", f"Nodes by {title}.", marks, label, "nodes"
    )


def _value(amount: float, unit: str) -> str:
    return seconds(float(amount)) if unit == "s" else f"{amount:,.1f}"


def start(moments: Sequence[Moment]) -> list[Picture]:
    """Return GETs begun, bytes of them, and GETs that wait for their first byte, over time."""
    if not moments:
        return []
    width_s = moments[0].width_s
    waiting, begun, size_mb = (
        np.array(column, dtype=np.float64)
        for column in zip(
            *((each.waiting, each.begun / width_s, each.bytes / 1e6 / width_s) for each in moments), strict=True
        )
    )
    return [
        _over_time(
            "queue", "GETs that wait for their first byte", waiting, width_s, lambda value: f"{value:,.1f} at once"
        ),
        _over_time("begun", "GETs begun per second", begun, width_s, lambda value: f"{value:,.1f} per second"),
        _over_time(
            "bytes", "Megabytes of GETs begun, per second", size_mb, width_s, lambda value: f"{size(value * 1e6)}/s"
        ),
    ]


def _over_time(key: str, title: str, amounts: Any, width_s: float, in_words: Callable[[float], str]) -> Picture:
    there = np.flatnonzero(amounts)
    marks = Marks()
    marks.add(
        [in_words(float(amounts[each])) for each in there],
        [f"{seconds(each * width_s)} to {seconds((each + 1) * width_s)}" for each in there.tolist()],
        left=there * width_s,
        right=(there + 1) * width_s,
        bottom=np.zeros(len(there)),
        top=amounts[there],
        paint=GREY,
    )
    about = f"All nodes together, in stretches of {seconds(width_s)}, by the nodes' own clocks."
    return _chart(key, title, about, marks, "seconds since the first GET", "")


def _chart(key: str, title: str, about: str, marks: Marks, x_label: str, y_label: str) -> Picture:
    columns = marks.columns()
    left, right, top = (np.asarray(columns[name], dtype=np.float64) for name in ("left", "right", "top"))
    low, high = float(left.min()) if len(left) else 0.0, float(right.max(initial=1e-9))
    plot = blank(key, 180, Range1d(low, high), Range1d(0, float(top.max(initial=0.0)) * 1.1 or 1.0), x_label, y_label)
    pointed_at(plot, [rectangles(plot, key, marks, separated=True)])
    return Picture(
        key=key, title=title, about=about, model=plot, table="", label=printable(f"{title}: {len(marks)} columns")
    )
