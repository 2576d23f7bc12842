"""What happened when: phases and tokens, the target's threads, FUSE requests, the cache, the fetches, on one axis.

Tracks are named in `tracks`.
"""

from typing import Any, Final

import numpy as np
from bokeh.models import Range1d

from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.joins.phases import DECODE, PREFILL
from cvtrace.analysis.report.html.detail import longest, merged, shares
from cvtrace.analysis.report.html.palette import CLASSES, FIRST_ANSWER, of_phase
from cvtrace.analysis.report.html.pictures import (
    Picture,
    blank,
    name_lanes,
    pointed_at,
    points,
    rectangles,
    room_for_labels,
    time_range,
)
from cvtrace.analysis.report.html.scene import Marks, Scene, describe_spans
from cvtrace.analysis.report.html.timeline_bands import (
    Intervals,
    cache_band,
    fetches_band,
    kind_of_paint,
    request_lines,
    requests_band,
    threads_band,
)
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.probes.events import Opcode

ROOM: Final = {"threads": (1500, 2000), "requests": (1500, 2000), "cache": (400, 800), "fetches": (800, 1000)}
"""Most marks of each band: one by one, and merged. The library draws some 250 marks in a millisecond."""
SEGMENTS: Final = 1500
ROW: Final = 22
EVIDENCE: Final = 1200
"""READs of tokens that have a point of their own, the longest."""
POINT: Final = 9
"""Size of a point in pixels."""


def picture(scene: Scene) -> Picture:
    """Return the timeline; the longest of every phase are drawn one by one, the rest together."""
    marks, thin, evidence = Marks(), Marks(), Marks()
    names = _phases(scene, marks)
    if _reads_of_tokens(scene, evidence, len(names)):
        names.append("reads of tokens")
    bands = {
        "threads": threads_band(scene),
        "requests": requests_band(scene),
        "cache": cache_band(scene),
        "fetches": fetches_band(scene),
    }
    merged_any = False
    for kind, (band, labels) in bands.items():
        if not len(band):
            continue
        one_by_one = thin if kind in ("requests", "cache") else marks
        merged_any |= _draw(scene, band, len(names), ROOM[kind], one_by_one, marks)
        names += labels
    plot = blank(
        "timeline",
        90 + ROW * len(names),
        time_range("timeline", scene.duration_s),
        Range1d(len(names) - 0.5, -0.5),
        "seconds since the start",
    )
    renderers = [rectangles(plot, "timeline", marks), rectangles(plot, "events", thin, outlined=True)]
    if len(evidence):
        renderers.append(points(plot, "evidence", evidence, size=POINT))
    pointed_at(plot, renderers)
    room_for_labels(plot, "timeline-labels")
    name_lanes(plot, [float(place) for place in range(len(names))], names)
    requests = pluralize(len(scene.study.requests), "FUSE request")
    return Picture(
        key="timeline",
        title="Timeline",
        about=_about(merged_any, bool(len(evidence))),
        model=plot,
        table="waits",
        label=f"Timeline of {seconds(scene.duration_s)}: {requests}, {pluralize(len(scene.study.gets), 'fetch')}",
    )


def _about(merged_any: bool, evidence: bool) -> str:
    parts = [
        "From top to bottom: phases and tokens; what the run waited for (critical path); the program's threads; the client's workers with "
        "the FUSE requests they answer; its cache on disk; its downloads."
    ]
    if evidence:
        parts.append("A triangle marks a READ that a token waited for, whatever its length.")
    if merged_any:
        parts.append(
            "A bar as high as its track is one event. Short events of the same kind are drawn together: "
            "the height of such a bar is the share of time that they took."
        )
    return " ".join([*parts, "Drag to zoom, or Ctrl and the wheel."])


def _phases(scene: Scene, marks: Marks) -> list[str]:
    """Add the lanes of phases, and of tokens if there are any."""
    segments, calls = scene.study.segments, scene.study.phase_calls
    drawn = np.flatnonzero(longest(segments.end - segments.start, segments.row, SEGMENTS))
    start = scene.second(segments.start[drawn])
    row = segments.row[drawn]
    phases = [scene.phases[each] for each in row.tolist()]
    marks.add(
        phases,
        describe_spans(start, (segments.end - segments.start)[drawn]),
        left=start,
        right=scene.second(segments.end[drawn]),
        bottom=-0.4,
        top=0.4,
        paint=[of_phase(each) for each in row.tolist()],
        phase=row,
        caption=phases,
    )
    tokens = np.flatnonzero(calls.token >= 0)
    if not len(tokens):
        return ["phase"]
    tokens = tokens[longest((calls.end - calls.start)[tokens], calls.row[tokens], SEGMENTS)]
    start = scene.second(calls.start[tokens])
    number = calls.token[tokens]
    marks.add(
        [f"token {each}" for each in number.tolist()],
        describe_spans(start, (calls.end - calls.start)[tokens]),
        left=start,
        right=scene.second(calls.end[tokens]),
        bottom=0.6,
        top=1.4,
        paint=CLASSES + number % 2,
        phase=calls.row[tokens],
        token=number,
        caption=[f"token {each}\n{each}" for each in number.tolist()],
    )
    return ["phase", "token"]


def _reads_of_tokens(scene: Scene, evidence: Marks, lane: int) -> int:
    """Add a point for each READ that a prefill or a token waited for, of very many the longest; return how many."""
    study, requests = scene.study, scene.study.requests
    generating = np.isin(study.request_phase, (PREFILL, DECODE)) & requests.is_(Opcode.READ) & requests.by_target
    reads = np.flatnonzero(generating)
    if not len(reads):
        return 0
    length = requests.replied[reads] - requests.sent[reads]
    reads = reads[longest(length, study.request_token[reads], EVIDENCE, each=3)]
    start = scene.second(requests.sent[reads])
    file = scene.files.of_request[reads]
    evidence.add(
        request_lines(scene, reads, file, FIRST_ANSWER + scene.answer_of_request[reads]),
        describe_spans(start, requests.replied[reads] - requests.sent[reads]),
        left=start,
        right=scene.second(requests.replied[reads]),
        bottom=float(lane),
        top=float(lane),
        paint=FIRST_ANSWER + scene.answer_of_request[reads],
        phase=study.request_phase[reads],
        token=study.request_token[reads],
        file=file,
        fetch=scene.fetch_of_request[reads],
    )
    return len(reads)


def _draw(scene: Scene, band: Intervals, base: int, room: tuple[int, int], marks: Marks, below: Marks) -> bool:
    """Add a band from lane `base` on, what is merged `below`; return whether some of it was merged."""
    one_by_one = longest(band.end - band.start, band.phase, room[0])
    _draw_merged(scene, band, np.flatnonzero(~one_by_one), base, room[1], below)
    chosen = np.flatnonzero(one_by_one)
    start, particulars = scene.second(band.start[chosen]), band.particulars(chosen)
    marks.add(
        particulars.what,
        describe_spans(start, (band.end - band.start)[chosen]),
        left=start,
        right=scene.second(band.end[chosen]),
        bottom=base + band.lane[chosen] - 0.4,
        top=base + band.lane[chosen] + 0.4,
        paint=band.paint[chosen],
        phase=band.phase[chosen],
        token=particulars.token,
        file=band.file[chosen],
        fetch=particulars.fetch,
        caption=particulars.caption,
    )
    return not bool(one_by_one.all())


def _draw_merged(scene: Scene, band: Intervals, rest: Ints, base: int, room: int, marks: Marks) -> None:
    if not len(rest):
        return
    # Narrow, and a column after the other: there may be millions of them.
    keys: Any = np.array([column[rest] for column in (band.lane, band.phase, band.file, band.paint)], dtype=np.int32).T
    groups = merged(band.start[rest], band.end[rest], keys, scene.since, scene.until, room)
    lane, phase, file, paint = groups.keys.T
    bottom, top = shares(groups, lane)
    marks.add(
        [
            f"{number:,} together: {kind_of_paint(kind)}"
            for number, kind in zip(groups.count.tolist(), paint.tolist(), strict=True)
        ],
        [
            f"{seconds(total / 1e9)} in all, the longest {seconds(most / 1e9)}"
            for total, most in zip(groups.total.tolist(), groups.longest.tolist(), strict=True)
        ],
        left=scene.second(groups.start),
        right=scene.second(groups.end),
        bottom=base + lane + 0.4 - 0.8 * top / 1000,
        top=base + lane + 0.4 - 0.8 * bottom / 1000,
        paint=paint,
        phase=phase,
        file=file,
    )
