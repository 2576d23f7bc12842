"""The fetches one below the other: queue, connect, first byte, transfer, fill."""

from typing import Final

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.report.html.detail import longest
from cvtrace.analysis.report.html.pictures import Picture, blank, name_lanes, pointed_at, rectangles, time_range
from cvtrace.analysis.report.html.scene import Marks, Scene, spans_told
from cvtrace.analysis.report.names import printable, shortened

MOST: Final = 800
"""Fetches that are drawn one by one."""
NAMED: Final = 40
"""Up to so many fetches, each has its name beside it."""
PARTS: Final = (
    ("queue", Class.NETWORK_QUEUE),
    ("connect", Class.NETWORK_CONNECT),
    ("first byte", Class.NETWORK_REQUEST),
    ("transfer", Class.NETWORK_TRANSFER),
    ("fill", Class.CACHE_FILL),
)


def picture(scene: Scene) -> Picture | None:
    """Return a row for each fetch, in the order they were sent; of very many, the longest, and a block for those between."""
    rows = scene.report.fetches
    if not rows:
        return None
    parts = np.array([[row.queue_s, row.connect_s, row.request_s, row.transfer_s, row.fill_s] for row in rows])
    start = np.array([row.start_s for row in rows])
    ends = start[:, None] + np.cumsum(parts, axis=1)
    phase = scene.study.get_phase[scene.fetch_order]
    kept = longest(np.rint(parts.sum(axis=1) * 1e9).astype(np.int64), phase, MOST)
    marks = Marks()
    chosen = np.flatnonzero(kept)
    request = scene.study.gets.request[scene.fetch_order]
    token = np.where(request >= 0, np.append(scene.study.request_token, -1)[request], -1)
    labels = [_label(rows[place].path or rows[place].url) for place in range(len(rows))] if len(rows) <= NAMED else []
    for number, (name, value) in enumerate(PARTS):
        there = chosen[parts[chosen, number] > 0]
        left = (ends - parts)[there, number]
        marks.add(
            [
                f"fetch {place}, {name}: {shortened(rows[place].path or rows[place].url, 80)}"
                for place in there.tolist()
            ],
            [
                f"{told}; {size(rows[place].bytes)}, status {rows[place].status}"
                for place, told in zip(
                    there.tolist(),
                    spans_told(left, np.rint(parts[there, number] * 1e9).astype(np.int64)),
                    strict=True,
                )
            ],
            left=left,
            right=ends[there, number],
            bottom=there - 0.4,
            top=there + 0.4,
            paint=int(value),
            phase=phase[there],
            token=token[there],
            file=scene.file_of(request[there]),
            fetch=there,
        )
    _blocks(marks, kept, start, ends[:, -1])
    height = 90 + min(max(len(rows), 2) * 16, 420)
    plot = blank(
        "waterfall",
        height,
        time_range("waterfall", scene.duration_s),
        Range1d(len(rows) - 0.5, -0.5),
        "seconds since the start",
        "" if labels else "fetch",
        "both",
    )
    pointed_at(plot, [rectangles(plot, "waterfall", marks, outlined=True)])
    if labels:
        name_lanes(plot, [float(place) for place in range(len(rows))], labels)
    total = sum(row.bytes for row in rows)
    return Picture(
        key="waterfall",
        title="Fetches",
        about=f"{pluralize(len(rows), 'fetch')} over HTTP in the order they were sent, {size(total)}: waiting for the download thread, "
        "connecting, waiting for the first byte, for further bytes, then unpacking and storing."
        + ("" if kept.all() else f" The {int(kept.sum()):,} longest one by one, blocks for those between."),
        model=plot,
        table="fetches",
        label=f"Waterfall of {pluralize(len(rows), 'fetch')}, the longest {seconds(float(parts.sum(axis=1).max()))}",
    )


def _blocks(marks: Marks, kept: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """Add a block over each stretch of fetches that are not drawn one by one."""
    others = np.flatnonzero(~kept)
    if not len(others):
        return
    width = max(1, len(kept) // MOST)
    new = np.append(True, (np.diff(others) > 1) | (others[1:] // width != others[:-1] // width))
    first = np.flatnonzero(new)
    count = np.diff(np.append(first, len(others)))
    marks.add(
        [
            f"fetches {others[place]} to {others[place] + many - 1}"
            for place, many in zip(first.tolist(), count.tolist(), strict=True)
        ],
        [f"{many} together" for many in count.tolist()],
        left=np.minimum.reduceat(start[others], first),
        right=np.maximum.reduceat(end[others], first),
        bottom=others[first] - 0.5,
        top=others[first] + count - 0.5,
        paint=int(Class.NETWORK_SHARED),
    )


def _label(path: str) -> str:
    name = printable(path).rstrip("/").rpartition("/")[2]
    return shortened(name, 16)
