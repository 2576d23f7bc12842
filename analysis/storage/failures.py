"""What the target wanted of a mount and did not get: which bytes of which file, what the client tried for it, and what became of it."""

import errno
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Failure
from cvtrace.analysis.joins.fetches import is_proxied
from cvtrace.analysis.joins.paths import enclosing_call
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.joins.requests import HARMLESS
from cvtrace.analysis.storage.processes import Ends, ends, signal_name
from cvtrace.analysis.storage.tries import FailedConnects, connection_error, failed_connects_of, outcome_of
from cvtrace.analysis.trace.intervals import Ints, match, pick
from cvtrace.analysis.trace.keys import PAGE, address_text
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind, Opcode

GONE: Final = ("ENOTCONN", "ECONNABORTED")
"""Errors of the kernel where no client serves the mount."""

CACHE_NOT_WRITTEN: Final = "the cache could not be written"
CLIENT: Final = (
    "", CACHE_NOT_WRITTEN, "the URL is wrong", "the proxy's name has no address", "the server's name has no address",
    "all proxies failed", "no connection to the proxy", "no connection to the server", "the proxy answered with an error",
    "the server answered with an error", "the data is damaged", "the object is too large", "unknown", "the URL cannot be used",
    "the proxy is too slow", "the server is too slow", "the proxy cut the data short", "the server cut the data short", "cancelled",
)  # fmt: skip
"""The client's reasons by its own numbers (enum Failures in cvmfs/network/network_errors.h of 2.12)."""
WHAT: Final = {
    int(Opcode.READ): "read",
    int(Opcode.OPEN): "open",
    int(Opcode.LOOKUP): "look up",
    int(Opcode.OPENDIR): "list",
    int(Opcode.READDIR): "list",
    int(Opcode.READDIRPLUS): "list",
    int(Opcode.GETATTR): "stat",
    int(Opcode.READLINK): "read link",
    int(Opcode.GETXATTR): "read attribute of",
}
OF_CALL: Final = {
    int(Kind.SYS_READ): "read",
    int(Kind.SYS_OPEN): "open",
    int(Kind.SYS_MMAP): "map",
    int(Kind.SYS_LIST): "list",
    int(Kind.SYS_LINK): "read link",
}
MOST: Final = 200
"""Failures that are told one by one."""
SIGBUS: Final = 7


@dataclass(frozen=True)
class _Tries:
    """What the client tried for a download: words, statuses, and where it asked."""

    words: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    url: str | None = None
    server: str | None = None
    proxied: bool = False
    client_reason: str | None = None
    object: str | None = None


def failure_rows(study: Study, ended: Ends | None = None) -> tuple[Failure, ...]:
    """Return what failed, what ended a process first, then by time; alike failures of one file are one row."""
    recording, requests = study.recording, study.requests
    ended = ended if ended is not None else ends(recording)
    failed = np.flatnonzero(requests.failed & requests.by_target & requests.expects_reply)
    deadly = _deadly(study, ended, failed)
    tids, tgids = recording.target_threads
    process = pick(tgids, match(tids, requests.asker[failed]), -1)
    of = (requests.connection, requests.nodeid, requests.opcode, requests.error)
    groups, which = np.unique(np.stack([*(each[failed] for each in of), process]), axis=1, return_inverse=True)
    which, number = which.ravel(), groups.shape[1]
    count = np.bincount(which, minlength=number)
    shown = np.full(number, len(failed), dtype=np.int64)
    np.minimum.at(
        shown, which, np.arange(len(failed))
    )  # the first of each, but of those that ended a process, that one
    ending = np.flatnonzero(np.isin(failed, list(deadly)))
    shown[which[ending]] = ending
    order = np.argsort(requests.sent[failed[shown]], kind="stable")[:MOST]
    failed_connects = failed_connects_of(study)
    rows = [
        _of_request(study, failed_connects, int(failed[shown[each]]), int(count[each]), ended, deadly)
        for each in order.tolist()
    ]
    rows += _of_calls(study, failed)
    rows += _of_signals(study, ended, deadly)
    return tuple(sorted(rows, key=lambda row: (row.signal is None, row.start_s)))


def _deadly(study: Study, ended: Ends, failed: Ints) -> dict[int, int]:
    """Return which failed requests a SIGBUS followed: request -> place in `ended`. It is the thread's own last one before."""
    deadly: dict[int, int] = {}
    requests = study.requests
    tids, tgids = study.recording.target_threads
    process = pick(tgids, match(tids, requests.asker[failed]), -1)
    for place in np.flatnonzero((ended.signal == SIGBUS) & (ended.time >= 0)).tolist():
        of_process = (
            requests.asker[failed] == ended.tid[place] if ended.tid[place] >= 0 else process == ended.pid[place]
        )
        before = failed[of_process & (requests.replied[failed] <= ended.time[place])]
        if len(before):
            deadly[int(before[np.argmax(requests.replied[before])])] = place
    return deadly


def _of_request(
    study: Study, failed_connects: FailedConnects, request: int, count: int, ended: Ends, deadly: dict[int, int]
) -> Failure:
    requests = study.requests
    opcode = int(requests.opcode[request])
    path, read_at = _place_of_request(study, request)
    tries, place = _tried(study, failed_connects, request), deadly.get(request)
    tids, tgids = study.recording.target_threads
    pid = int(pick(tgids, match(tids, requests.asker[[request]]), 0)[0])
    reading = opcode == Opcode.READ
    offset = int(requests.offset[request]) if reading and requests.offset[request] >= 0 else None
    if reading and offset is None:
        offset = read_at
    if place is not None and reading:
        offset = _last_fault(study, request, offset, int(ended.tid[place]))
    return Failure(
        what=WHAT.get(opcode, "ask for"),
        path=path,
        offset_bytes=offset,
        size_bytes=int(requests.size[request]) if reading else None,
        error=errno.errorcode.get(-int(requests.error[request]), str(int(requests.error[request]))),
        count=count,
        start_s=_since_start(study, int(requests.sent[request])),
        waited_s=int(requests.replied[request] - requests.sent[request]) / 1e9,
        pid=pid,
        signal=None if place is None else signal_name(int(ended.signal[place])),
        object=tries.object,
        url=tries.url,
        server=tries.server,
        proxied=tries.proxied,
        outcomes=tries.words,
        statuses=tries.statuses,
        tries=len(tries.words),
        client_said=tries.client_reason,
    )


def _place_of_request(study: Study, request: int) -> tuple[str, int | None]:
    """Return which file a request is about, and where in it the thread read; of one that no client took, by what the thread was at."""
    requests = study.requests
    connection, tid, sent = (column[[request]] for column in (requests.connection, requests.asker, requests.sent))
    if requests.nodeid[request] >= 0:
        return study.file_paths.of(connection, requests.nodeid[[request]])[0], None
    (call,) = enclosing_call(study.recording, study.calls, tid, sent, sent).tolist()
    rows = study.calls.rows
    if call >= 0 and rows.kind[call] == Kind.SYS_READ:
        path = descriptor_path(study.recording, int(rows.tgid[call]), int(rows.a[call]), int(rows.start[call]))
        return path, int(rows.b[call]) if rows.b[call] >= 0 else None
    if call >= 0 and rows.kind[call] == Kind.SYS_OPEN:
        return study.recording.text(rows.where(np.array([call])))[0], None
    faults = study.recording.of(Kind.FAULT)
    of_thread = faults.where((faults.tid == tid) & (faults.start <= sent))
    return (
        (study.file_paths.of(connection, of_thread.b[-1:])[0], int(of_thread.c[-1]) * PAGE)
        if len(of_thread)
        else ("", None)
    )


def _last_fault(study: Study, request: int, offset: int | None, tid: int) -> int | None:
    """Return the page that the thread touched last before a READ, which may have asked for more before and behind it."""
    faults = study.recording.of(Kind.FAULT)
    of_thread = faults.where((faults.tid == tid) & (faults.start <= study.requests.replied[request]))
    return int(of_thread.c[-1]) * PAGE if len(of_thread) else offset


def _tried(study: Study, failed_connects: FailedConnects, request: int) -> _Tries:
    """Return what the client tried for a request: in its own download, or in one that it waited for."""
    jobs, gets = study.jobs, study.gets
    failed_jobs = np.flatnonzero((jobs.request == request) & (jobs.result > 0))
    if not len(failed_jobs):
        start, end = study.requests.received[request], study.requests.replied[request]
        request_object = study.use.object[request]
        at_once = (jobs.filled >= start) & (jobs.handed <= end) & (jobs.daemon == study.requests.daemon[request])
        failed_jobs = np.flatnonzero(
            at_once & (jobs.result > 0) & ((jobs.object == request_object) | (request_object < 0))
        )
    if not len(failed_jobs):
        return _Tries()
    job = int(failed_jobs[-1])
    job_gets, job_connects = np.flatnonzero(gets.job == job), np.flatnonzero(failed_connects.job == job)
    attempts = [(int(gets.sent[each]), outcome_of(study, each), int(gets.status[each])) for each in job_gets.tolist()]
    attempts += [
        (int(failed_connects.start[each]), connection_error(int(failed_connects.error[each])), 0)
        for each in job_connects.tolist()
    ]
    attempts.sort()
    number = int(jobs.result[job])
    return _Tries(
        words=tuple(word for _, word, _ in attempts),
        statuses=tuple(status for _, _, status in attempts),
        url=_url(gets.line[job_gets[-1]]) if len(job_gets) else None,
        server=_server(study, failed_connects, job_gets, job_connects),
        proxied=bool(len(job_gets)) and is_proxied(gets.line[job_gets[-1]]),
        client_reason=CLIENT[number] if number < len(CLIENT) else f"failure {number}",
        object=study.opens.names[jobs.object[job]] if jobs.object[job] >= 0 else None,
    )


def _url(line: str) -> str | None:
    return line.split(" ", 2)[1] if line.count(" ") else None


def _server(study: Study, failed_connects: FailedConnects, job_gets: Ints, job_connects: Ints) -> str | None:
    """Return address and port of the peer that was asked last: of a proxy if one is used."""
    gets = study.gets
    attempts = [(int(gets.sent[each]), int(gets.address[each])) for each in job_gets.tolist()]
    attempts += [
        (int(failed_connects.start[each]), int(failed_connects.address[each])) for each in job_connects.tolist()
    ]
    known = [address for _, address in sorted(attempts) if address >= 0]
    return address_text(known[-1]) if known else None


def _since_start(study: Study, time_ns: int) -> float:
    return (time_ns - life(study.recording)[0]) / 1e9


def _of_calls(study: Study, failed: Ints) -> list[Failure]:
    """Return calls on a mount that failed without a request that did: the client was gone."""
    rows = study.calls.rows
    wrong = (rows.ret < 0) & ~np.isin(rows.ret, HARMLESS) & np.isin(rows.kind, tuple(OF_CALL)) & study.calls.on_mount
    chosen = np.flatnonzero(wrong & ~rows.unfinished)
    if not len(chosen):
        return []
    requests = study.requests
    by_thread = np.lexsort((requests.sent[failed], requests.asker[failed]))
    lanes = study.recording.lanes(requests.asker[failed])
    places = lanes.at(requests.asker[failed], requests.sent[failed])[by_thread]
    begin = np.searchsorted(places, lanes.at(rows.tid[chosen], rows.start[chosen]))
    end = np.searchsorted(places, lanes.at(rows.tid[chosen], rows.end[chosen]))
    chosen = chosen[(begin == end) | (lanes.rank(rows.tid[chosen]) < 0)]
    opens = study.calls.rows.where(chosen)
    texts = dict(zip(chosen.tolist(), study.recording.text(opens), strict=True))
    key = np.stack([rows.kind[chosen], rows.ret[chosen], rows.tgid[chosen]])
    _, first, count = np.unique(key, axis=1, return_index=True, return_counts=True)
    return [
        Failure(
            what=OF_CALL[int(rows.kind[call])],
            path=texts[call]
            or descriptor_path(study.recording, int(rows.tgid[call]), int(rows.a[call]), int(rows.start[call])),
            offset_bytes=int(rows.b[call]) if rows.kind[call] == Kind.SYS_READ and rows.b[call] >= 0 else None,
            size_bytes=int(rows.c[call]) if rows.kind[call] == Kind.SYS_READ else None,
            error=errno.errorcode.get(-int(rows.ret[call]), str(int(rows.ret[call]))),
            count=int(times),
            start_s=_since_start(study, int(rows.start[call])),
            waited_s=int(rows.end[call] - rows.start[call]) / 1e9,
            pid=int(rows.tgid[call]),
        )
        for call, times in zip(chosen[first[:MOST]].tolist(), count.tolist(), strict=False)
    ]


def descriptor_path(recording: Recording, tgid: int, fd: int, when_ns: int) -> str:
    """Return what a process opened last as a descriptor before a time, as it gave it; empty if that was not seen."""
    opens = recording.of(Kind.SYS_OPEN)
    of_process = opens.where((opens.tgid == tgid) & (opens.ret == (fd & 0xFFFFFFFF)) & (opens.end <= when_ns))
    return recording.text(of_process.where(np.array([len(of_process) - 1])))[0] if len(of_process) else ""


def _of_signals(study: Study, ended: Ends, deadly: dict[int, int]) -> list[Failure]:
    """Return the SIGBUS of processes that touched a page of a mapping on a mount without a request that failed."""
    places = set(np.flatnonzero((ended.signal == SIGBUS) & (ended.time >= 0)).tolist()) - set(deadly.values())
    rows = []
    for place in sorted(places):
        mapped = mapping_at(study.recording, int(ended.pid[place]), int(ended.address[place]), int(ended.time[place]))
        if mapped is None or not any(mapped[0].startswith(f"{mount.path}/") for mount in study.recording.mounts):
            continue
        rows.append(
            Failure(
                what="read",
                path=mapped[0],
                offset_bytes=mapped[1],
                size_bytes=None,
                error="",
                count=1,
                start_s=_since_start(study, int(ended.time[place])),
                waited_s=0.0,
                pid=int(ended.pid[place]),
                signal=signal_name(SIGBUS),
            )
        )
    return rows


def mapping_at(recording: Recording, pid: int, address: int, when_ns: int) -> tuple[str, int] | None:
    """Return file and offset of what a process, or one that it was forked from, had mapped at an address."""
    placed, maps, forks = recording.of(Kind.SYS_MAPPED), recording.of(Kind.SYS_MMAP), recording.of(Kind.PROC_FORK)
    for _ in range(8):
        mappings = placed.where(
            (placed.tgid == pid) & (placed.start <= when_ns) & (placed.a <= address) & (address < placed.a + placed.c)
        )
        if len(mappings):
            calls = maps.where((maps.tgid == pid) & (maps.start == mappings.start[-1]))
            path = descriptor_path(recording, pid, int(mappings.b[-1]), int(mappings.start[-1]))
            offset = address - int(mappings.a[-1]) + (int(calls.b[-1]) if len(calls) else 0)
            return (path, offset) if path else None
        born = forks.where((forks.a == pid) & (forks.tgid != pid))
        if not len(born):
            return None
        pid, when_ns = int(born.tgid[-1]), int(born.start[-1])
    return None
