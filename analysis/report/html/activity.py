"""How much was going on when: bytes downloaded and read in each second, fetches and requests under way at once."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.models import Range1d

from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.report.html.palette import CLASSES, FETCHED, FIRST_ANSWER
from cvtrace.analysis.report.html.pictures import Picture, blank, name_lanes, pointed_at, rectangles, time_range
from cvtrace.analysis.report.html.scene import Marks, Scene
from cvtrace.analysis.report.html.tables import Column, Table
from cvtrace.probes.events import Opcode

STRETCHES: Final = 240
"""Intervals that the visible time is divided into."""
KNOTS: Final = 4096
"""A sum over time travels to the page as at most twice so many points: half of them evenly in time, half where most happens."""
LANE: Final = 48
GREY: Final = CLASSES + 1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lane:
    """One lane: its name, what each stretch has of it, and what is counted: bytes each second, or things at once."""

    name: str
    heights: Floats
    in_bytes: bool
    paint: int
    sums: "Sums"
    """The amount up to each time, from which the page computes finer bars when it is zoomed."""

    @property
    def most(self) -> float:
        return float(self.heights.max(initial=0.0))

    def written(self, value: float) -> str:
        """Return a value as it is read."""
        return f"{size(value)}/s" if self.in_bytes else f"{value:.2g} at once"


def picture(scene: Scene) -> Picture | None:
    """Return a lane for each quantity that is not nothing, all on the axis of time."""
    lanes = _lanes(scene)
    if not lanes:
        return None
    edges = _edges(scene)
    marks = Marks()
    for place, lane in enumerate(lanes):
        there = np.flatnonzero(lane.heights > 0)
        marks.add(
            [f"{lane.name}: {lane.written(value)}" for value in lane.heights[there].tolist()],
            [f"mean of {seconds(edges[1] - edges[0])} at {at:.6f} s" for at in edges[there].tolist()],
            left=edges[there],
            right=edges[there + 1],
            bottom=place + 0.42,
            top=place + 0.42 - 0.84 * lane.heights[there] / lane.most,
            paint=lane.paint,
        )
    plot = blank(
        "activity",
        70 + LANE * len(lanes),
        time_range("activity", scene.duration_s),
        Range1d(len(lanes) - 0.5, -0.5),
        "seconds since the start",
    )
    pointed_at(plot, [rectangles(plot, "activity", marks)])
    name_lanes(
        plot,
        [float(place) for place in range(len(lanes))],
        [f"{lane.name}, ≤ {lane.written(lane.most)}" for lane in lanes],
    )
    return Picture(
        key="activity",
        title="Throughput and concurrency",
        about="Bytes that were downloaded and that the program read per second, and the number of fetches and FUSE requests in progress. "
        f"Each bar is the mean of {seconds(edges[1] - edges[0])}, and of less when the picture is zoomed in. The highest bar of each row is "
        "written beside it.",
        model=plot,
        table="activity",
        label="; ".join(f"{lane.name} up to {lane.written(lane.most)}" for lane in lanes),
    )


def table(scene: Scene) -> Table:
    """Return the same as text."""
    lanes, edges = _lanes(scene), _edges(scene)
    columns = (
        Column("start", "s", edges[:-1].tolist()),
        *(
            Column(f"{lane.name}/s" if lane.in_bytes else lane.name, "bytes" if lane.in_bytes else "n", _rounded(lane))
            for lane in lanes
        ),
    )
    return Table("activity", "Throughput and concurrency", columns, {}, STRETCHES if lanes else 0)


def zoomable(scene: Scene) -> list[dict[str, Any]]:
    """Return what the page needs to draw the lanes for any part of the time."""
    return [
        {
            "name": lane.name,
            "bytes": lane.in_bytes,
            "paint": lane.paint,
            "at": np.round(lane.sums.at, 7).tolist(),
            "total": np.round(lane.sums.total, 0 if lane.in_bytes else 7).tolist(),
        }
        for lane in _lanes(scene)
    ]


def _rounded(lane: Lane) -> list[float]:
    rounded: list[float] = np.round(lane.heights, 0 if lane.in_bytes else 3).tolist()
    return rounded


def _edges(scene: Scene) -> Floats:
    return np.linspace(0.0, scene.duration_s, STRETCHES + 1)


def _lanes(scene: Scene) -> list[Lane]:
    edges = _edges(scene)
    rows, requests = scene.report.fetches, scene.study.requests
    begin = np.array([row.start_s for row in rows])
    first_byte = begin + np.array([row.queue_s + row.connect_s + row.request_s for row in rows])
    end = first_byte + np.array([row.transfer_s + row.fill_s for row in rows])
    in_run = np.flatnonzero(requests.by_target & (requests.sent < scene.until) & (requests.replied > scene.since))
    sent, replied = scene.second(requests.sent[in_run]), scene.second(requests.replied[in_run])
    read = np.where(requests.is_(Opcode.READ)[in_run], requests.read_bytes[in_run], 0)
    network = FIRST_ANSWER + FETCHED
    of_run = (
        ("downloaded", sums(first_byte, end, np.array([row.bytes for row in rows])), True, network),
        ("read", sums(sent, replied, read), True, GREY),
        ("fetches", sums(begin, end, end - begin), False, network),
        ("requests", sums(sent, replied, replied - sent), False, GREY),
    )
    lanes = [
        Lane(name, per_second(amounts, edges), in_bytes, paint, thinned(amounts, scene.duration_s))
        for name, amounts, in_bytes, paint in of_run
    ]
    return [lane for lane in lanes if lane.most > 0]


@dataclass(frozen=True)
class Sums:
    """How much of an amount there was up to each time; between two times it grows evenly."""

    at: Floats
    total: Floats


def sums(start: npt.ArrayLike, end: npt.ArrayLike, amount: npt.ArrayLike) -> Sums:
    """Return the sum of amounts over time; each amount is spread evenly from its start to its end.

    Of lengths as amounts, its growth per second is how many are in progress at once.
    """
    start, amount = np.asarray(start, dtype=np.float64), np.asarray(amount, dtype=np.float64)
    end = np.maximum(np.asarray(end, dtype=np.float64), start + 1e-9)
    if not len(start):
        return Sums(np.zeros(1), np.zeros(1))
    rate = amount / (end - start)
    at = np.concatenate([start, end])
    order = np.argsort(at, kind="stable")
    at, slope = at[order], np.cumsum(np.concatenate([rate, -rate])[order])
    return Sums(at, np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(at))]))


def per_second(amounts: Sums, edges: Floats) -> Floats:
    """Return the mean growth per second of a sum in each interval between the edges."""
    grown: Floats = np.maximum(np.diff(np.interp(edges, amounts.at, amounts.total)), 0.0)
    return grown / np.diff(edges)


def thinned(amounts: Sums, duration_s: float) -> Sums:
    """Return a sum with at most about twice KNOTS points."""
    if len(amounts.at) <= 2 * KNOTS:
        return amounts
    busy = amounts.at[np.linspace(0, len(amounts.at) - 1, KNOTS).astype(np.int64)]
    at = np.unique(np.concatenate([np.linspace(0.0, duration_s, KNOTS), busy]))
    return Sums(at, np.interp(at, amounts.at, amounts.total))
