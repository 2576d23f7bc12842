"""Waits of the critical path for FUSE requests: one row for each phase and request, and which GETs each was for."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.path import PathPart
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import MEMBERS, Class
from cvtrace.analysis.joins.prefetches import is_of_file
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, empty, numbered
from cvtrace.tracer.columns import Packed

NETWORK: Final = tuple(Class(number) for number in MEMBERS["network"])
TELLING_BYTES: Final = 1 << 18
"""Size from which on a GET tells something of the bandwidth."""


@dataclass(frozen=True)
class PathWaits:
    """Waits sorted by (phase, start)."""

    row: Ints
    request: Ints
    start: Ints
    times: tuple[tuple[int, Packed, Packed, int], ...]
    """Time on the critical path: class, waits, ns, and of how many waits these are; a wait may be in several entries of a class."""
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
        total = np.zeros(len(self), dtype=np.int64)
        for value, wait, spent, count in self.times:
            if value in classes:
                total[wait.unpacked(count)] += spent.unpacked(count)
        return total


def path_waits(study: Study) -> PathWaits:
    """Add up the pieces of the critical path by phase and request."""
    gets, count = study.gets, len(study.requests)
    waits, start = _waits(study)
    order = np.lexsort((start, waits // max(count, 1)))
    place = np.empty(len(waits), dtype=np.int64)
    place[order] = np.arange(len(waits))
    request = (waits % max(count, 1))[order]
    sums = [add_by_group(gets.request, amount, count) for amount in _amounts(study)]
    gets_of_request, connects, size, unforeseeable = (column[request] for column in sums)
    return PathWaits(
        row=(waits // max(count, 1))[order],
        request=request,
        start=start[order],
        times=_times(study, waits, place),
        gets=gets_of_request,
        connects=connects,
        bytes=size,
        foreseeable=(gets_of_request > 0) & (unforeseeable == 0),
    )


def _waiting(study: Study, part: PathPart) -> tuple[Ints, Ints]:
    """Return which pieces of a part are waits for a request, and a number for (phase, request) of each."""
    waiting = np.flatnonzero(part.request >= 0)
    return waiting, study.segments.row[part.of[waiting]] * len(study.requests) + part.request[waiting]


def _waits(study: Study) -> tuple[Ints, Ints]:
    """Return the numbers of (phase, request), distinct and sorted, and when the first wait of each begins."""
    keys, starts = [empty()], [empty()]
    for part in study.critical_path.parts():
        waiting, key = _waiting(study, part)
        waits, first = np.unique(key, return_index=True)
        keys.append(waits)
        starts.append(part.start[waiting[first]])
    waits, first = np.unique(np.concatenate(keys), return_index=True)
    return waits, np.concatenate(starts)[first]


def _times(study: Study, waits: Ints, place: Ints) -> tuple[tuple[int, Packed, Packed, int], ...]:
    """Return `PathWaits.times`; `place` is that of each of the `waits` (numbers of phase and request) in the table."""
    times, scratch = [], study.recording.columns.scratch
    for part in study.critical_path.parts():
        waiting, key = _waiting(study, part)
        for value in np.unique(part.value[waiting]).tolist():
            of_class = part.value[waiting] == value
            wait, which = numbered(np.searchsorted(waits, key[of_class]))
            spent = np.bincount(which, weights=part.length[waiting[of_class]]).astype(np.int64)
            if len(wait):
                times.append((value, Packed.of(place[wait], scratch), Packed.of(spent, scratch), len(wait)))
    return tuple(times)


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
