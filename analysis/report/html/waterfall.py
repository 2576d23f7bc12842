"""The fetches: queue, connect, first byte, transfer, unpacking. A row each, or packed into rows where they are many."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import FETCH_PARTS
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.report.html.detail import longest, merged, shares
from cvtrace.analysis.report.html.palette import FETCHED, FIRST_ANSWER
from cvtrace.analysis.report.html.pictures import (
    Picture,
    blank,
    name_lanes,
    pointed_at,
    rectangles,
    room_for_labels,
    time_range,
)
from cvtrace.analysis.report.html.scene import Marks, Scene, describe_spans
from cvtrace.analysis.report.names import shortened
from cvtrace.analysis.trace.intervals import Bools, Ints

MOST: Final = 800
"""Fetches that are drawn one by one."""
MERGED: Final = 600
"""Marks of those that are drawn together."""
NAMED: Final = 40
"""Up to so many fetches, each has a row and its name beside it."""
MOST_ROWS: Final = 16
"""Rows into which many fetches are packed: the client downloads at most so many at once."""
ROW, PACKED_ROW, PACKED = 16, 22, 60
"""Pixels of a row, and the least of all packed rows together."""
NAME: Final = 28
"""Characters of a name beside a row."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fetches:
    """The fetches in the order of their table: when each began, the seconds of its parts, when each part ended, its row in the picture."""

    start: Floats
    parts: Floats
    ends: Floats
    row: Ints
    one_by_one: Bools

    @property
    def end(self) -> Floats:
        return self.ends[:, -1]


def picture(scene: Scene) -> Picture | None:
    """Return a row for each fetch, in the order they were sent; many are packed into as many rows as were under way at once."""
    rows = scene.report.fetches
    if not rows:
        return None
    fetches = _fetches(scene)
    marks = Marks()
    for number in range(len(FETCH_PARTS)):
        _add_part(marks, scene, fetches, number)
    packed = len(rows) > NAMED
    lanes = int(fetches.row.max()) + 1
    if not fetches.one_by_one.all():
        _add_merged(marks, scene, fetches, lanes)
        lanes += 1
    plot = blank(
        "waterfall",
        90 + (max(lanes * PACKED_ROW, PACKED) if packed else max(lanes, 2) * ROW),
        time_range("waterfall", scene.duration_s),
        Range1d(lanes - 0.5, -0.5),
        "seconds since the start",
    )
    pointed_at(plot, [rectangles(plot, "waterfall", marks, outlined=not packed)])
    room_for_labels(plot, "waterfall-labels")
    names = [f"at once: {lane + 1}" for lane in range(lanes)] if packed else _row_names(scene)
    if not fetches.one_by_one.all():
        names[-1] = "shorter ones"
    name_lanes(plot, [float(lane) for lane in range(lanes)], names)
    return Picture(
        key="waterfall",
        title="Fetches",
        about=_about(scene, fetches, packed),
        model=plot,
        table="fetches",
        label=f"Waterfall of {pluralize(len(rows), 'fetch')}, the longest {seconds(float(fetches.parts.sum(axis=1).max()))}",
    )


def _fetches(scene: Scene) -> Fetches:
    rows = scene.report.fetches
    parts = np.array([[getattr(row, part.column) for part in FETCH_PARTS] for row in rows])
    start = np.array([row.start_s for row in rows])
    ends = start[:, None] + np.cumsum(parts, axis=1)
    phase = scene.study.get_phase[scene.fetch_order]
    one_by_one = longest(np.rint(parts.sum(axis=1) * 1e9).astype(np.int64), phase, MOST)
    row = np.arange(len(rows)) if len(rows) <= NAMED else _packed(start, ends[:, -1], one_by_one)
    return Fetches(start, parts, ends, row, one_by_one)


def _packed(start: Floats, end: Floats, drawn: Bools) -> Ints:
    """Return the first row that is free when each fetch begins; the last one where none is. At most MOST are drawn."""
    row = np.zeros(len(start), dtype=np.int64)
    free = [-np.inf] * MOST_ROWS
    for place in np.flatnonzero(drawn)[np.argsort(start[drawn], kind="stable")].tolist():
        chosen = next((lane for lane, at in enumerate(free) if at <= start[place]), MOST_ROWS - 1)
        row[place], free[chosen] = chosen, max(free[chosen], float(end[place]))
    return row


def _row_names(scene: Scene) -> list[str]:
    """Return names that are short, and of which the offset is never cut off."""
    names = []
    for name in scene.fetch_names:
        file, at, offset = name.partition(" @ ")
        names.append(f"{shortened(file, NAME - len(at + offset))}{at}{offset}")
    return names


def _about(scene: Scene, fetches: Fetches, packed: bool) -> str:
    rows = scene.report.fetches
    parts = [
        f"{pluralize(len(rows), 'fetch')} over HTTP, {size(sum(row.bytes for row in rows))}. Each waits for the download thread (queue), "
        "connects, waits for the first byte, then for more bytes (transfer), and is unpacked and stored (cache.fill). "
        "The name is the file and where in it the chunk begins."
    ]
    if packed:
        parts.append("Fetches that ran at the same time are in different rows; zoom in to read their names.")
    if not fetches.one_by_one.all():
        parts.append(
            f"The {int(fetches.one_by_one.sum()):,} longest are drawn one by one, the others together in the last row; "
            "its height is the share of time that they took."
        )
    return " ".join(parts)


def _add_part(marks: Marks, scene: Scene, fetches: Fetches, number: int) -> None:
    """Add one part of every fetch that has it; the longest part of a fetch has room for its name."""
    _, name, value = FETCH_PARTS[number]
    rows = scene.report.fetches
    which = np.flatnonzero(fetches.one_by_one & (fetches.parts[:, number] > 0))
    request = scene.study.gets.request[scene.fetch_order][which]
    length = fetches.parts[which, number]
    start = fetches.ends[which, number] - length
    widest = fetches.parts[which].argmax(axis=1) == number
    marks.add(
        [f"fetch {place}, {name}: {scene.fetch_names[place]}" for place in which.tolist()],
        [
            f"{span}; {'prefetched, ' if rows[place].prefetch else ''}{size(rows[place].bytes)}, status {rows[place].status}, {shortened(rows[place].path or rows[place].url, 80)}"
            for place, span in zip(
                which.tolist(), describe_spans(start, np.rint(length * 1e9).astype(np.int64)), strict=True
            )
        ],
        left=start,
        right=start + length,
        bottom=fetches.row[which] - 0.4,
        top=fetches.row[which] + 0.4,
        paint=int(value),
        phase=scene.study.get_phase[scene.fetch_order][which],
        token=np.where(request >= 0, np.append(scene.study.request_token, -1)[request], -1),
        file=scene.file_of(request),
        fetch=which,
        caption=[
            f"{scene.fetch_names[place]}, {size(rows[place].bytes)}\n{size(rows[place].bytes)}" if wide else ""
            for place, wide in zip(which.tolist(), widest.tolist(), strict=True)
        ],
    )


def _add_merged(marks: Marks, scene: Scene, fetches: Fetches, lane: int) -> None:
    """Add the fetches that are not drawn one by one, together by phase and stretch of time."""
    rest = np.flatnonzero(~fetches.one_by_one)
    since = np.rint(fetches.start[rest] * 1e9).astype(np.int64)
    until = np.rint(fetches.end[rest] * 1e9).astype(np.int64)
    phase = scene.study.get_phase[scene.fetch_order][rest]
    groups = merged(since, until, phase[:, None], 0, scene.until - scene.since, MERGED)
    low, high = shares(groups, np.zeros(len(groups), dtype=np.int64))
    marks.add(
        [f"{count:,} shorter fetches together" for count in groups.count.tolist()],
        [
            f"{seconds(total / 1e9)} in all, the longest {seconds(most / 1e9)}"
            for total, most in zip(groups.total.tolist(), groups.longest.tolist(), strict=True)
        ],
        left=groups.start / 1e9,
        right=groups.end / 1e9,
        bottom=lane + 0.4 - 0.8 * high / 1000,
        top=lane + 0.4 - 0.8 * low / 1000,
        paint=FIRST_ANSWER + FETCHED,
        phase=groups.keys[:, 0],
    )
