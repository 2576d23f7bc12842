"""What was traced against what the client itself counted."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.evidence_schema import Check
from cvtrace.analysis.joins.fetches import BAD_STATUS, CUT, SILENT, Gets
from cvtrace.analysis.storage.reloads import client_reloads
from cvtrace.analysis.storage.tries import failed_connects_of
from cvtrace.analysis.trace.intervals import Bools, Ints
from cvtrace.analysis.trace.recording import Mount, Recording
from cvtrace.probes.events import Kind, Opcode

ATTRIBUTES: Final = {"opens": ("nopen", 1), "http_fetches": ("ndownload", 1), "http_bytes": ("rx", 1024)}
"""What the client shows everybody instead, and in which unit: objects fetched for requests, KiB for bytes."""
HEAD_BYTES: Final = 512
"""By how much the head of an answer may be longer or shorter than usual."""
COUNTERS: Final = {
    "fuse_reads": "cvmfs.n_fs_read",
    "opens": "cvmfs.n_fs_open",
    "http_fetches": "download.n_requests",
    "http_bytes": "download.sz_transferred_bytes",
}


def reconcile(study: Study, mounts: tuple[Mount, ...]) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Compare the counts of `mounts`, added up. Returns (checks, why a check is absent).

    A check agrees if each mount does. Everything the daemons did counts, whoever asked for it: the counters know no
    processes. Where requests cannot be observed, the client's count stands alone. A client counts each try,
    also one for which no connection came about; one that was reloaded counts from the reload on, which nothing can be compared with.
    """
    recording, gets = study.recording, study.gets
    if not recording.mounts:
        return (), ("no CVMFS mount was observed",)
    by_daemon = {mount.daemon_pid: mount for mount in mounts}
    with_counters = [mount for mount in by_daemon.values() if mount.counters_before and mount.counters_after]
    obstacles = [_absent(mount) for mount in by_daemon.values() if mount not in with_counters]
    restarted = [mount for mount in with_counters if _began_anew(study, mount)]
    obstacles += [_reloaded(mount) for mount in restarted]
    comparable = [mount for mount in with_counters if mount not in restarted]
    bounds_of_mounts = [_traced_bounds(mount, study) for mount in comparable]
    checks = []
    for name, counter in COUNTERS.items() if comparable else ():
        if not recording.sees_requests:
            client_counts = [count for mount in comparable if (count := _count_of_client(mount, name)) is not None]
            checks += [Check(name, None, sum(client_counts), None)] if client_counts else []
            continue
        clients = [mount.counter_delta(counter) for mount in comparable]
        pairs = [(bounds[name].near(client), client) for bounds, client in zip(bounds_of_mounts, clients, strict=True)]
        if name == "http_bytes" and gets.encrypted.any():
            obstacles.append(
                "bytes cannot be compared with what cvmfs2 counted: those of HTTPS are seen as on the wire"
            )
            continue
        client_total = [client for client in clients if client is not None]
        if len(client_total) < len(pairs):
            obstacles.append(f"cvmfs2 did not report {counter}")
            continue
        agree = all(traced == client for traced, client in pairs)
        checks.append(Check(name, sum(traced for traced, _ in pairs), sum(client_total), agree))
    return tuple(checks), tuple(obstacles)


def _count_of_client(mount: Mount, name: str) -> int | None:
    """Return the client's own count, from its attributes if it tells no better."""
    count = mount.counter_delta(COUNTERS[name])
    if count is not None or name not in ATTRIBUTES:
        return count
    attribute, unit = ATTRIBUTES[name]
    attribute_count = mount.counter_delta(attribute)
    return None if attribute_count is None else attribute_count * unit


@dataclass(frozen=True)
class _Bounds:
    """How much was traced while the client counted: what was under way when it was asked may be in its count, or not."""

    least: int
    most: int

    @classmethod
    def of(cls, mount: Mount, start: Ints, end: Ints, amount: Ints) -> "_Bounds":
        """Add up `amount` of what was done from `start` to `end`."""
        if mount.counting_ns is None:
            return cls(int(amount.sum()), int(amount.sum()))
        first_query, first_reply, second_query, second_reply = mount.counting_ns
        is_inside, may_be_inside = (
            (start >= first_reply) & (end <= second_query),
            (end >= first_query) & (start <= second_reply),
        )
        return cls(int(amount[is_inside].sum()), int(amount[may_be_inside].sum()))

    def near(self, client: int | None) -> int:
        """Return the client's own count if it is one of those that are possible, else the nearest."""
        return self.most if client is None else min(max(client, self.least), self.most)


def _began_anew(study: Study, mount: Mount) -> bool:
    """Return whether the counters of a client began anew: it was seen to be reloaded, or counts less than before."""
    fell = any((mount.counter_delta(counter) or 0) < 0 for counter in COUNTERS.values())
    return fell or mount.daemon_pid in client_reloads(study)[0].tolist()


def _traced_bounds(mount: Mount, study: Study) -> dict[str, _Bounds]:
    requests, gets = study.requests, study.gets
    served = (requests.daemon == mount.daemon_pid) & requests.seen_by_daemon
    fetched = gets.daemon == mount.daemon_pid

    def bounds_of(opcode: Opcode) -> _Bounds:
        chosen = served & requests.is_(opcode)
        return _Bounds.of(mount, requests.received[chosen], requests.replied[chosen], np.ones(chosen.sum(), np.int64))

    return {
        "fuse_reads": bounds_of(Opcode.READ),
        "opens": bounds_of(Opcode.OPEN),
        "http_fetches": _downloads(mount, study, fetched),
        "http_bytes": _bytes(mount, study, fetched),
    }


def _downloads(mount: Mount, study: Study, fetched: Bools) -> _Bounds:
    """Count tries of downloads, as the client does: GETs, and connections that did not come about.

    How many tries there were without an answer is not certain: libcurl asks again by itself on a new connection where an old one was closed,
    and tries another address. Nor is it of jobs that never came as far as a connection.
    """
    gets, jobs, refused_connections = study.gets, study.jobs, failed_connects_of(study)
    is_silent = gets.outcome == SILENT
    with_answer = fetched & ~is_silent
    bounds = _Bounds.of(
        mount, _begin(gets)[with_answer], _end(gets)[with_answer], np.ones(int(with_answer.sum()), np.int64)
    )
    was_refused, tried_jobs = (
        refused_connections.daemon == mount.daemon_pid,
        np.concatenate([gets.job, refused_connections.job]),
    )
    untried = (jobs.daemon == mount.daemon_pid) & (jobs.result > 0) & ~np.isin(np.arange(len(jobs)), tried_jobs)
    possible_starts = np.concatenate(
        [gets.sent[fetched & is_silent], refused_connections.start[was_refused], jobs.taken[untried]]
    )
    possible = _Bounds.of(mount, possible_starts, possible_starts, np.ones(len(possible_starts), np.int64))
    return _Bounds(bounds.least, bounds.most + possible.most)


def _bytes(mount: Mount, study: Study, fetched: Bools) -> _Bounds:
    """Add up bodies. Those of errors the client does not take; how long the head of an answer was that was cut is not known exactly.

    The client counts a body when it has come as a whole, also one whose GET was sent before the recording began.
    """
    gets = study.gets
    is_counted = fetched & (gets.outcome < BAD_STATUS)
    bounds = _Bounds.of(mount, _begin(gets)[is_counted], _end(gets)[is_counted], gets.body_bytes[is_counted])
    slack = HEAD_BYTES * int((is_counted & (gets.outcome == CUT)).sum())
    return _Bounds(max(bounds.least - slack, 0), bounds.most + slack + _under_way(mount, study.recording))


def _under_way(mount: Mount, recording: Recording) -> int:
    """Return how many bytes the bodies can have, at most, that were coming when the recording began: it has their ends and not their GETs.

    Their size is that of an object, and no object that was put into the cache is larger than the largest.
    """
    rows = recording.of(Kind.HTTP_CONNECT, Kind.HTTP_SEND, Kind.HTTP_RECV)
    rows = rows.where((rows.tgid == mount.daemon_pid) & ((rows.kind != Kind.HTTP_RECV) | (rows.ret > 0)))
    first = rows.where(np.unique(rows.a, return_index=True)[1])  # of each connection
    coming = int((first.kind == Kind.HTTP_RECV).sum())
    inserts = recording.of(Kind.CACHE_INSERT)
    sizes = inserts.a[inserts.tgid == mount.daemon_pid]
    return coming * (int(sizes.max()) + HEAD_BYTES) if len(sizes) else 0


def _begin(gets: Gets) -> Ints:
    return np.where(gets.connecting >= 0, gets.connecting, gets.sent)


def _end(gets: Gets) -> Ints:
    return np.maximum(gets.last, gets.sent)


def _reloaded(mount: Mount) -> str:
    return f"cvmfs2 (pid {mount.daemon_pid}, {mount.path}) was reloaded while it was traced: its counters began anew, and cannot be compared"


def _absent(mount: Mount) -> str:
    reason = f": {mount.error}" if mount.error else ""
    return f"the counters of cvmfs2 (pid {mount.daemon_pid}, {mount.path}) could not be read{reason}"
