"""The bands of the timeline: what is drawn of the target's threads, of FUSE requests, of the cache and of fetches, before it is reduced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.attribution.path import CriticalPath
from cvtrace.analysis.contract.classes import LABELS, Class
from cvtrace.analysis.contract.quantities import size
from cvtrace.analysis.report.html.palette import ANSWERS, CLASSES, FIRST_ANSWER
from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.html.tracks import download_names, thread_names, worker_names
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Kind, Opcode

THREADS: Final = 8
WORKERS: Final = 6
CONNECTIONS: Final = 4


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


def threads_band(scene: Scene) -> tuple[Intervals, list[str]]:
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


def requests_band(scene: Scene) -> tuple[Intervals, list[str]]:
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
            what=request_lines(scene, request, scene.files.of_request[request], paint[chosen]),
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


def request_lines(scene: Scene, request: Ints, file: Ints, paint: Ints) -> list[str]:
    """Return a line on each request: its name, bytes and offset, and its file."""
    requests = scene.study.requests
    names = [
        _opcode(opcode) + bytes_shown(much) + (f" at {offset:,}" if offset >= 0 else "")
        for opcode, offset, much in zip(
            requests.opcode[request].tolist(),
            requests.offset[request].tolist(),
            requests.read_bytes[request].tolist(),
            strict=True,
        )
    ]
    return _lines(scene, names, file, paint)


def cache_band(scene: Scene) -> tuple[Intervals, list[str]]:
    """Return what the client's workers read from the cache on disk."""
    study = scene.study
    rows = study.recording.of(Kind.CACHE_READ)
    rows = rows.where((rows.end > scene.since) & (rows.start < scene.until))
    request = study.requests.of_worker(rows.tid, rows.start)
    paint, file = np.full(len(rows), int(Class.CACHE_READ), dtype=np.int64), scene.file_of(request)

    def particulars(chosen: Ints) -> Particulars:
        names = [f"cache file read{bytes_shown(much)}" for much in rows.ret[chosen].tolist()]
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


def fetches_band(scene: Scene) -> tuple[Intervals, list[str]]:
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


def _opcode(number: int) -> str:
    try:
        return Opcode(number).name
    except ValueError:
        return f"request {number}"


def kind_of_paint(paint: int) -> str:
    """Return what a class, or the answer to a request, is called."""
    return LABELS[paint] if paint < CLASSES else f"requests answered {ANSWERS[paint - FIRST_ANSWER][1]}"


def bytes_shown(number: int) -> str:
    return f" {size(float(number))}" if number > 0 else ""
