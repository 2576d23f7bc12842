"""Clean-ups of the cache and back-off per phase, as functions of the client's library tell them."""

from collections.abc import Iterator
from typing import Final, TypedDict

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.trace.intervals import Ints, Steps, add_by_group, covered, cut, overlay, pick
from cvtrace.analysis.trace.recording import Rows
from cvtrace.probes.events import Kind

CLEANUP: Final = frozenset({"PosixQuotaManager::DoCleanup"})
BACKOFF: Final = frozenset({"DownloadManager::Backoff", "BackoffThrottle::Throttle"})
NOTHING_NS: Final = 100_000
"""A clean-up that found nothing to do takes a few µs; any other writes to a database and the log, and starts a process."""


class ClientNumbers(TypedDict):
    """The fields of Phase that functions of the client tell."""

    cleanups: int | None
    cleanup_s: float | None
    cleanup_bytes: int | None
    backoff_s: float | None
    backoff_waited_s: float | None


def client_numbers(study: Study) -> Iterator[ClientNumbers]:
    """Yield the numbers of each row of Phases.names; None for what was not observed."""
    cleanups = _Cleanups(study) if _observed(study, CLEANUP) else None
    slept_ns, waited_ns = _backoff(study) if _observed(study, BACKOFF) else (None, None)
    for row in range(len(study.phases.names)):
        yield ClientNumbers(
            cleanups=int(cleanups.count[row]) if cleanups else None,
            cleanup_s=int(cleanups.spent_ns[row]) / 1e9 if cleanups else None,
            cleanup_bytes=int(cleanups.freed[row]) if cleanups and not cleanups.unknown[row] else None,
            backoff_s=int(slept_ns[row]) / 1e9 if slept_ns is not None else None,
            backoff_waited_s=int(waited_ns[row]) / 1e9 if waited_ns is not None else None,
        )


def _observed(study: Study, functions: frozenset[str]) -> bool:
    """Return whether the functions were seen in the clients of all mounts that the target used."""
    mounts = study.recording.meta.get("mounts") or ()
    observed_functions = {
        str(mount.get("path") or "").rstrip("/"): set(mount.get("client_functions") or ()) for mount in mounts
    }
    return bool(study.mounts) and all(functions <= observed_functions.get(mount.path, set()) for mount in study.mounts)


def _rows(study: Study, kind: Kind) -> Rows:
    """Return the events of the clients whose mounts the target used, and of the managers of their caches."""
    rows = study.recording.of(kind)
    unused_daemons = [mount.daemon_pid for mount in study.recording.mounts if mount not in study.mounts]
    return rows.where(~np.isin(rows.tgid, unused_daemons))


class _Cleanups:
    """Clean-ups that evicted something, by the row in which they began; `unknown` if bytes are not known of some."""

    def __init__(self, study: Study) -> None:
        rows, count = _rows(study, Kind.CLEANUP), len(study.phases.names)
        rows = rows.where((rows.b != 0) | (rows.end - rows.start > NOTHING_NS))
        segments = study.segments
        row = pick(segments.row, np.searchsorted(segments.start, rows.start, side="right") - 1, -1)
        rows, row = rows.where(row >= 0), row[row >= 0]
        self.count = np.bincount(row, minlength=count)
        self.spent_ns = add_by_group(row, rows.end - rows.start, count)
        self.freed = add_by_group(row, np.maximum(rows.b, 0), count)
        self.unknown = np.bincount(row[rows.b <= 0], minlength=count) > 0


def _backoff(study: Study) -> tuple[Ints, Ints]:
    """Return, by row, how long a thread of the client slept in back-off, and how long the row waited for that."""
    rows, segments, count = _rows(study, Kind.BACKOFF), study.segments, len(study.phases.names)
    begin = study.recording.start_ns
    phases = overlay(Steps.constant(-1), segments.start - begin, segments.end - begin, segments.row)
    pieces = cut(phases, rows.start - begin, rows.end - begin)
    inside = pieces.value >= 0
    slept = covered(pieces.value[inside], pieces.start[inside], pieces.end[inside], count)
    retries, throttles = rows.where(rows.a != 0), rows.where(rows.a == 0)
    waited_ns = _waited_ns(study, retries, retries.tgid, study.requests.daemon)
    return slept, waited_ns + _waited_ns(study, throttles, throttles.tid, study.requests.worker)


def _waited_ns(study: Study, rows: Rows, key: Ints, of_request: Ints) -> Ints:
    """Return, by row, how much of the network.queue of requests falls into `rows` of the same key."""
    lanes, path = study.recording.lanes(key), study.critical_path
    asleep = overlay(Steps.constant(0), lanes.at(key, rows.start), lanes.at(key, rows.end), 1)
    waited = np.zeros(len(study.phases.names), dtype=np.int64)
    for part in path.parts() if len(rows) else ():
        key_of_piece = pick(of_request, part.request, -1)
        queued = np.flatnonzero((part.value == int(Class.NETWORK_QUEUE)) & (lanes.rank(key_of_piece) >= 0))
        of_queued = key_of_piece[queued]
        pieces = cut(asleep, lanes.at(of_queued, part.start[queued]), lanes.at(of_queued, part.end[queued]))
        spent = np.where(pieces.value == 1, pieces.end - pieces.start, 0)
        waited += add_by_group(study.segments.row[part.of[queued[pieces.which]]], spent, len(waited))
    return waited
