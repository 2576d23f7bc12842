"""For each file: which offsets were read when, with the borders of tensors and chunks where they are known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.joins.phases import DECODE, PREFILL
from cvtrace.analysis.report.html.borders import Borders, borders
from cvtrace.analysis.report.html.detail import longest, merged
from cvtrace.analysis.report.html.palette import FIRST_ANSWER
from cvtrace.analysis.report.html.pictures import Figure, Picture, blank, pointed_at, points, rectangles, time_range
from cvtrace.analysis.report.html.scene import Marks, Scene, describe_spans
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
POINTED_OUT: Final = 600
"""Reads of generation that are marked by a point as well, so that they can be seen whatever their size: the longest."""
POINT: Final = 7
"""Pixels."""


@dataclass(frozen=True)
class Heat:
    """One file of the heat map: its number, the end of what was read or is known of it, and how much was read."""

    file: int
    name: str
    until_bytes: int
    volume: str

    @property
    def top_mb(self) -> float:
        """Where the picture of the file ends."""
        return self.until_bytes * 1.02 / 1e6


def picture(scene: Scene) -> tuple[Picture, list[Heat]] | None:
    """Return the heat map and its files, that of the most bytes first; one renderer for each, the first is shown."""
    requests = scene.study.requests
    reads = np.flatnonzero(requests.is_(Opcode.READ) & (requests.offset >= 0) & (scene.files.of_request >= 0))
    if not requests.read_bytes[reads].any():  # none, or none that was answered while the recording ran
        return None
    file = scene.files.of_request[reads]
    total = np.bincount(file, weights=requests.read_bytes[reads])
    chosen = np.argsort(-total, kind="stable")[:FILES]
    chosen = chosen[total[chosen] > 0]
    y_range = Range1d(0, 1, name="offset")
    plot = blank(
        "heat", 360, time_range("heat", scene.duration_s), y_range, "seconds since the start", "offset in MB", "both"
    )
    heats, renderers = [], []
    for place, number in enumerate(chosen.tolist()):
        of_file = reads[file == number]
        known = borders(scene, number)
        marks = _marks(scene, of_file, known, place > 0)
        renderers.append(rectangles(plot, f"heat-{place}", marks, outlined=True, visible=place == 0))
        evidence = points(plot, f"heat-evidence-{place}", _evidence(scene, of_file, known), size=POINT)
        evidence.visible = place == 0
        renderers.append(evidence)
        end = int((requests.offset + requests.read_bytes)[of_file].max())
        end = max(end, int(known.end.max(initial=0)))
        volume = f"{pluralize(len(of_file), 'read')}, {size(float(total[number]))}"
        heats.append(Heat(number, scene.file_names[number], end, volume))
        _draw_borders(plot, scene, place, known)
    y_range.end = heats[0].top_mb
    pointed_at(plot, renderers)
    further = int((total > 0).sum()) - len(heats)
    more = f" {pluralize(further, 'further file')} of fewer bytes read: see the table of files." if further else ""
    waiting = "a token" if scene.report.tokens else "the program"
    return (
        Picture(
            key="heat",
            title="Reads by offset",
            about=f"Which part of a file was read when. A point marks a read that {waiting} waited for, whatever its size. "
            "Lines are borders: strong ones of chunks, faint ones of tensors." + more,
            model=plot,
            table="files",
            label=f"Reads of {pluralize(len(heats), 'file')} by offset and time",
        ),
        heats,
    )


def _draw_borders(plot: Figure, scene: Scene, place: int, known: Borders) -> None:
    """Draw a line at each border; the lines are shown with their file."""
    for kind, alpha in (("chunk", 0.55), ("tensor", 0.12)):
        offsets = known.of_kind(kind)
        if not len(offsets):
            continue
        at = np.unique(offsets) / 1e6
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


def _marks(scene: Scene, reads: Ints, known: Borders, smaller: bool) -> Marks:
    study = scene.study
    requests = study.requests
    paint = FIRST_ANSWER + scene.answer_of_request[reads]
    length = requests.replied[reads] - requests.sent[reads]
    chosen = longest(length, study.request_phase[reads], ONE_BY_ONE[smaller])
    marks = Marks()
    _add_reads(marks, scene, reads[chosen], known)
    rest = reads[~chosen]
    if len(rest):
        _add_merged(scene, marks, rest, paint[~chosen], MERGED[smaller])
    return marks


def _evidence(scene: Scene, reads: Ints, known: Borders) -> Marks:
    """Return the longest reads that tokens waited for, of a program without tokens the longest of all."""
    requests, token = scene.study.requests, scene.study.request_token
    phase = scene.study.request_phase[reads]
    generating = np.isin(phase, (PREFILL, DECODE))
    waited_for = reads[generating if scene.report.tokens else requests.by_target[reads]]
    length = requests.replied[waited_for] - requests.sent[waited_for]
    marks = Marks()
    _add_reads(marks, scene, waited_for[longest(length, token[waited_for], POINTED_OUT, each=2)], known)
    return marks


def _add_reads(marks: Marks, scene: Scene, reads: Ints, known: Borders) -> None:
    study, requests = scene.study, scene.study.requests
    start = scene.second(requests.sent[reads])
    at, until = requests.offset[reads], (requests.offset + requests.read_bytes)[reads]
    tensors = known.names_at(at)
    marks.add(
        [
            f"READ {size(float(much))} at {place:,}{f' in {name}' if name else ''}"
            for place, much, name in zip(at.tolist(), (until - at).tolist(), tensors, strict=True)
        ],
        describe_spans(start, requests.replied[reads] - requests.sent[reads]),
        left=start,
        right=scene.second(requests.replied[reads]),
        bottom=at / 1e6,
        top=until / 1e6,
        paint=FIRST_ANSWER + scene.answer_of_request[reads],
        phase=study.request_phase[reads],
        token=study.request_token[reads],
        file=scene.files.of_request[reads],
        fetch=scene.fetch_of_request[reads],
    )


def _add_merged(scene: Scene, marks: Marks, rest: Ints, paint: Ints, room: int) -> None:
    requests = scene.study.requests
    end = int((requests.offset + requests.read_bytes)[rest].max())
    for bands in BANDS:
        width = max(-(-end // bands), 1)
        keys = np.column_stack([requests.offset[rest] // width, scene.study.request_phase[rest], paint])
        groups = merged(requests.sent[rest], requests.replied[rest], keys, scene.since, scene.until, room, COARSEST)
        if len(groups) <= room:
            break
    band, phase, kind = groups.keys.T
    marks.add(
        [
            f"{many:,} reads near {place * width / 1e6:.1f} MB"
            for many, place in zip(groups.count.tolist(), band.tolist(), strict=True)
        ],
        [
            f"{seconds(total / 1e9)} in all, the longest {seconds(most / 1e9)}"
            for total, most in zip(groups.total.tolist(), groups.longest.tolist(), strict=True)
        ],
        left=scene.second(groups.start),
        right=scene.second(groups.end),
        bottom=band * width / 1e6,
        top=(band + 1) * width / 1e6,
        paint=kind,
        phase=phase,
        file=scene.files.of_request[rest[0]],
    )
