"""What the client's download threads do for each job, and when a worker waits for the download of another request."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.contract.classes import FETCH_PARTS, Class
from cvtrace.analysis.joins.client_functions import confirm_shared
from cvtrace.analysis.joins.fetches import Gets, Jobs, rows_of_jobs
from cvtrace.analysis.joins.objects import CacheOpens
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import (
    Bools,
    Ints,
    Steps,
    covered,
    cut,
    disjoint,
    empty,
    narrow,
    overlay,
    pick,
    ranges,
)
from cvtrace.analysis.trace.keys import file_key, pair_key, ranked
from cvtrace.analysis.trace.recording import EventIndex, Recording
from cvtrace.probes.events import Kind

NO_THREAD: Final = -1
"""Who asked for a download that no request needs."""

NO_FILE: Final = -1
NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Spans:
    """Intervals of time with a class, each belonging to a job."""

    job: Ints
    start: Ints
    end: Ints
    value: Ints


@dataclass(frozen=True)
class GetPieces:
    """Pieces of the time of GETs: the index of the GET, begin and end in ns, and the class."""

    get: Ints
    start: Ints
    end: Ints
    value: Ints


@dataclass(frozen=True)
class JobTime:
    """The life of every job, from handed to filled, without gap: `spans`, over them `busy`, and over them the `waits` for bytes.

    `busy` is when the download thread handled the bytes of other GETs while those of this one were due.

    The other columns have one entry per GET: it began to queue at `begin`, began to connect (or was sent) at `connect`, was
    sent at `sent`, answered at `first`, and its bytes were handled until `filled`. `get` is the GET of each wait, `busy_get` that of
    each of `busy`.
    """

    spans: Spans
    busy: Spans
    waits: Spans
    get: Ints
    busy_get: Ints
    begin: Ints
    connect: Ints
    sent: Ints
    first: Ints
    filled: Ints

    def borders(self) -> list[tuple[Ints, Ints, Class]]:
        """Return from when to when each GET was in which part; the waits for bytes are in the last one."""
        return _borders(self.begin, self.connect, self.sent, self.first, self.filled)

    def pieces(self) -> GetPieces:
        """Return the pieces of each GET in painting order: where two overlap, the later one counts."""
        every = np.arange(len(self.begin), dtype=np.int64)
        borders = self.borders()
        values = [np.full(len(every), int(value)) for _, _, value in borders]
        return GetPieces(
            get=np.concatenate([*(every for _ in borders), self.busy_get, self.get]),
            start=np.concatenate([*(start for start, _, _ in borders), self.busy.start, self.waits.start]),
            end=np.concatenate([*(end for _, end, _ in borders), self.busy.end, self.waits.end]),
            value=np.concatenate([*values, self.busy.value, self.waits.value]),
        )

    def parts_ns(self) -> dict[str, Ints]:
        """Return the ns of each part of the GETs (FetchPart.column). What other GETs were handled for is queue."""
        total = {int(value): end - start for start, end, value in self.borders()}
        due = total[Class.CACHE_FILL]
        waited, busy = self.received_ns()
        waited = np.minimum(waited, due)
        busy = np.minimum(busy, due - waited)
        total[Class.NETWORK_QUEUE] = total[Class.NETWORK_QUEUE] + busy
        total[Class.NETWORK_TRANSFER] = waited
        total[Class.CACHE_FILL] = due - waited - busy
        return {part.column: total[part.value] for part in FETCH_PARTS}

    def received_ns(self) -> tuple[Ints, Ints]:
        """Return how long the bytes of each GET were waited for, and how long others were handled while its own were due."""
        count, since = len(self.begin), int(self.begin.min(initial=0))
        waited = covered(self.get, self.waits.start - since, self.waits.end - since, count)
        get = np.concatenate([self.get, self.busy_get])
        start = np.concatenate([self.waits.start, self.busy.start]) - since
        end = np.concatenate([self.waits.end, self.busy.end]) - since
        return waited, covered(get, start, end, count) - waited


def _borders(begin: Ints, connect: Ints, sent: Ints, first: Ints, filled: Ints) -> list[tuple[Ints, Ints, Class]]:
    """Return the parts of `JobTime.borders`."""
    return [
        (begin, connect, Class.NETWORK_QUEUE),
        (connect, sent, Class.NETWORK_CONNECT),
        (sent, first, Class.NETWORK_REQUEST),
        (first, filled, Class.CACHE_FILL),
    ]


def job_time(recording: Recording, jobs: Jobs, gets: Gets) -> JobTime:
    """Cut the life of each job at what its GETs did: queue, connect, request, then bytes that are waited for or handled.

    A GET of no known job (the hand-over was lost, or came before the recording) stands for itself.
    """
    job, known = gets.job, gets.job >= 0
    connect = np.where(gets.connecting >= 0, gets.connecting, gets.sent)
    connect = np.maximum(connect, pick(jobs.handed, job, 0))
    sent = np.maximum(gets.sent, connect)
    other = job[1:] != job[:-1]
    is_last = np.append(other, True)[: len(job)] | ~known
    is_first = np.append(True, other)[: len(job)] | ~known
    without_job = np.maximum(gets.last, sent)
    until = np.where(is_last, pick(jobs.done, job, without_job), np.append(connect[1:], 0)[: len(job)])
    until = np.maximum(until, sent)
    first = np.where(gets.first >= 0, np.clip(gets.first, sent, until), until)
    last = np.clip(gets.last, first, until)
    filled = np.maximum(np.where(is_last, pick(jobs.filled, job, without_job), last), first)
    previous = np.append(0, filled[:-1])[: len(job)]
    begin = np.minimum(np.where(is_first, pick(jobs.handed, job, connect), previous), connect)
    waits, get = _waits(recording, gets, first, np.minimum(filled, until))
    busy, busy_get = _busy(recording, gets, first, np.minimum(filled, until))
    parts = _borders(begin, connect, sent, first, filled)
    without = np.setdiff1d(np.arange(len(jobs)), job)
    return JobTime(
        spans=_joined(_spans(job, known, parts), _without_get(recording, jobs, without)),
        busy=busy,
        waits=waits,
        get=get,
        busy_get=busy_get,
        begin=begin,
        connect=connect,
        sent=sent,
        first=first,
        filled=filled,
    )


def _spans(job: Ints, known: Bools, parts: list[tuple[Ints, Ints, Class]]) -> Spans:
    return Spans(
        np.tile(job[known], len(parts)),
        np.concatenate([start[known] for start, _, _ in parts]),
        np.concatenate([end[known] for _, end, _ in parts]),
        np.repeat(np.array([int(value) for _, _, value in parts], dtype=np.int64), int(known.sum())),
    )


def _joined(one: Spans, other: Spans) -> Spans:
    return Spans(**{name: np.concatenate([column, getattr(other, name)]) for name, column in vars(one).items()})


def _without_get(recording: Recording, jobs: Jobs, job: Ints) -> Spans:
    """Jobs that never got as far as a GET: queue, then a connect that fails or hangs, if one was begun."""
    connects = recording.of(Kind.HTTP_CONNECT)
    by_thread = EventIndex(recording, connects, connects.tid)
    connect_start = pick(by_thread.rows.start, by_thread.asof_forward(jobs.downloader[job], jobs.taken[job]), -1)
    connect = np.where((connect_start >= 0) & (connect_start < jobs.done[job]), connect_start, jobs.done[job])
    parts = [
        (jobs.handed[job], connect, Class.NETWORK_QUEUE),
        (connect, jobs.done[job], Class.NETWORK_CONNECT),
        (jobs.done[job], jobs.filled[job], Class.CACHE_FILL),
    ]
    return _spans(job, np.ones(len(job), dtype=bool), parts)


@dataclass(frozen=True)
class _Turns:
    """What download threads did, sorted by (thread, start), and when each of them went on to what is `next` (NEVER: it did not)."""

    tid: Ints
    start: Ints
    end: Ints
    kind: Ints
    ret: Ints
    a: Ints
    next: Ints

    def during(self, recording: Recording, gets: Gets, first: Ints, last: Ints) -> tuple[Ints, Ints]:
        """Return (GET, turn) of all turns of its thread that it was received in, from the one before `first` on."""
        active = np.flatnonzero(
            (first < self.next.max(initial=0)) & (last > self.start.min(initial=NEVER)) & (last > first)
        )
        lanes, thread = recording.lanes(gets.downloader), gets.downloader[active]
        places = lanes.at(self.tid, self.start)
        begin = np.searchsorted(places, lanes.at(thread, first[active]), side="right") - 1
        end = np.searchsorted(places, lanes.at(thread, last[active]), side="left")
        which, turn = ranges(np.maximum(begin, 0), end)
        get = active[which]
        chosen = (self.tid[turn] == gets.downloader[get]) & (self.next[turn] > first[get])
        return get[chosen], turn[chosen]


def _turns(recording: Recording, gets: Gets, *kinds: Kind) -> Iterator[_Turns]:
    """Return the turns of the threads that sent GETs, window by window; the last one of each thread comes with the next window."""
    threads, names = np.unique(gets.downloader), ("tid", "start", "end", "kind", "ret", "a")
    held = {name: empty() for name in names}
    for rows in recording.windows(*kinds):
        chosen = np.flatnonzero(np.isin(rows.tid, threads))
        table = {name: np.concatenate([held[name], getattr(rows, name)[chosen]]) for name in names}
        order = np.lexsort((table["start"], table["tid"]))
        table = {name: column[order] for name, column in table.items()}
        goes_on = np.append(table["tid"][1:] == table["tid"][:-1], False)[: len(order)]
        following = np.append(table["start"][1:], 0)[: len(order)]
        yield _Turns(**{name: column[goes_on] for name, column in table.items()}, next=following[goes_on])
        held = {name: column[~goes_on] for name, column in table.items()}
    yield _Turns(**held, next=np.full(len(held["tid"]), NEVER, dtype=np.int64))


def _waits(recording: Recording, gets: Gets, first: Ints, last: Ints) -> tuple[Spans, Ints]:
    """Return when the download thread waited for further bytes while each GET was being received, and which GET."""
    parts = []
    for turns in _turns(recording, gets, Kind.DAEMON_POLL, Kind.HTTP_RECV):
        get, turn = turns.during(recording, gets, first, last)
        start, stop = np.maximum(turns.start[turn], first[get]), np.minimum(turns.end[turn], last[get])
        its_own = gets.descriptor[get] == turns.a[turn]
        chosen = (stop > start) & (its_own | (turns.kind[turn] == Kind.DAEMON_POLL))
        parts.append((get[chosen], start[chosen], stop[chosen]))
    return _of_gets(gets, parts, Class.NETWORK_TRANSFER)


def _of_gets(gets: Gets, parts: list[tuple[Ints, Ints, Ints]], value: Class) -> tuple[Spans, Ints]:
    """Return the parts, each (GET, start, end), as spans of the GETs' jobs, and their GETs."""
    get, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    value_of_all = np.broadcast_to(np.int64(value), get.shape)
    return Spans(narrow(gets.job[get]), start, end, value_of_all), narrow(get)


def _busy(recording: Recording, gets: Gets, first: Ints, last: Ints) -> tuple[Spans, Ints]:
    """Return when the download thread unpacked what had come on another socket while each GET was being received, and which GET.

    What a receive brought is handled right after it, until the thread turns to something else.
    """
    kinds = (
        Kind.HTTP_RECV,
        Kind.HTTP_SEND,
        Kind.HTTP_CONNECT,
        Kind.DAEMON_POLL,
        Kind.HANDOVER_TAKEN,
        Kind.HANDOVER_DONE,
    )
    parts = []
    for turns in _turns(recording, gets, *kinds):
        get, turn = turns.during(recording, gets, first, last)
        until = np.where(turns.next < NEVER, turns.next, turns.end)
        start, stop = np.maximum(turns.start[turn], first[get]), np.minimum(until[turn], last[get])
        handled = (turns.kind[turn] == Kind.HTTP_RECV) & (turns.ret[turn] > 0)
        chosen = handled & (turns.a[turn] != gets.descriptor[get]) & (stop > start)
        parts.append((get[chosen], start[chosen], stop[chosen]))
    return _of_gets(gets, parts, Class.NETWORK_QUEUE)


@dataclass(frozen=True)
class Shared:
    """Waits of workers for a download of another request; `job` is that download where the same thread asked for both, else -1."""

    worker: Ints
    start: Ints
    end: Ints
    job: Ints


def shared_waits(recording: Recording, requests: Requests, opens: CacheOpens, jobs: Jobs) -> Shared:
    """Find waits for a download of another request.

    Either the worker misses the object and goes on without a job of its own, until it opens or reads something; or it
    waits in a futex (the handle's mutex) while another request on the same file has a job running.
    """
    parts = (_after_miss(recording, requests, opens, jobs), _in_mutex(recording, requests, jobs))
    return Shared(*(np.concatenate(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))


def _after_miss(recording: Recording, requests: Requests, opens: CacheOpens, jobs: Jobs) -> Shared:
    missed = np.flatnonzero(opens.is_miss & (opens.request >= 0))
    width = len(opens.names) + 1
    with_job = np.unique(jobs.request * width + jobs.object)
    pair = opens.request[missed] * width + opens.object[missed]
    nameless_job = np.isin(opens.request[missed], jobs.request[jobs.object < 0])
    missed = missed[~np.isin(pair, with_job) & ~nameless_job]
    rows, request = opens.rows.where(missed), opens.request[missed]
    after = recording.of(Kind.CACHE_READ, Kind.CACHE_OPEN)
    after = after.where((after.kind == Kind.CACHE_READ) | (after.ret >= 0))
    by_worker = EventIndex(recording, after, after.tid)
    following = by_worker.asof_forward(rows.tid, rows.end)
    reply = requests.replying[request]
    until = np.minimum(pick(by_worker.rows.start, following, recording.end_ns), reply)
    shared, until = confirm_shared(recording, rows, until)
    rows, request = rows.where(shared), request[shared]
    end = np.maximum(until[shared], rows.end)
    wait_key = rows.tgid * width + opens.object[missed][shared]
    job = _job_of_same_asker(
        recording, requests, jobs, jobs.daemon * width + jobs.object, wait_key, request, rows.end, end
    )
    return Shared(rows.tid, rows.end, end, job)


def _in_mutex(recording: Recording, requests: Requests, jobs: Jobs) -> Shared:
    futexes = recording.of(Kind.DAEMON_FUTEX)
    request = requests.of_worker(futexes.tid, futexes.start)
    futexes, request = futexes.where(request >= 0), request[request >= 0]
    of_file = np.flatnonzero(jobs.request >= 0)
    lanes = recording.lanes(_file(requests, jobs.request[of_file]))
    file = lanes.rank(_file(requests, request))
    futexes, request, file = futexes.where(file >= 0), request[file >= 0], file[file >= 0]
    running = lanes.at(_file(requests, jobs.request[of_file]), jobs.handed[of_file])
    until = lanes.at(_file(requests, jobs.request[of_file]), jobs.filled[of_file])
    _, running, until = disjoint(running, until)
    active = overlay(Steps.constant(0), running, until, 1)
    pieces = cut(active, lanes.at_rank(file, futexes.start), lanes.at_rank(file, futexes.end))
    shared: Bools = pieces.value == 1
    start = lanes.time(pieces.start[shared])
    end = start + (pieces.end - pieces.start)[shared]
    request = request[pieces.which[shared]]
    file_of_job = np.full(len(jobs), NO_FILE, dtype=np.int64)
    file_of_job[of_file] = _file(requests, jobs.request[of_file])
    job = _job_of_same_asker(recording, requests, jobs, file_of_job, _file(requests, request), request, start, end)
    return Shared(futexes.tid[pieces.which[shared]], start, end, job)


def _job_of_same_asker(
    recording: Recording,
    requests: Requests,
    jobs: Jobs,
    key: Ints,
    wait_key: Ints,
    request: Ints,
    start: Ints,
    end: Ints,
) -> Ints:
    """Return the download that each wait from `start` to `end` was for, if the thread that sent the request for `request` asked for it too, else -1.

    `key` says what each job downloads for, `wait_key` the same for each wait.
    """
    handed = rows_of_jobs(jobs, jobs.handed)
    asker = pick(requests.asker, jobs.request, NO_THREAD)
    asker = np.where(asker > 0, asker, NO_THREAD)
    askers = np.concatenate([asker, pick(requests.asker, request, 0)])
    name = pair_key(ranked(np.concatenate([key, wait_key])), askers)
    same = EventIndex(recording, handed, name[: len(jobs)])
    job = pick(same.rows.index, same.asof_backward(name[len(jobs) :], end), -1)
    return np.where(pick(jobs.filled, job, -1) > start, job, -1)


def _file(requests: Requests, request: Ints) -> Ints:
    return file_key(requests.connection[request], requests.nodeid[request])
