"""What happened when: phases and tokens, the target's threads, FUSE requests, the cache, the fetches, on one axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.models import Range1d

from cvtrace.analysis.attribution.critical_path import CriticalPath
from cvtrace.analysis.contract.classes import LABELS, Class
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.report.html.detail import longest, merged, shares
from cvtrace.analysis.report.html.palette import CLASSES, of_phase
from cvtrace.analysis.report.html.pictures import (
    Picture,
    blank,
    name_lanes,
    pointed_at,
    rectangles,
    room_for_labels,
    time_range,
)
from cvtrace.analysis.report.html.scene import Marks, Scene, spans_told
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Kind, Opcode

ROOM: Final = {"threads": (1500, 2000), "requests": (1500, 2000), "cache": (400, 800), "fetches": (800, 1000)}
"""Most marks of each band: one by one, and merged. The library draws some 250 marks in a millisecond."""
SEGMENTS: Final = 1500
THREADS: Final = 8
WORKERS: Final = 6
CONNECTIONS: Final = 4
ROW: Final = 22


@dataclass(frozen=True)
class Told:
    """What is known of intervals that are drawn one by one: token and fetch, and what is said of each."""

    token: Ints
    fetch: Ints
    what: list[str]


@dataclass(frozen=True)
class Intervals:
    """What one band of the timeline shows, before it is reduced; `lane` counts from the band's first lane.

    Most are merged. What only those need that are not is asked for when it is known which: `told` of their numbers.
    """

    start: Ints
    end: Ints
    lane: Ints
    paint: Ints
    phase: Ints
    file: Ints
    told: Callable[[Ints], Told]

    def __len__(self) -> int:
        return len(self.start)


def picture(scene: Scene) -> Picture:
    """Return the timeline; the longest of every phase are drawn one by one, the rest together."""
    marks, thin = Marks(), Marks()
    lanes = _phases(scene, marks)
    bands = {
        "threads": _threads(scene),
        "requests": _requests(scene),
        "cache": _cache(scene),
        "fetches": _fetches(scene),
    }
    names = list(lanes)
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
    pointed_at(plot, [rectangles(plot, "timeline", marks), rectangles(plot, "events", thin, outlined=True)])
    room_for_labels(plot, "timeline-labels")
    name_lanes(plot, [float(place) for place in range(len(names))], names)
    asked = pluralize(len(scene.study.requests), "FUSE request")
    return Picture(
        key="timeline",
        title="Timeline",
        about="What waited for what: the thread that carries each phase, other threads, the client's workers, its cache and its "
        "connections. A FUSE request is orange if it had to be fetched, blue if it was in the client's cache. Drag to zoom, "
        "Ctrl and the wheel too."
        + (
            " The longest waits of every phase are drawn one by one; shorter ones together, and say how many."
            if merged_any
            else ""
        ),
        model=plot,
        table="waits",
        label=f"Timeline of {seconds(scene.duration_s)}: {asked}, {pluralize(len(scene.study.gets), 'fetch')}",
    )


def _phases(scene: Scene, marks: Marks) -> list[str]:
    """Add the lanes of phases, and of tokens if there are any."""
    segments, calls = scene.study.segments, scene.study.phase_calls
    kept = np.flatnonzero(longest(segments.end - segments.start, segments.row, SEGMENTS))
    start = scene.second(segments.start[kept])
    row = segments.row[kept]
    marks.add(
        [scene.phases[each] for each in row.tolist()],
        spans_told(start, (segments.end - segments.start)[kept]),
        left=start,
        right=scene.second(segments.end[kept]),
        bottom=-0.4,
        top=0.4,
        paint=[of_phase(each) for each in row.tolist()],
        phase=row,
    )
    tokens = np.flatnonzero(calls.token >= 0)
    if not len(tokens):
        return ["phase"]
    tokens = tokens[longest((calls.end - calls.start)[tokens], calls.row[tokens], SEGMENTS)]
    start = scene.second(calls.start[tokens])
    number = calls.token[tokens]
    marks.add(
        [f"token {each}" for each in number.tolist()],
        spans_told(start, (calls.end - calls.start)[tokens]),
        left=start,
        right=scene.second(calls.end[tokens]),
        bottom=0.6,
        top=1.4,
        paint=CLASSES + number % 2,
        phase=calls.row[tokens],
        token=number,
    )
    return ["phase", "token"]


def _threads(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the critical path, and below it the threads of the target that were off the CPU most often."""
    study = scene.study
    waiting, often = np.unique(study.waits.tid, return_counts=True)
    tids = waiting[np.argsort(-often, kind="stable")][:THREADS]
    events = study.recording.all
    mine = [events.tid == tid for tid in tids]
    first = np.array([events.start[each].min() for each in mine], dtype=np.int64)
    last = np.array([events.end[each].max() for each in mine], dtype=np.int64)
    first, last = np.clip(first, scene.since, scene.until), np.clip(last, scene.since, scene.until)
    others = study.threads.between(tids, first, last)
    path = study.critical_path
    band = _intervals_of_paths(scene, path, others, study.segments.thread[path.of], tids[others.of])
    left_out = len(waiting) - len(tids)
    more = f" (+{left_out})" if left_out > 0 else ""
    labels = ["critical path", *(f"thread {tid}" for tid in tids.tolist())]
    labels[-1] += more
    return band, labels


def _intervals_of_paths(scene: Scene, path: CriticalPath, others: CriticalPath, carrier: Ints, tid: Ints) -> Intervals:
    thread, request = _narrow(carrier, tid), _narrow(path.request, others.request)
    start = np.concatenate([path.start, others.start])
    paint, file = _narrow(path.value, others.value), _narrow(scene.file_of(request))

    def told(chosen: Ints) -> Told:
        names = [f"thread {each}" for each in thread[chosen].tolist()]
        return Told(
            token=scene.token_at(thread[chosen], start[chosen]),
            fetch=pick(scene.fetch_of_request, request[chosen], -1),
            what=_said(scene, names, file[chosen], paint[chosen]),
        )

    return Intervals(
        start=start,
        end=np.concatenate([path.end, others.end]),
        lane=_narrow(np.zeros(len(path.of)), others.of + 1),
        paint=paint,
        phase=_narrow(scene.study.phases.row_at(thread, start)),
        file=file,
        told=told,
    )


def _narrow(*columns: npt.NDArray[Any]) -> Any:
    """Join columns that number few things: of every thread's every moment, each eight bytes more are felt."""
    return np.concatenate(columns, dtype=np.int32, casting="unsafe")


def _requests(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the FUSE requests by the worker that answered; coloured by where the answer came from."""
    study = scene.study
    asked, use = study.requests, study.use
    workers = np.unique(asked.worker[asked.worker >= 0])
    inside = np.flatnonzero((asked.replied > scene.since) & (asked.sent < scene.until))
    missed = ((use.misses + use.shared) > 0)[inside]
    read = asked.is_(Opcode.READ)[inside]
    paint = np.where(missed, int(Class.NETWORK_REQUEST), np.where(read, int(Class.CACHE_READ), int(Class.CACHE_LOOKUP)))

    def told(chosen: Ints) -> Told:
        request = inside[chosen]
        names = [
            _opcode(opcode) + _how_much(much) + (f" at {offset:,}" if offset >= 0 else "")
            for opcode, offset, much in zip(
                asked.opcode[request].tolist(),
                asked.offset[request].tolist(),
                asked.read_bytes[request].tolist(),
                strict=True,
            )
        ]
        return Told(
            token=study.request_token[request],
            fetch=scene.fetch_of_request[request],
            what=_said(scene, names, scene.files.of_request[request], paint[chosen]),
        )

    band = Intervals(
        start=asked.sent[inside],
        end=asked.replied[inside],
        lane=np.searchsorted(workers, np.maximum(asked.worker[inside], 0)) % WORKERS,
        paint=paint,
        phase=study.request_phase[inside],
        file=scene.files.of_request[inside],
        told=told,
    )
    count = min(len(workers), WORKERS)
    return band, [f"FUSE {number + 1}" for number in range(count)] or ["FUSE"]


def _cache(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return what the client's workers read from the cache on disk."""
    study = scene.study
    rows = study.recording.of(Kind.CACHE_READ)
    rows = rows.where((rows.end > scene.since) & (rows.start < scene.until))
    request = study.requests.of_worker(rows.tid, rows.start)
    paint, file = np.full(len(rows), int(Class.CACHE_READ), dtype=np.int64), scene.file_of(request)

    def told(chosen: Ints) -> Told:
        names = [f"cache file read{_how_much(much)}" for much in rows.ret[chosen].tolist()]
        return Told(
            token=pick(study.request_token, request[chosen], -1),
            fetch=np.full(len(chosen), -1, dtype=np.int64),
            what=_said(scene, names, file[chosen], paint[chosen]),
        )

    band = Intervals(
        start=rows.start,
        end=rows.end,
        lane=np.zeros(len(rows), dtype=np.int64),
        paint=paint,
        phase=pick(study.request_phase, request, -1),
        file=file,
        told=told,
    )
    return band, ["disk cache"]


def _fetches(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return the fetches by connection, cut into what they waited for."""
    study, time = scene.study, scene.study.job_time
    gets = study.gets
    order = scene.fetch_order
    sockets = np.unique(gets.descriptor)
    lane = np.searchsorted(sockets, gets.descriptor) % CONNECTIONS
    cuts = (time.begin, time.connect, time.sent, time.first, time.filled)
    parts = (Class.NETWORK_QUEUE, Class.NETWORK_CONNECT, Class.NETWORK_REQUEST, Class.CACHE_FILL)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    waits, others = time.waits, time.others
    start = np.concatenate([*cuts[:-1], others.start, waits.start])
    end = np.concatenate([*cuts[1:], others.end, waits.end])
    there = np.flatnonzero(end > start)
    get = np.concatenate([np.tile(np.arange(len(gets)), len(parts)), time.others_get, time.get])[there]
    paint = np.concatenate(
        [
            np.repeat([int(part) for part in parts], len(gets)),
            np.full(len(time.others_get), int(Class.NETWORK_QUEUE)),
            np.full(len(time.get), int(Class.NETWORK_TRANSFER)),
        ]
    )[there]
    file = scene.file_of(gets.request[get])

    def told(chosen: Ints) -> Told:
        return Told(
            token=pick(study.request_token, gets.request[get[chosen]], -1),
            fetch=rank[get[chosen]],
            what=_said(scene, ["fetch"] * len(chosen), file[chosen], paint[chosen]),
        )

    band = Intervals(start[there], end[there], lane[get], paint, study.get_phase[get], file, told)
    count = max(min(len(sockets), CONNECTIONS), 1)
    return band, [f"HTTP {number + 1}" for number in range(count)]


def _said(scene: Scene, names: Sequence[str], file: Ints, paint: Ints) -> list[str]:
    """Return one line on each interval: its name, its file, its class."""
    return [
        name + (f" {scene.short_files[of]}" if of >= 0 else "") + (f" ({LABELS[kind]})" if kind < CLASSES else "")
        for name, of, kind in zip(names, file.tolist(), paint.tolist(), strict=True)
    ]


def _how_much(number: int) -> str:
    return f" {size(float(number))}" if number > 0 else ""


def _draw(scene: Scene, band: Intervals, base: int, room: tuple[int, int], marks: Marks, below: Marks) -> bool:
    """Add a band from lane `base` on, what is merged `below`; return whether some of it was merged."""
    kept = longest(band.end - band.start, band.phase, room[0])
    _draw_merged(scene, band, np.flatnonzero(~kept), base, room[1], below)
    chosen = np.flatnonzero(kept)
    start, told = scene.second(band.start[chosen]), band.told(chosen)
    marks.add(
        told.what,
        spans_told(start, (band.end - band.start)[chosen]),
        left=start,
        right=scene.second(band.end[chosen]),
        bottom=base + band.lane[chosen] - 0.4,
        top=base + band.lane[chosen] + 0.4,
        paint=band.paint[chosen],
        phase=band.phase[chosen],
        token=told.token,
        file=band.file[chosen],
        fetch=told.fetch,
    )
    return not bool(kept.all())


def _draw_merged(scene: Scene, band: Intervals, rest: Ints, base: int, room: int, marks: Marks) -> None:
    if not len(rest):
        return
    # Narrow, and a column after the other: there may be millions of them.
    keys: Any = np.array([column[rest] for column in (band.lane, band.phase, band.file, band.paint)], dtype=np.int32).T
    found = merged(band.start[rest], band.end[rest], keys, scene.since, scene.until, room)
    lane, phase, file, paint = found.keys.T
    bottom, top = shares(found, lane)
    marks.add(
        [
            f"{number:,} together: {LABELS[kind]}"
            for number, kind in zip(found.count.tolist(), paint.tolist(), strict=True)
        ],
        [
            f"{seconds(total / 1e9)} in all, the longest {seconds(most / 1e9)}"
            for total, most in zip(found.total.tolist(), found.longest.tolist(), strict=True)
        ],
        left=scene.second(found.start),
        right=scene.second(found.end),
        bottom=base + lane + 0.4 - 0.8 * top / 1000,
        top=base + lane + 0.4 - 0.8 * bottom / 1000,
        paint=paint,
        phase=phase,
        file=file,
    )


def _opcode(number: int) -> str:
    try:
        return Opcode(number).name
    except ValueError:
        return f"request {number}"
