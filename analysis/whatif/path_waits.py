"""Waits of the critical path for FUSE requests: one row for each phase and request, and which GETs each was for."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import MEMBERS, Class
from cvtrace.analysis.joins.prefetches import is_of_file
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, distinct

CLASSES: Final = len(Class)
NETWORK: Final = tuple(Class(number) for number in MEMBERS["network"])
TELLING_BYTES: Final = 1 << 18
"""Size from which on a GET tells something of the bandwidth."""


@dataclass(frozen=True)
class PathWaits:
    """Waits sorted by (phase, start). `times` has one column per class, ns on the critical path."""

    row: Ints
    request: Ints
    start: Ints
    times: Ints
    gets: Ints
    """GETs that the request itself caused; 0 if it waited for those of another."""
    connects: Ints
    bytes: Ints
    """Of the bodies of these GETs."""
    foreseeable: Bools
    """All of them for chunks or whole files, which could have been asked for before they were needed."""

    def __len__(self) -> int:
        return len(self.row)

    def of(self, *classes: Class) -> Ints:
        """Return the ns of these classes, one entry per wait."""
        return np.asarray(self.times[:, [int(each) for each in classes]].sum(axis=1))


def path_waits(study: Study) -> PathWaits:
    """Add up the pieces of the critical path by phase and request."""
    path, gets, count = study.critical_path, study.gets, len(study.requests)
    waiting = np.flatnonzero(path.request >= 0)
    key = study.segments.row[path.of[waiting]] * max(count, 1) + path.request[waiting]
    waits = distinct(key)
    wait_of_piece = np.searchsorted(waits, key)
    start = np.empty(len(waits), dtype=np.int64)
    start[wait_of_piece[::-1]] = path.start[waiting][
        ::-1
    ]  # the path is in the order of time: the first is written last
    times = np.bincount(
        wait_of_piece * CLASSES + path.value[waiting], weights=path.length[waiting], minlength=len(waits) * CLASSES
    ).astype(np.int64)
    order = np.lexsort((start, waits // max(count, 1)))
    request = (waits % max(count, 1))[order]
    sums = [add_by_group(gets.request, amount, count) for amount in _amounts(study)]
    gets_of_request, connects, size, unforeseeable = (column[request] for column in sums)
    return PathWaits(
        row=(waits // max(count, 1))[order],
        request=request,
        start=start[order],
        times=times.reshape(-1, CLASSES)[order],
        gets=gets_of_request,
        connects=connects,
        bytes=size,
        foreseeable=(gets_of_request > 0) & (unforeseeable == 0),
    )


def _amounts(study: Study) -> tuple[Ints, Ints, Ints, Ints]:
    """Return per GET: one, whether it connected, its bytes, and whether it could not be foreseen."""
    gets = study.gets
    is_unforeseeable = (~is_of_file(gets.line)).astype(np.int64)
    return (
        np.ones(len(gets), dtype=np.int64),
        (gets.connecting >= 0).astype(np.int64),
        gets.body_bytes,
        is_unforeseeable,
    )


@dataclass(frozen=True)
class Link:
    """What the trace shows of the network to the server: None where it shows nothing."""

    rtt_s: float | None
    rtt_from: str
    bytes_per_s: float | None


def link(study: Study) -> Link:
    """Estimate round trip and bandwidth.

    A TCP connect takes one round trip and no work of the server, so the shortest one is the best measure; without any, the
    shortest time from GET to first byte contains it. The bandwidth is that of the fastest large body: it is at least that.
    """
    gets, time = study.gets, study.job_time
    answered = gets.first >= 0
    request = (gets.first - gets.sent)[answered]
    connect = (time.sent - time.connect)[(gets.connecting >= 0) & ~gets.encrypted]
    measures = [(connect, "the shortest connect"), (request, "the shortest wait for a first byte")]
    candidates = [(int(spent.min()), label) for spent, label in measures if len(spent)]
    base, source = min(candidates, default=(-1, ""))
    large = answered & (gets.body_bytes >= TELLING_BYTES) & (gets.last > gets.first)
    speed = gets.body_bytes[large] / ((gets.last - gets.first)[large] / 1e9)
    return Link(
        rtt_s=base / 1e9 if base >= 0 else None,
        rtt_from=source,
        bytes_per_s=float(speed.max()) if len(speed) else None,
    )
