"""What happened when: phases and tokens, the target's threads, FUSE requests, the cache, the fetches, on one axis.

Tracks are named in `tracks`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.models import Range1d

from cvtrace.analysis.attribution.critical_path import CriticalPath
from cvtrace.analysis.contract.classes import LABELS, Class
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.joins.phases import DECODE, PREFILL
from cvtrace.analysis.report.html.detail import longest, merged, shares
from cvtrace.analysis.report.html.palette import ANSWERS, CLASSES, FIRST_ANSWER, of_phase
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
from cvtrace.analysis.report.html.tracks import download_names, thread_names, worker_names
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Kind, Opcode

ROOM: Final = {"threads": (1500, 2000), "requests": (1500, 2000), "cache": (400, 800), "fetches": (800, 1000)}
"""Most marks of each band: one by one, and merged. The library draws some 250 marks in a millisecond."""
SEGMENTS: Final = 1500
THREADS: Final = 8
WORKERS: Final = 6
CONNECTIONS: Final = 4
ROW: Final = 22
EVIDENCE: Final = 1200
"""READs of tokens that have a point of their own, the longest."""
POINT: Final = 9
"""Size of a point in pixels."""


@dataclass(frozen=True)
class Particulars:
    """What is known of intervals that are drawn one by one: token and fetch, a line on each, and what is written into it."""

    token: Ints
    fetch: Ints
    what: list[str]
    caption: list[str]


@dataclass(frozen=True)
class Intervals:
    """What one band of the timeline shows, before it is reduced; `lane` counts from the band's first lane.

    Most are merged. Those that are not have `particulars`, which are made of their numbers when it is known which they are.
    """

    start: Ints
    end: Ints
    lane: Ints
    paint: Ints
    phase: Ints
    file: Ints
    particulars: Callable[[Ints], Particulars]

    def __len__(self) -> int:
        return len(self.start)


def picture(scene: Scene) -> Picture:
    """Return the timeline; the longest of every phase are drawn one by one, the rest together."""
    marks, thin, evidence = Marks(), Marks(), Marks()
    names = _phases(scene, marks)
    if _reads_of_tokens(scene, evidence, len(names)):
        names.append("reads of tokens")
    bands = {
        "threads": _threads(scene),
        "requests": _requests(scene),
        "cache": _cache(scene),
        "fetches": _fetches(scene),
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
        renderers.append(points(plot, "evidence", evidence, POINT))
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
        _request_lines(scene, reads, file, FIRST_ANSWER + scene.answer_of_request[reads]),
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


def _threads(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the critical path, and below it the threads of the target that were off the CPU most often."""
    study = scene.study
    waiting, often = np.unique(study.waits.tid, return_counts=True)
    tids = waiting[np.argsort(-often, kind="stable")][:THREADS]
    first, last = study.recording.threads.lives(tids)
    first, last = np.clip(first, scene.since, scene.until), np.clip(last, scene.since, scene.until)
    steps = study.threads.between(tids, first, last)
    path = study.critical_path
    names = thread_names(scene, tids)
    carrier = study.segments.thread[path.of]
    band = _intervals_of_paths(
        scene, path, steps, carrier, tids[steps.of], dict(zip(tids.tolist(), names, strict=True))
    )
    further = len(waiting) - len(tids)
    labels = ["critical path", *names]
    labels[-1] += f" (+{further})" if further > 0 else ""
    return band, labels


def _intervals_of_paths(
    scene: Scene, path: CriticalPath, steps: CriticalPath, carrier: Ints, tid: Ints, names: dict[int, str]
) -> Intervals:
    thread, request = _narrow(carrier, tid), _narrow(path.request, steps.request)
    start = np.concatenate([path.start, steps.start])
    paint, file = _narrow(path.value, steps.value), _narrow(scene.file_of(request))

    def particulars(chosen: Ints) -> Particulars:
        threads = [f"{names.get(each, 'thread')} ({each})" for each in thread[chosen].tolist()]
        return Particulars(
            token=scene.token_at(thread[chosen], start[chosen]),
            fetch=pick(scene.fetch_of_request, request[chosen], -1),
            what=_lines(scene, threads, file[chosen], paint[chosen]),
            caption=[LABELS[each] for each in paint[chosen].tolist()],
        )

    return Intervals(
        start=start,
        end=np.concatenate([path.end, steps.end]),
        lane=_narrow(np.zeros(len(path.of)), steps.of + 1),
        paint=paint,
        phase=_narrow(scene.study.phases.row_at(thread, start)),
        file=file,
        particulars=particulars,
    )


def _narrow(*columns: npt.NDArray[Any]) -> Any:
    """Join columns that number few things: of every thread's every moment, each eight bytes more are felt."""
    return np.concatenate(columns, dtype=np.int32, casting="unsafe")


def _requests(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the FUSE requests by the worker that answered; coloured by where the answer came from."""
    study = scene.study
    requests = study.requests
    workers = np.unique(requests.worker[requests.worker >= 0])
    inside = np.flatnonzero((requests.replied > scene.since) & (requests.sent < scene.until))
    paint = FIRST_ANSWER + scene.answer_of_request[inside]

    def particulars(chosen: Ints) -> Particulars:
        request = inside[chosen]
        return Particulars(
            token=study.request_token[request],
            fetch=scene.fetch_of_request[request],
            what=_request_lines(scene, request, scene.files.of_request[request], paint[chosen]),
            caption=[""] * len(chosen),
        )

    band = Intervals(
        start=requests.sent[inside],
        end=requests.replied[inside],
        lane=np.searchsorted(workers, np.maximum(requests.worker[inside], 0)) % WORKERS,
        paint=paint,
        phase=study.request_phase[inside],
        file=scene.files.of_request[inside],
        particulars=particulars,
    )
    return band, worker_names(len(workers), WORKERS)


def _request_lines(scene: Scene, request: Ints, file: Ints, paint: Ints) -> list[str]:
    """Return a line on each request: its name, bytes and offset, and its file."""
    requests = scene.study.requests
    names = [
        _opcode(opcode) + _how_much(much) + (f" at {offset:,}" if offset >= 0 else "")
        for opcode, offset, much in zip(
            requests.opcode[request].tolist(),
            requests.offset[request].tolist(),
            requests.read_bytes[request].tolist(),
            strict=True,
        )
    ]
    return _lines(scene, names, file, paint)


def _cache(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return what the client's workers read from the cache on disk."""
    study = scene.study
    rows = study.recording.of(Kind.CACHE_READ)
    rows = rows.where((rows.end > scene.since) & (rows.start < scene.until))
    request = study.requests.of_worker(rows.tid, rows.start)
    paint, file = np.full(len(rows), int(Class.CACHE_READ), dtype=np.int64), scene.file_of(request)

    def particulars(chosen: Ints) -> Particulars:
        names = [f"cache file read{_how_much(much)}" for much in rows.ret[chosen].tolist()]
        return Particulars(
            token=pick(study.request_token, request[chosen], -1),
            fetch=np.full(len(chosen), -1, dtype=np.int64),
            what=_lines(scene, names, file[chosen], paint[chosen]),
            caption=[""] * len(chosen),
        )

    band = Intervals(
        start=rows.start,
        end=rows.end,
        lane=np.zeros(len(rows), dtype=np.int64),
        paint=paint,
        phase=pick(study.request_phase, request, -1),
        file=file,
        particulars=particulars,
    )
    return band, ["client's disk cache"]


def _fetches(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the fetches by connection, cut into what they waited for."""
    study = scene.study
    gets = study.gets
    order = scene.fetch_order
    sockets = np.unique(gets.descriptor)
    lane = np.searchsorted(sockets, gets.descriptor) % CONNECTIONS
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    pieces = study.job_time.pieces()
    there = np.flatnonzero(pieces.end > pieces.start)
    get, paint = pieces.get[there], pieces.value[there]
    file = scene.file_of(gets.request[get])

    def particulars(chosen: Ints) -> Particulars:
        return Particulars(
            token=pick(study.request_token, gets.request[get[chosen]], -1),
            fetch=rank[get[chosen]],
            what=[
                f"fetch {row}: {scene.fetch_names[row]} ({LABELS[kind]})"
                for row, kind in zip(rank[get[chosen]].tolist(), paint[chosen].tolist(), strict=True)
            ],
            caption=[scene.fetch_names[row] for row in rank[get[chosen]].tolist()],
        )

    band = Intervals(pieces.start[there], pieces.end[there], lane[get], paint, study.get_phase[get], file, particulars)
    count = max(min(len(sockets), CONNECTIONS), 1)
    return band, download_names(scene, lane, count)


def _lines(scene: Scene, names: Sequence[str], file: Ints, paint: Ints) -> list[str]:
    """Return one line on each interval: its name, its file, its class."""
    return [
        name + (f" {scene.short_files[of]}" if of >= 0 else "") + (f" ({LABELS[kind]})" if kind < CLASSES else "")
        for name, of, kind in zip(names, file.tolist(), paint.tolist(), strict=True)
    ]


def _how_much(number: int) -> str:
    return f" {size(float(number))}" if number > 0 else ""


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
            f"{number:,} together: {_kind(kind)}"
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


def _kind(paint: int) -> str:
    """Return what a class, or the answer to a request, is called."""
    return LABELS[paint] if paint < CLASSES else f"requests answered {ANSWERS[paint - FIRST_ANSWER][1]}"


def _opcode(number: int) -> str:
    try:
        return Opcode(number).name
    except ValueError:
        return f"request {number}"
