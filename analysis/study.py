"""Everything that was found out about a trace, as tables: what reports are made of."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution import Path, critical_path
from cvtrace.analysis.cache_use import CacheUse, cache_use
from cvtrace.analysis.daemon_time import JobTime, job_time, worker_steps
from cvtrace.analysis.fetches import Gets, Jobs, fetches
from cvtrace.analysis.intervals import Bools, Ints, pick
from cvtrace.analysis.mounts import used_mounts
from cvtrace.analysis.objects import CacheOpens, cache_opens
from cvtrace.analysis.paths import Calls, Paths, target_calls
from cvtrace.analysis.phases import Segments, segments
from cvtrace.analysis.recording import Mount, Recording, recording
from cvtrace.analysis.requests import Requests, requests
from cvtrace.analysis.waits import Waits, waits
from cvtrace.tracer.store import Trace


@dataclass(frozen=True)
class Study:
    """The tables of one trace; every index (request, job, segment …) points into the table of that name."""

    recording: Recording
    requests: Requests
    calls: Calls
    paths: Paths
    opens: CacheOpens
    jobs: Jobs
    gets: Gets
    job_time: JobTime
    use: CacheUse
    segments: Segments
    waits: Waits
    path: Path
    mounts: tuple[Mount, ...]
    """Those the target used."""
    request_segment: Ints
    """Segment in which each request was sent, -1 outside the target's life."""

    @property
    def request_row(self) -> Ints:
        """Row (see phases.NAMES) in which each request of the target was sent, -1 for those of others."""
        row = pick(self.segments.row, self.request_segment, -1)
        return np.where(self.requests.by_target, row, -1)

    @property
    def gets_of_target(self) -> Bools:
        """GETs that a request of the target caused."""
        mine: Bools = pick(self.requests.by_target.astype(np.int64), self.gets.request, 0) == 1
        return mine

    @property
    def get_row(self) -> Ints:
        """Row in which the request was sent that caused each GET, -1 for GETs of others."""
        return pick(self.request_row, self.gets.request, -1)


def study(trace: Trace) -> Study:
    """Do all joins and the attribution."""
    events = recording(trace)
    asked = requests(events)
    calls, paths = target_calls(events, asked)
    opens = cache_opens(events, asked)
    jobs, gets = fetches(events, asked, opens)
    time = job_time(events, jobs, gets)
    workers = worker_steps(events, asked, opens, jobs, time)
    life = segments(events)
    off = waits(events, asked, calls)
    return Study(
        recording=events,
        requests=asked,
        calls=calls,
        paths=paths,
        opens=opens,
        jobs=jobs,
        gets=gets,
        job_time=time,
        use=cache_use(events, asked, opens, jobs),
        segments=life,
        waits=off,
        mounts=used_mounts(events, asked, calls),
        path=critical_path(events, asked, workers, off, life),
        request_segment=life.at(asked.sent),
    )
