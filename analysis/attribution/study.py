"""All joins and the attribution of a trace, in the order in which they are made: the tables that reports are made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.critical_path import Threads, critical_paths
from cvtrace.analysis.attribution.daemon_time import JobTime, job_time
from cvtrace.analysis.attribution.overlaps import Overlaps, overlaps
from cvtrace.analysis.attribution.path import CriticalPath
from cvtrace.analysis.attribution.waits import Waits, waits
from cvtrace.analysis.attribution.workers import workers
from cvtrace.analysis.joins.cache_use import CacheUse, cache_use
from cvtrace.analysis.joins.client_counters import CounterDeltas, counter_deltas
from cvtrace.analysis.joins.fetches import Gets, Jobs, fetches
from cvtrace.analysis.joins.mounts import used_mounts
from cvtrace.analysis.joins.objects import CacheOpens, cache_opens
from cvtrace.analysis.joins.paths import Calls, Paths, target_calls
from cvtrace.analysis.joins.phases import PhaseCalls, Phases, Segments, phases
from cvtrace.analysis.joins.prefetches import Prefetches, prefetches
from cvtrace.analysis.joins.requests import Requests, requests
from cvtrace.analysis.joins.unobserved_requests import UnobservedRequests, unobserved_requests
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.recording import Mount, Recording, recording
from cvtrace.tracer.allocator import give_back
from cvtrace.tracer.errors import TraceDamaged
from cvtrace.tracer.store import Trace


@dataclass(frozen=True)
class Study:
    """The tables of one trace; every index (request, job, segment …) points into the table of that name."""

    recording: Recording
    requests: Requests
    calls: Calls
    file_paths: Paths
    opens: CacheOpens
    jobs: Jobs
    gets: Gets
    job_time: JobTime
    use: CacheUse
    prefetches: Prefetches
    """What clients fetched that no request asked for."""
    phases: Phases
    waits: Waits
    unobserved_requests: UnobservedRequests
    """What the target asked of mounts that were not observed."""
    critical_path: CriticalPath
    """Of the segments of the target's life."""
    call_path: CriticalPath
    """Of the calls of the library."""
    overlaps: Overlaps
    """Of the segments of the target's life."""
    call_overlaps: Overlaps
    """Of the calls of the library."""
    threads: Threads
    """What every thread of the target did at every moment."""
    mounts: tuple[Mount, ...]
    """Those the target used."""
    counter_deltas: CounterDeltas
    """What the client's counters say, if the target read them."""
    request_phase: Ints
    """Row (see Phases.names) in which each request of the target was sent, -1 for those of others."""
    request_token: Ints
    """Token for which each request of the target was sent, -1 for none."""

    @property
    def segments(self) -> Segments:
        return self.phases.segments

    @property
    def phase_calls(self) -> PhaseCalls:
        return self.phases.calls

    @property
    def gets_of_target(self) -> Bools:
        """GETs that a request of the target caused."""
        by_target: Bools = pick(self.requests.by_target.astype(np.int64), self.gets.request, 0) == 1
        return by_target

    @property
    def get_object(self) -> Ints:
        """Object that each GET is for: by its URL, or where that is encrypted, by the job; -1 for none."""
        named = self.gets.object
        return np.where(named >= 0, named, pick(self.jobs.object, self.gets.job, -1))

    @property
    def get_phase(self) -> Ints:
        """Row in which the request was sent that caused each GET, -1 for GETs of others."""
        return pick(self.request_phase, self.gets.request, -1)


@contextmanager
def sensible_times(trace: Trace) -> Iterator[None]:
    """Raise TraceDamaged where times of the trace are too large for the analysis."""
    try:
        yield
    except OverflowError:
        raise TraceDamaged(f"{trace.path} is damaged: its times are too far apart to be of one recording") from None


def study_of(trace: Trace) -> Study:
    """Do all joins and the attribution. Raises TraceDamaged if the times of the trace are too far apart."""
    with sensible_times(trace):
        return _study_of(trace)


def _study_of(trace: Trace) -> Study:
    """Do them in order: each line is a table, made from those above it."""
    # What happened.
    events = recording(trace)
    fuse_requests = requests(events)
    give_back(len(events))
    calls, file_paths = target_calls(events, fuse_requests)
    opens = cache_opens(events, fuse_requests)
    jobs, gets = fetches(events, fuse_requests, opens)
    life = phases(events)
    unobserved = unobserved_requests(events)
    use = cache_use(events, fuse_requests, opens, jobs)
    give_back(len(events))
    # Where the time went: in the clients' workers, in the target's threads, and on the critical path through both.
    time_of_jobs = job_time(events, jobs, gets)
    work = workers(events, fuse_requests, opens, jobs, time_of_jobs)
    give_back(len(events))
    off_cpu = waits(events, fuse_requests, calls, unobserved)
    give_back(len(events))
    critical_path, call_path, threads = critical_paths(events, fuse_requests, work, off_cpu, life.segments, life.calls)
    give_back(len(events))
    # Which phase and token each request was for.
    request_phase, request_token = _phases_of_requests(fuse_requests, life)
    return Study(
        recording=events,
        requests=fuse_requests,
        calls=calls,
        file_paths=file_paths,
        opens=opens,
        jobs=jobs,
        gets=gets,
        job_time=time_of_jobs,
        use=use,
        prefetches=prefetches(events, fuse_requests, jobs, gets, use, len(opens.names)),
        phases=life,
        waits=off_cpu,
        unobserved_requests=unobserved,
        mounts=used_mounts(events, fuse_requests, calls),
        counter_deltas=counter_deltas(events, life),
        critical_path=critical_path,
        call_path=call_path,
        overlaps=overlaps(events, fuse_requests, jobs, off_cpu, critical_path, life.segments),
        call_overlaps=overlaps(events, fuse_requests, jobs, off_cpu, call_path, life.calls),
        threads=threads,
        request_phase=request_phase,
        request_token=request_token,
    )


def _phases_of_requests(requests: Requests, phases: Phases) -> tuple[Ints, Ints]:
    """Return row of phases and token for which each request of the target was sent, -1 for none and for those of others."""
    row = np.where(requests.by_target, phases.row_at(requests.asker, requests.sent), -1)
    call = np.where(row >= 0, phases.call_at(requests.asker, requests.sent), -1)
    return row, pick(phases.calls.token, call, -1)
