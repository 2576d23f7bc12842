"""What the client tried and did not get: connections that did not come about, GETs that failed, and the pauses before it tried again."""

import errno
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import size
from cvtrace.analysis.joins.fetches import BAD_STATUS, CUT, SILENT, rows_of_jobs
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.keys import address_key, descriptor_key, high_half
from cvtrace.analysis.trace.recording import EventIndex
from cvtrace.probes.events import Kind

CONNECTION: Final = {
    -errno.ECONNREFUSED: "connection refused",
    -errno.ECONNRESET: "connection reset",
    -errno.ETIMEDOUT: "connection timed out",
    -errno.EHOSTUNREACH: "host unreachable",
    -errno.ENETUNREACH: "network unreachable",
}
LOCAL_IO: Final = 1
"""The client's number for what it could not write into its cache (cvmfs/network/network_errors.h)."""
TOO_SLOW: Final = (14, 15)
"""Its numbers for a proxy and a server that sent less than CVMFS_LOW_SPEED_LIMIT."""
BAD_DATA: Final = 10
"""Its number for what does not have the hash it should have."""
ENDED_BY_CLIENT: Final = {LOCAL_IO: "given up", **dict.fromkeys(TOO_SLOW, "too slow, given up")}
"""How a body that did not come whole ended, where it was the client that ended it."""
SHORTEST_PAUSE_NS: Final = 1_000_000
"""What is shorter is no back-off."""


@dataclass(frozen=True)
class FailedConnects:
    """Connections of the download thread on which nothing was ever sent, with the job each was for (-1: not known)."""

    job: Ints
    start: Ints
    error: Ints
    """The errno that the client was told, negative; 0 if that was not seen."""
    daemon: Ints
    address: Ints
    """keys.address_key of the peer."""

    def __len__(self) -> int:
        return len(self.start)


def failed_connects_of(study: Study) -> FailedConnects:
    """Find the connections that did not come about.

    Left out are those that may be under way at the end, and an attempt by IPv6 of which libcurl made a second by IPv4 in the same breath.
    """
    recording, jobs = study.recording, study.jobs
    turns = recording.of(Kind.HTTP_CONNECT, Kind.HTTP_SEND)
    on_socket = EventIndex(recording, turns, descriptor_key(turns.tgid, turns.a))
    rows = on_socket.rows
    next_same = np.append(
        (on_socket.places[1:] // on_socket.lanes.span_ns) == (on_socket.places[:-1] // on_socket.lanes.span_ns), False
    )
    used = next_same[: len(rows)] & (np.append(rows.kind[1:], 0)[: len(rows)] == Kind.HTTP_SEND)
    connects = rows.where((rows.kind == Kind.HTTP_CONNECT) & ~used)
    taken = EventIndex(recording, rows_of_jobs(jobs, jobs.taken), jobs.downloader)
    job = pick(taken.rows.index, taken.asof_backward(connects.tid, connects.start), -1)
    job = np.where(pick(jobs.back, job, -1) >= connects.start, job, -1)
    ended = pick(jobs.result, job, -1) >= 0
    second = EventIndex(recording, recording.of(Kind.HTTP_CONNECT), recording.of(Kind.HTTP_CONNECT).tid)
    follower = second.asof_forward(connects.tid, connects.start + 1)
    soon = (follower >= 0) & (pick(second.rows.start, follower, 0) - connects.start < 250_000_000)
    errors = recording.of(Kind.HTTP_ERROR)
    of_socket = EventIndex(recording, errors, descriptor_key(errors.tgid, errors.a))
    answer = of_socket.asof_forward(descriptor_key(connects.tgid, connects.a), connects.start)
    turn = on_socket.asof_forward(descriptor_key(connects.tgid, connects.a), connects.start + 1)
    before_next = pick(of_socket.rows.start, answer, -1) < pick(rows.start, turn, recording.end_ns + 1)
    error = np.where((answer >= 0) & before_next, pick(of_socket.rows.ret, answer, 0), 0)
    error = np.where((connects.ret < 0) & (connects.ret != -errno.EINPROGRESS), connects.ret, error)
    ended |= error < 0
    other_family = soon & ((connects.b & 0xFFFF) == 10) & ((pick(second.rows.b, follower, 10) & 0xFFFF) == 2)
    chosen = ended & ~other_family
    connects, job = connects.where(chosen), job[chosen]
    return FailedConnects(
        job=job,
        start=connects.start,
        error=error[chosen],
        daemon=connects.tgid,
        address=np.where(connects.c > 0, address_key(connects.c, high_half(connects.b)), -1),
    )


def connection_error(error: int) -> str:
    """Return an errno of a connection in words."""
    return CONNECTION.get(error, "no connection")


def outcome_of(study: Study, get: int) -> str:
    """Return in words what became of a GET."""
    gets = study.gets
    outcome, result = int(gets.outcome[get]), int(pick(study.jobs.result, gets.job[[get]], -1)[0])
    if outcome >= BAD_STATUS:
        return str(outcome)
    if outcome == SILENT:
        return "no answer"
    if outcome == CUT:
        how_far = f"after {size(int(gets.body_bytes[get]))} of {size(int(gets.length[get]))}"
        return f"{ENDED_BY_CLIENT.get(result, 'cut')} {how_far}"
    return "damaged data" if result == BAD_DATA else "answered"


def is_given_up(study: Study) -> Bools:
    """Tell which GETs the client itself ended, because it could not write what came into its cache: no fault of the server."""
    gets = study.gets
    given_up: Bools = (gets.outcome == CUT) & (pick(study.jobs.result, gets.job, -1) == LOCAL_IO)
    return given_up


@dataclass(frozen=True)
class PeerChange:
    """The client went from one proxy or server to another, since tries at the first one failed. Addresses are keys.address_key."""

    before: int
    after: int
    failing_since: int
    """When the first of these tries began, ns."""
    start: int
    """When the first one at the other began, ns."""


def peer_changes(study: Study, failed_connects: FailedConnects) -> list[PeerChange]:
    """Find the changes of the peer after a failure, in the order of time; peers whose address was not seen are left out."""
    gets = study.gets
    starts = np.concatenate([np.where(gets.connecting >= 0, gets.connecting, gets.sent), failed_connects.start])
    daemons = np.concatenate([gets.daemon, failed_connects.daemon])
    addresses = np.concatenate([gets.address, failed_connects.address])
    failed = np.concatenate([gets.failed & ~is_given_up(study), np.ones(len(failed_connects), dtype=bool)])
    known = np.flatnonzero(addresses >= 0)
    order = known[np.lexsort((starts[known], daemons[known]))]
    starts, daemons, addresses, failed = starts[order], daemons[order], addresses[order], failed[order]
    same_daemon = daemons[1:] == daemons[:-1]
    goes_on = same_daemon & (addresses[1:] == addresses[:-1]) & failed[:-1]
    first = np.maximum.accumulate(np.where(np.append(False, goes_on), 0, np.arange(len(order))))
    last = np.flatnonzero(same_daemon & failed[:-1] & (addresses[1:] != addresses[:-1]))
    changes = [
        PeerChange(int(addresses[at]), int(addresses[at + 1]), int(starts[first[at]]), int(starts[at + 1]))
        for at in last.tolist()
    ]
    return sorted(changes, key=lambda change: change.start)


@dataclass(frozen=True)
class Pauses:
    """Times between a try that failed and the next one of the same job, by job; the client slept in between."""

    job: Ints
    start: Ints
    end: Ints


def pauses(study: Study, failed_connects: FailedConnects) -> Pauses:
    """Find the pauses: from the end of a try that failed, as far as it is known, to the begin of the next one."""
    gets, jobs = study.gets, study.jobs
    known, without = np.flatnonzero(gets.job >= 0), np.flatnonzero(failed_connects.job >= 0)
    get_start = np.where(gets.connecting >= 0, gets.connecting, gets.sent)[known]
    job = np.concatenate([gets.job[known], failed_connects.job[without]])
    start = np.concatenate([get_start, failed_connects.start[without]])
    failed = np.concatenate([gets.failed[known], np.ones(len(without), dtype=bool)])
    ended = np.concatenate([_ends(study)[known], failed_connects.start[without]])
    order = np.lexsort((start, job))
    job, start, failed, ended = job[order], start[order], failed[order], ended[order]
    follows = (job[1:] == job[:-1]) & failed[:-1] & (start[1:] - ended[:-1] >= SHORTEST_PAUSE_NS)
    chosen = np.flatnonzero(follows)
    return Pauses(job[chosen], ended[chosen], np.minimum(start[chosen + 1], jobs.filled[job[chosen]]))


def _ends(study: Study) -> Ints:
    """Return when each GET was over: with its last byte, or as its connection was closed."""
    gets = study.gets
    turns = study.recording.of(Kind.HTTP_RECV, Kind.CACHE_CLOSE)
    turns = turns.where((turns.kind == Kind.CACHE_CLOSE) | (turns.ret == 0))
    on_socket = EventIndex(study.recording, turns, descriptor_key(turns.tgid, turns.a))
    closed = on_socket.asof_forward(descriptor_key(gets.daemon, gets.descriptor), gets.sent)
    ended = pick(on_socket.rows.end, closed, -1)
    return np.where(gets.last >= 0, gets.last, np.where(ended >= 0, ended, gets.sent))


def waited_ns(study: Study, pauses: Pauses) -> int:
    """Return how long the critical path waited in pauses: for the request that each job is for."""
    request = pick(study.jobs.request, pauses.job, -1)
    known = [*zip(request.tolist(), pauses.start.tolist(), pauses.end.tolist(), strict=True)]
    known, total = [each for each in known if each[0] >= 0], 0
    for part in study.critical_path.parts() if known else ():
        for number, start, end in known:
            of_request = np.flatnonzero(part.request == number)
            within = np.minimum(part.end[of_request], end) - np.maximum(part.start[of_request], start)
            total += int(np.maximum(within, 0).sum())
    return total
