"""For each file: which offsets were read when, with the borders of tensors and chunks where they are known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.report.html.borders import Borders, borders
from cvtrace.analysis.report.html.detail import longest, merged
from cvtrace.analysis.report.html.pictures import Figure, Picture, blank, pointed_at, rectangles, time_range
from cvtrace.analysis.report.html.scene import Marks, Scene, spans_told
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.probes.events import Opcode

FILES: Final = 8
"""Files that have a heat map, those of the most bytes read."""
ONE_BY_ONE: Final = (6000, 500)
MERGED: Final = (4000, 500)
"""Most marks of the first file and of each other."""
BANDS: Final = (240, 120, 60, 30)
"""Stretches of offset that merged reads are put into: the finest that are not too many."""
COARSEST: Final = 300
"""Stretches of time, likewise."""


@dataclass(frozen=True)
class Heat:
    """One file of the heat map: its number, the end of what was read or is known of it, and what is said of it."""

    file: int
    name: str
    until_bytes: int
    told: str

    @property
    def top_mb(self) -> float:
        """Where the picture of the file ends."""
        return self.until_bytes * 1.02 / 1e6


def picture(scene: Scene) -> tuple[Picture, list[Heat]] | None:
    """Return the heat map and its files, that of the most bytes first; one renderer for each, the first is shown."""
    asked = scene.study.requests
    reads = np.flatnonzero(asked.is_(Opcode.READ) & (asked.offset >= 0) & (scene.files.of_request >= 0))
    if not len(reads):
        return None
    file = scene.files.of_request[reads]
    total = np.bincount(file, weights=asked.read_bytes[reads])
    chosen = np.argsort(-total, kind="stable")[:FILES]
    chosen = chosen[total[chosen] > 0]
    y_range = Range1d(0, 1, name="offset")
    plot = blank(
        "heat", 360, time_range("heat", scene.duration_s), y_range, "seconds since the start", "offset in MB", "both"
    )
    heats, renderers = [], []
    for place, number in enumerate(chosen.tolist()):
        mine = reads[file == number]
        known = borders(scene, number)
        renderer = rectangles(
            plot, f"heat-{place}", _marks(scene, mine, known, place > 0), outlined=True, visible=place == 0
        )
        renderers.append(renderer)
        end = int((asked.offset + asked.read_bytes)[mine].max())
        end = max(end, int(known.end.max(initial=0)))
        told = f"{pluralize(len(mine), 'read')}, {size(float(total[number]))}"
        heats.append(Heat(number, scene.file_names[number], end, told))
        _draw_borders(plot, scene, place, known)
    y_range.end = heats[0].top_mb
    pointed_at(plot, renderers)
    left_out = int((total > 0).sum()) - len(heats)
    more = f" {pluralize(left_out, 'file')} of fewer bytes read: see the table of files." if left_out else ""
    return (
        Picture(
            key="heat",
            title="Reads by offset",
            about="Which part of a file was read when: blue from the client's cache, orange from the network. "
            "Lines are borders: of chunks strong, of tensors faint." + more,
            model=plot,
            table="files",
            label=f"Reads of {pluralize(len(heats), 'file')} by offset and time",
        ),
        heats,
    )


def _draw_borders(plot: Figure, scene: Scene, place: int, known: Borders) -> None:
    """Draw a line at each border; the lines are shown with their file."""
    for kind, alpha in (("chunk", 0.7), ("tensor", 0.2)):
        mine = known.of_kind(kind)
        if not len(mine):
            continue
        at = np.unique(mine) / 1e6
        plot.segment(
            x0=-1.0,
            x1=scene.duration_s * 2,
            y0="at",
            y1="at",
            source=ColumnDataSource(data={"at": at}),
            line_color="#888888",
            line_alpha=alpha,
            line_width=0.8,
            name=f"{kind}-{place}",
            visible=place == 0,
            level="underlay",
        )


def _marks(scene: Scene, reads: Ints, known: Borders, other: bool) -> Marks:
    study = scene.study
    asked, use = study.requests, study.use
    paint = np.where((use.misses + use.shared)[reads] > 0, int(Class.NETWORK_REQUEST), int(Class.CACHE_READ))
    length = asked.replied[reads] - asked.sent[reads]
    kept = longest(length, study.request_phase[reads], ONE_BY_ONE[other])
    marks = Marks()
    one = reads[kept]
    start = scene.second(asked.sent[one])
    at, until = asked.offset[one], (asked.offset + asked.read_bytes)[one]
    where = known.names_at(at)
    marks.add(
        [
            f"{size(float(much))} at {place:,}{f' in {name}' if name else ''}"
            for place, much, name in zip(at.tolist(), (until - at).tolist(), where, strict=True)
        ],
        spans_told(start, length[kept]),
        left=start,
        right=scene.second(asked.replied[one]),
        bottom=at / 1e6,
        top=until / 1e6,
        paint=paint[kept],
        phase=study.request_phase[one],
        token=study.request_token[one],
        file=scene.files.of_request[one],
        fetch=scene.fetch_of_request[one],
    )
    rest = reads[~kept]
    if len(rest):
        _add_merged(scene, marks, rest, paint[~kept], MERGED[other])
    return marks


def _add_merged(scene: Scene, marks: Marks, rest: Ints, paint: Ints, room: int) -> None:
    asked = scene.study.requests
    end = int((asked.offset + asked.read_bytes)[rest].max())
    for bands in BANDS:
        width = max(-(-end // bands), 1)
        keys = np.column_stack([asked.offset[rest] // width, scene.study.request_phase[rest], paint])
        found = merged(asked.sent[rest], asked.replied[rest], keys, scene.since, scene.until, room, COARSEST)
        if len(found) <= room:
            break
    band, phase, kind = found.keys.T
    marks.add(
        [
            f"{many:,} reads near {place * width / 1e6:.1f} MB"
            for many, place in zip(found.count.tolist(), band.tolist(), strict=True)
        ],
        [
            f"{seconds(total / 1e9)} in all, the longest {seconds(most / 1e9)}"
            for total, most in zip(found.total.tolist(), found.longest.tolist(), strict=True)
        ],
        left=scene.second(found.start),
        right=scene.second(found.end),
        bottom=band * width / 1e6,
        top=(band + 1) * width / 1e6,
        paint=kind,
        phase=phase,
        file=scene.files.of_request[rest[0]],
    )
