"""How much was going on when: bytes downloaded and read in each second, fetches and requests under way at once."""

from dataclasses import dataclass
from typing import Final

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
"""Stretches that the time is cut into."""
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
        about="Bytes that were downloaded and that the program read in each second, and how many fetches and FUSE requests were under way at "
        f"once. Each bar is the mean of {seconds(edges[1] - edges[0])}; the highest of each row is beside it.",
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
    lanes = (
        Lane("downloaded", per_second(first_byte, end, np.array([row.bytes for row in rows]), edges), True, network),
        Lane("read", per_second(sent, replied, read, edges), True, GREY),
        Lane("fetches", per_second(begin, end, end - begin, edges), False, network),
        Lane("requests", per_second(sent, replied, replied - sent, edges), False, GREY),
    )
    return [lane for lane in lanes if lane.most > 0]


def per_second(start: npt.ArrayLike, end: npt.ArrayLike, amount: npt.ArrayLike, edges: Floats) -> Floats:
    """Return how much there is of an amount in each second of each stretch; each amount is spread evenly from its start to its end.

    Of lengths as amounts, that is how many are under way at once.
    """
    start, amount = np.asarray(start, dtype=np.float64), np.asarray(amount, dtype=np.float64)
    end = np.maximum(np.asarray(end, dtype=np.float64), start + 1e-9)
    if not len(start):
        return np.zeros(len(edges) - 1)
    rate = amount / (end - start)
    at = np.concatenate([start, end])
    order = np.argsort(at, kind="stable")
    at, slope = at[order], np.cumsum(np.concatenate([rate, -rate])[order])
    total = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(at))])
    amounts: Floats = np.maximum(np.diff(np.interp(edges, at, total)), 0.0)
    return amounts / np.diff(edges)
