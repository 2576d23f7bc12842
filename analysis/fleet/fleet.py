"""From paths to a fleet: find the traces, analyse each, add up, say what all of them together show."""

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.contract.fleet_report import FleetReport
from cvtrace.analysis.fleet.answers import report_of
from cvtrace.analysis.fleet.cluster import Progress, cores, in_this_process, on_cluster, on_this_machine
from cvtrace.analysis.fleet.node import Also
from cvtrace.analysis.fleet.part import Part, merged
from cvtrace.analysis.fleet.places import Places, places_of
from cvtrace.analysis.fleet.written import read_tables
from cvtrace.tracer.errors import TraceError
from cvtrace.tracer.folder import EVENTS_BLOCKS, EVENTS_PARQUET

SMALL_BYTES: Final = 8_000_000
"""On disk, of all traces: some 1.5 million events, which take as long as it takes to start workers."""


@dataclass(frozen=True)
class Fleet:
    """The tables of a fleet (fleet_columns.FLEET_TABLES), and what they show."""

    part: Part
    report: FleetReport


def fleet_of(
    paths: Sequence[str | os.PathLike[str]],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    also: Also | None = None,
    progress: Progress | None = None,
) -> Fleet:
    """Analyse the traces at some paths: on the workers of a `scheduler`, else on so many cores of this machine.

    One worker is this process, and needs no Dask. The default is this process for a few small traces, else all cores. Raises NoTraces, NoDask or ClusterUnusable. A trace that cannot be read is among the
    skipped ones.
    """
    places = places_of(paths)
    return fleet_at(places, scheduler=scheduler, workers=workers, also=also, progress=progress)


def fleet_at(
    places: Places,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    also: Also | None = None,
    progress: Progress | None = None,
) -> Fleet:
    """Analyse traces whose places are known; see `fleet_of`."""
    if scheduler is not None:
        part = on_cluster(places.traces, scheduler, also, progress)
    elif (count := min(workers or (1 if _is_small(places.traces) else cores()), len(places.traces))) > 1:
        part = on_this_machine(places.traces, count, also, progress)
    else:
        part = in_this_process(places.traces, also, progress)
    part = _each_once(merged([part, *(read_tables(each) for each in places.tables)]))
    return Fleet(part, report_of(part))


def _is_small(traces: Sequence[str]) -> bool:
    """Return whether traces are analysed before workers have started."""
    total = 0
    for trace in traces:
        for name in (EVENTS_PARQUET, EVENTS_BLOCKS):
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(trace, name)).st_size  # noqa: PTH116, PTH118
        if total > SMALL_BYTES:
            return False
    return True


def _each_once(part: Part) -> Part:
    """Return a part whose traces are each there once: tables of other folders may have the same ones. Raises TwiceThere."""
    times = Counter(part["nodes"]["trace"].to_pylist())
    twice = sorted(trace for trace, count in times.items() if count > 1)
    if twice:
        raise TwiceThere(f"{twice[0]} is in two of the fleets whose tables were given: give each trace once")
    return part


class TwiceThere(TraceError):
    """A trace is there as such and in the tables of an earlier fleet, or in two of them; sums would count it twice."""
