"""Fetches: jobs that workers hand to the download thread, and the GETs that thread sends for them."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.objects import CacheOpens, object_names
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.keys import address_key, descriptor_key, high_half, job_key, pair_key, ranked
from cvtrace.analysis.trace.recording import EventIndex, Recording, Rows
from cvtrace.probes.events import Kind

STATUS: Final = re.compile(r"^HTTP/[0-9.]+ ([0-9]{3})")
CONTENT_LENGTH: Final = re.compile(r"content-length:\s*([0-9]+)", re.IGNORECASE)


FINE, SILENT, CUT = range(3)
"""How a GET ended: as it should, without an answer, with less than was announced."""
BAD_STATUS: Final = 400


@dataclass(frozen=True)
class Jobs:
    """Downloads asked for by workers, sorted by `handed`. Times in ns; a job cut by the end ends there.

    `done` is when the download thread wrote its result, `back` when the worker had it, `filled` when the worker had
    committed the object. `request` is the FUSE request that needed it (-1: none, the daemon itself), `object` the one
    the worker missed before it handed over (-1: not an object, e.g. a manifest).
    """

    worker: Ints
    daemon: Ints
    downloader: Ints
    handed: Ints
    taken: Ints
    done: Ints
    back: Ints
    filled: Ints
    request: Ints
    object: Ints
    committed: Bools
    """The object was put into the cache."""
    inserted: tuple[str, ...]
    """Path in the repository as the quota manager was told, empty if it was not."""
    result: Ints
    """What the download thread wrote: 0, or the client's number of a failure (failures.CLIENT); -1 if it was not seen."""
    inserted_bytes: Ints
    """Size of the object, unpacked, as the quota manager was told, -1 if it was not."""

    def __len__(self) -> int:
        return len(self.handed)


@dataclass(frozen=True)
class Gets:
    """HTTP requests, sorted by (job, sent). Times in ns, -1 for what did not happen.

    `connecting` is the start of the connect made for it, `first` and `last` the start of the first and the end of the
    last receive with data. `body_bytes` are those of the body, as an access log counts them.
    """

    job: Ints
    request: Ints
    object: Ints
    descriptor: Ints
    downloader: Ints
    daemon: Ints
    connecting: Ints
    sent: Ints
    first: Ints
    last: Ints
    status: Ints
    body_bytes: Ints
    address: Ints
    """keys.address_key of the connection, -1 if it was made before the recording."""
    outcome: Ints
    """FINE (or under way at the end), SILENT, CUT, or a status from 400 on."""
    length: Ints
    """Bytes of the body as the answer announced them, -1 if it did not."""
    encrypted: Bools
    """Over TLS: `line` is empty, `status` 0, `body_bytes` are those on the wire."""
    line: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def failed(self) -> Bools:
        """GETs that brought nothing that can be used."""
        failed: Bools = self.outcome != FINE
        return failed


@dataclass(frozen=True)
class _Connects:
    """The connect before each GET on its socket: when it `start` (-1: before the recording), whether no GET came between."""

    start: Ints
    fresh: Bools
    address: Ints


def fetches(recording: Recording, requests: Requests, opens: CacheOpens) -> tuple[Jobs, Gets]:
    """Build jobs and GETs, and join them: by the object's hash, else by the order of the download thread."""
    jobs = _jobs(recording, requests, opens)
    gets = _gets(recording, jobs, opens)
    return _finish(recording, jobs, gets), gets


def _jobs(recording: Recording, requests: Requests, opens: CacheOpens) -> Jobs:
    handed = recording.of(Kind.HANDOVER)
    taken, results = recording.of(Kind.HANDOVER_TAKEN), recording.of(Kind.HANDOVER_RESULT)
    # A job is at the same address in both threads; addresses are used again, by one job after the other.
    both = np.concatenate([handed.tgid, taken.tgid]), np.concatenate([handed.a, taken.a])
    name = ranked(job_key(*both))
    take = EventIndex(recording, taken, name[len(handed) :])
    taker = take.asof_forward(name[: len(handed)], handed.start)
    worker = EventIndex(recording, results, results.tid)
    result = worker.asof_forward(handed.tid, handed.start)
    again = EventIndex(recording, handed, handed.tid)
    following = pick(again.rows.start, again.asof_forward(handed.tid, handed.start + 1), recording.end_ns)
    back = pick(worker.rows.end, result, recording.end_ns)
    back = np.where(pick(worker.rows.start, result, -1) > following, following, back)
    request = requests.of_worker(handed.tid, handed.start)
    limit = np.minimum(pick(requests.replying, request, recording.end_ns), following)
    commit, inserted, inserted_bytes = _commits(recording, handed.tid, back, limit)
    request_start = np.maximum(pick(requests.received, request, 0), recording.start_ns)
    return Jobs(
        worker=handed.tid,
        daemon=handed.tgid,
        downloader=pick(take.rows.tid, taker, -1),
        handed=handed.start,
        taken=np.minimum(pick(take.rows.end, taker, recording.end_ns), back),
        done=back,
        back=back,
        filled=np.maximum(commit, np.minimum(back, limit)),
        request=request,
        object=_missed(recording, opens, handed, request_start),
        committed=commit > 0,
        inserted=inserted,
        inserted_bytes=inserted_bytes,
        result=np.where(
            pick(worker.rows.start, result, following + 1) <= following, pick(worker.rows.a, result, -1), -1
        ),
    )


def _commits(recording: Recording, worker: Ints, back: Ints, limit: Ints) -> tuple[Ints, tuple[str, ...], Ints]:
    """Return the end of the last rename or insert of each job before `limit`, 0 without; the path inserted, and its size."""
    rows = recording.of(Kind.CACHE_RENAME, Kind.CACHE_INSERT)
    commits = EventIndex(recording, rows, rows.tid)
    last = commits.asof_backward(worker, limit)
    committed = pick(commits.rows.start, last, -1) >= back
    inserts = recording.of(Kind.CACHE_INSERT)
    of_insert = EventIndex(recording, inserts, inserts.tid)
    insert = of_insert.asof_backward(worker, limit)
    has_insert = pick(of_insert.rows.start, insert, -1) >= back
    paths = iter(recording.text(of_insert.rows.where(insert[has_insert])))
    inserted = tuple(next(paths).removeprefix("Part of ") if each else "" for each in has_insert)
    sizes = np.where(has_insert, pick(of_insert.rows.a, insert, -1), -1)
    return np.where(committed, pick(commits.rows.end, last, 0), 0), inserted, sizes


def _missed(recording: Recording, opens: CacheOpens, handed: Rows, request_start: Ints) -> Ints:
    """Return the object that each worker missed last before it handed over."""
    chosen = np.flatnonzero(opens.is_miss)
    rows = opens.rows.where(chosen)
    misses = EventIndex(recording, rows, rows.tid)
    last = misses.asof_backward(handed.tid, handed.start)
    recent = pick(misses.rows.start, last, -1) >= request_start
    return np.where(recent, pick(opens.object[chosen], last, -1), -1)


def _gets(recording: Recording, jobs: Jobs, opens: CacheOpens) -> Gets:
    sends = recording.of(Kind.HTTP_SEND)
    sends = sends.where(sends.ret > 0)
    lines = recording.text(sends)
    asks = np.array([not line or line.startswith(("GET ", "HEAD ", "POST ")) for line in lines], dtype=bool)
    sends = sends.where(asks)
    lines = [line for line, ask in zip(lines, asks, strict=True) if ask]
    number = {name: place for place, name in enumerate(opens.names)}
    named = object_names([line.encode() for line in lines])
    url_object = np.array([number.get(name, -1) for name in named], dtype=np.int64)
    connects, encrypted = _connects(recording, sends), sends.b == 1
    job = _job_of(recording, jobs, sends, url_object)
    if encrypted.any():
        job = np.where(encrypted, _job_of_encrypted(recording, jobs, sends, connects), job)
    made_for_it = connects.fresh & (connects.start >= pick(jobs.handed, job, 0))
    connecting = np.where(made_for_it, connects.start, -1)
    first, last, received, head = _received(recording, sends)
    status, body_bytes, length = _heads(recording, received, head)
    order = np.lexsort((sends.start, np.where(job >= 0, job, len(jobs))))
    ended = _has_ended(jobs, job[order], sends.where(order))
    outcome = _outcomes(ended, status[order], received[order], length[order], encrypted[order])
    return Gets(
        job=job[order],
        request=pick(jobs.request, job, -1)[order],
        object=np.where(url_object >= 0, url_object, pick(jobs.object, job, -1))[order],
        descriptor=sends.a[order],
        downloader=sends.tid[order],
        daemon=sends.tgid[order],
        connecting=connecting[order],
        sent=sends.start[order],
        first=first[order],
        last=last[order],
        status=status[order],
        body_bytes=body_bytes[order],
        address=connects.address[order],
        outcome=outcome,
        length=length[order],
        encrypted=encrypted[order],
        line=tuple(lines[place] for place in order.tolist()),
    )


def _job_of(recording: Recording, jobs: Jobs, sends: Rows, url_object: Ints) -> Ints:
    """Return the job that each GET was sent for, -1 where none is known. `url_object` is the object that its URL names, -1 for none.

    Nothing in a GET says which worker handed it over, and one download thread sends those of all workers. There are two candidates:

    - by hash: the last job handed over before the GET, in the same process, by a worker that had missed the object of the URL. It may have
      its result already: a later request is a retry, or fetches the rest of the object.
    - by turn: the last job handed over before the GET to the thread that sends it, by a worker that had missed no object, and only while
      its result has not come back.

                          handed                             back
        worker 1  misses o, |====== job A: object o =========|
        worker 2                |====== job B: no object =========|
        download thread           GET …/o          GET …/.cvmfspublished
                                  by hash: A       by turn: B

    By hash goes before by turn, but where its job had its result before the GET, and the turn of another one is:

                          handed     back
        worker 1  misses o, |== A ===|
        worker 2                          |====== job C: no object ===|
        download thread                        GET …/o
                                               by hash: A, which is over; by turn: C

    That is a client that streams: it fetches an object that it missed long ago, in a job of a request that did not look for it.
    """
    handed = rows_of_jobs(jobs, jobs.handed)
    by_object = EventIndex(recording, handed, pair_key(jobs.daemon, jobs.object))
    last = by_object.asof_backward(pair_key(sends.tgid, url_object), sends.start)
    by_hash = np.where(url_object >= 0, pick(by_object.rows.index, last, -1), -1)
    nameless = handed.where(jobs.object < 0)
    of_thread = EventIndex(recording, nameless, nameless.tid)
    by_turn = pick(of_thread.rows.index, of_thread.asof_backward(sends.tid, sends.start), -1)
    by_turn = np.where(pick(jobs.back, by_turn, -1) >= sends.start, by_turn, -1)
    is_over = pick(jobs.back, by_hash, -1) < sends.start
    return np.where((by_hash < 0) | (is_over & (by_turn >= 0)), by_turn, by_hash)


def _job_of_encrypted(recording: Recording, jobs: Jobs, sends: Rows, connects: _Connects) -> Ints:
    """Return the job that the download thread took last before it connected, or sent where the connection was there.

    Nothing in the request tells which; of jobs that are taken at once the last one gets it.
    """
    begin = np.where(connects.fresh, connects.start, sends.start)
    taken = EventIndex(recording, rows_of_jobs(jobs, jobs.taken), jobs.downloader)
    job = pick(taken.rows.index, taken.asof_backward(sends.tid, begin), -1)
    return np.where(pick(jobs.back, job, -1) >= sends.start, job, -1)


def rows_of_jobs(jobs: Jobs, start: Ints) -> Rows:
    """Present jobs as events of the download thread that begin then, so that they can be found by time; `index` is the job."""
    nothing = np.zeros(len(jobs), dtype=np.int64)
    return Rows(
        start=start,
        end=jobs.back,
        tgid=jobs.daemon,
        tid=jobs.downloader,
        kind=nothing,
        ret=nothing,
        a=nothing,
        b=nothing,
        c=nothing,
        unfinished=nothing.astype(bool),
    )


def _socket(rows: Rows) -> Ints:
    return descriptor_key(rows.tgid, rows.a)


def _connects(recording: Recording, sends: Rows) -> _Connects:
    connects = recording.of(Kind.HTTP_CONNECT)
    on_socket = EventIndex(recording, connects, _socket(connects))
    connect = on_socket.asof_backward(_socket(sends), sends.start)
    start = pick(on_socket.rows.start, connect, -1)
    earlier = EventIndex(recording, sends, _socket(sends))
    previous = pick(earlier.rows.start, earlier.asof_backward(_socket(sends), sends.start - 1), -1)
    port = high_half(pick(on_socket.rows.b, connect, 0))
    address = np.where(connect >= 0, address_key(pick(on_socket.rows.c, connect, 0), port), -1)
    return _Connects(start, start > previous, address)


def _received(recording: Recording, sends: Rows) -> tuple[Ints, Ints, Ints, Rows]:
    """Return first start, last end and bytes of what came on each GET's socket, and the first receive (or any row)."""
    receives = recording.of(Kind.HTTP_RECV)
    receives = receives.where(receives.ret > 0)
    data = EventIndex(recording, receives, _socket(receives))
    turns = recording.of(Kind.HTTP_CONNECT, Kind.HTTP_SEND)
    turns = turns.where((turns.kind == Kind.HTTP_CONNECT) | (turns.ret > 0))
    turn = EventIndex(recording, turns, _socket(turns))
    until = pick(turn.rows.start, turn.asof_forward(_socket(sends), sends.start + 1), recording.end_ns + 1)
    first = data.asof_forward(_socket(sends), sends.start)
    has_data = (first >= 0) & (pick(data.rows.start, first, -1) < until)
    last = np.where(has_data, data.asof_backward(_socket(sends), until - 1), -1)
    total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(data.rows.ret)])
    received = np.where(has_data, pick(total, last + 1, 0) - pick(total, first, 0), 0)
    first = np.where(has_data, first, -1)
    return (
        pick(data.rows.start, first, -1),
        pick(data.rows.end, last, -1),
        received.astype(np.int64),
        data.rows.where(np.maximum(first, 0)) if len(data.rows) else data.rows,
    )


def _has_ended(jobs: Jobs, job: Ints, sends: Rows) -> Bools:
    """Tell which GETs (by job) were not under way when the recording ended: the job went on, or, of none, the client asked again."""
    again = np.append((job[1:] == job[:-1]) & (job[1:] >= 0), False)[: len(job)]
    daemons, of = np.unique(sends.tgid, return_inverse=True)
    last = np.zeros(len(daemons), dtype=np.int64)
    np.maximum.at(last, of.ravel(), sends.start)
    ended: Bools = again | (pick(jobs.result, job, -1) >= 0) | ((job < 0) & (sends.start < last[of.ravel()]))
    return ended


def _outcomes(ended: Bools, status: Ints, received: Ints, length: Ints, encrypted: Bools) -> Ints:
    """Return how each GET ended."""
    silent = ended & (received == 0)
    cut = ended & (length >= 0) & (received < length)
    # Over TLS statuses and lengths are not seen, and what came may be the server's ticket.
    outcome = np.select([status >= BAD_STATUS, silent, cut], [status, SILENT, CUT], FINE)
    return np.where(encrypted, np.where(silent, SILENT, FINE), outcome)


def _heads(recording: Recording, received: Ints, head: Rows) -> tuple[Ints, Ints, Ints]:
    """Return status, bytes of the body (Content-Length if all of it came, else what came less a usual head), Content-Length."""
    texts = recording.text(head) if len(head) else [""] * len(received)
    statuses = [STATUS.match(text) for text in texts]
    lengths = [CONTENT_LENGTH.search(text) for text in texts]
    has_data = received > 0
    status = np.where(has_data, np.array([int(each[1]) if each else 0 for each in statuses], dtype=np.int64), 0)
    length = np.array([int(each[1]) if each else -1 for each in lengths], dtype=np.int64)
    complete = has_data & (length >= 0) & (received >= length)
    usual_head = int(np.median((received - length)[complete])) if complete.any() else 0
    return status, np.where(complete, length, np.maximum(received - usual_head, 0)), np.where(has_data, length, -1)


def _finish(recording: Recording, jobs: Jobs, gets: Gets) -> Jobs:
    """Fill in when the download thread was done: its first result after the last byte of the job's last GET."""
    dones = recording.of(Kind.HANDOVER_DONE)
    of_thread = EventIndex(recording, dones, dones.tid)
    last_byte = jobs.taken.copy()
    has_job = gets.job >= 0
    np.maximum.at(last_byte, gets.job[has_job], np.maximum(gets.last, gets.sent)[has_job])
    first_done = pick(of_thread.rows.start, of_thread.asof_forward(jobs.downloader, last_byte), -1)
    done = np.where((first_done >= 0) & (first_done <= jobs.back), first_done, jobs.back)
    return Jobs(**{**vars(jobs), "done": done})


def is_proxied(line: str) -> bool:
    """Return whether a request line is one for a proxy: it then names the whole URL."""
    return "://" in line.split(" ", 2)[1] if line.count(" ") else False
