"""Fetches in the background that no FUSE request asked for: files of a bundle, which clients since 2.14 fetch when its trigger is opened.

They are done by threads of their own, which serve no request (`bm_dispatch` and `bm_fetcher` of cvmfs2). Nobody waits for them, unless a
request needs an object while it is being prefetched: that is a wait for a download of another (`network.shared`). Their paths are not in a
trace: another user may have opened the trigger. What a request of the target used has the path of that request.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.cache_use import FETCHED, SHARED, CacheUse
from cvtrace.analysis.joins.fetches import Gets, Jobs
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.cvmfs.releases import may_prefetch
from cvtrace.probes.events import Kind, Opcode

DATA: Final = re.compile(r"/data/[0-9a-f]{2}/[0-9a-f]{38,}(?:-[a-z0-9]+)?P?$")
"""URL of a chunk or whole file; catalogs and the like have another suffix."""


@dataclass(frozen=True)
class Prefetches:
    """Which `job`s and `get`s prefetched, and which jobs fetched a `bundle` itself.

    One entry per object, and one more: `used` if a request of the target found or awaited it, `awaited` if it awaited its download by somebody
    else, `needed` if a request of anybody needed it.
    """

    job: Bools
    get: Bools
    bundle: Bools
    used: Bools
    awaited: Bools
    needed: Bools

    @property
    def any(self) -> bool:
        """Whether anything was prefetched."""
        return bool(self.job.any() or self.get.any())


def is_of_file(lines: tuple[str, ...]) -> Bools:
    """Tell which request lines are for the content of a file, as their URL says."""
    targets = (line.split(" ", 2)[1].partition("?")[0] if line.count(" ") else "" for line in lines)
    return np.array([DATA.search(target) is not None for target in targets], dtype=bool)


def prefetches(
    recording: Recording, requests: Requests, jobs: Jobs, gets: Gets, use: CacheUse, objects: int
) -> Prefetches:
    """Find the threads that fetched content of files and served no request; all that they fetched was prefetched."""
    by_target = np.append(requests.by_target, False)[use.use_request]
    of_content = np.isin(pick(requests.opcode, use.use_request, -1), (Opcode.OPEN, Opcode.READ))
    content = _are_among(use.use_object[of_content], objects)
    daemons = [mount.daemon_pid for mount in recording.mounts if may_prefetch(mount.version)]
    for_nobody = (jobs.request < 0) & np.isin(jobs.daemon, daemons) & ~np.isin(jobs.worker, requests.worker)
    of_file = np.zeros(len(jobs), dtype=bool)
    of_file[gets.job[is_of_file(gets.line) & (gets.job >= 0)]] = True
    hidden = gets.job[gets.encrypted & (gets.job >= 0)]  # no URL: the content of a file is what files were read from
    of_file[hidden] |= content[jobs.object[hidden]]
    job = for_nobody & np.isin(jobs.worker, jobs.worker[for_nobody & of_file])
    return Prefetches(
        job=job,
        get=pick(job.astype(np.int64), gets.job, 0) == 1,
        bundle=job & _are_read(recording, jobs, use),
        used=_are_among(use.use_object[(use.use != FETCHED) & by_target], objects),
        awaited=_are_among(use.use_object[(use.use == SHARED) & by_target], objects),
        needed=_are_among(use.use_object, objects),
    )


def _are_read(recording: Recording, jobs: Jobs, use: CacheUse) -> Bools:
    """Tell which jobs fetched something that the same thread then read: the list of a bundle. Files of it are only fetched."""
    read = np.zeros(len(jobs), dtype=bool)
    rows = np.flatnonzero((use.read_job >= 0) & (use.read_request < 0))
    job = use.read_job[rows]
    read[job[recording.of(Kind.CACHE_READ).tid[use.read_at[rows]] == jobs.worker[job]]] = True
    return read


def _are_among(which: Ints, count: int) -> Bools:
    """Tell of each of `count` objects, and of one that is none, whether it is among `which`."""
    is_there = np.zeros(count + 1, dtype=bool)
    is_there[which[which >= 0]] = True
    return is_there
