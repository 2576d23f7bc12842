"""How much of the waiting for fetches was for one fetch after the other, and objects that were fetched again."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import ANY_FETCH
from cvtrace.analysis.storage.chunks import Chunks
from cvtrace.analysis.trace.intervals import Ints, Steps, add_by_group, cut


@dataclass(frozen=True)
class FetchWait:
    """Nanoseconds of the critical path that were waited for fetches, by row of phases: all of them, and those during which at most one
    fetch of the client was under way. `longest` is the most of the latter that was waited for the fetches of one request."""

    waited: Ints
    sequential: Ints
    longest: int


def in_flight(study: Study) -> Steps:
    """Return how many fetches of the clients were under way at any time: handed over, and not yet in the cache."""
    jobs, start_ns = study.jobs, study.recording.start_ns
    edges = np.concatenate([jobs.handed, jobs.filled]) - start_ns
    change = np.repeat(np.array([1, -1]), len(jobs))
    order = np.argsort(edges, kind="stable")
    at, last = np.unique(edges[order][::-1], return_index=True)
    count = np.cumsum(change[order])
    after = count[len(order) - 1 - last] if len(order) else count
    return Steps(np.concatenate([[0], at]), np.concatenate([[0], after]).astype(np.int64))


def fetch_waits(study: Study) -> FetchWait:
    """Cut the waits for fetches on the critical path at the moments when fetches began and ended; those of requests that failed fetched nothing."""
    start_ns, under_way = study.recording.start_ns, in_flight(study)
    succeeded = np.append(~study.requests.failed, True)  # the last one is for waits of no request
    waited, sequential = (np.zeros(len(study.phases.names), dtype=np.int64) for _ in range(2))
    of_request = np.zeros(len(succeeded), dtype=np.int64)
    for part in study.critical_path.parts():
        chosen = np.flatnonzero(np.isin(part.value, ANY_FETCH) & succeeded[part.request])
        pieces = cut(under_way, part.start[chosen] - start_ns, part.end[chosen] - start_ns)
        piece, length = chosen[pieces.which], pieces.end - pieces.start
        row, alone = study.segments.row[part.of[piece]], np.where(pieces.value <= 1, length, 0)
        waited += add_by_group(row, length, len(waited))
        sequential += add_by_group(row, alone, len(sequential))
        np.add.at(of_request, part.request[piece], alone)
    return FetchWait(waited, sequential, int(of_request[:-1].max(initial=0)))


def most_at_once(study: Study) -> int:
    """Return the largest number of fetches under way at once for the target, or anybody else, while one of the target's was."""
    return int(in_flight(study).value.max())


@dataclass(frozen=True)
class CacheUseOfRun:
    """What the target's run took of the client's cache; `quota` (bytes) is None where the client did not tell."""

    quota: int | None
    working_set: int
    fetched: int
    again: int
    again_bytes: int
    evicted: int

    @property
    def thrash(self) -> bool:
        """Whether objects went and came back: evicted within the run, and fetched again."""
        return self.evicted > 0 and self.again > 0


def cache_of_run(study: Study, objects: Chunks) -> CacheUseOfRun:
    """Add up what the target used of the caches of its mounts.

    The working set is the size of all objects used; of those that were in the cache before, as far as they were read.
    """
    quotas = [mount.quota_bytes for mount in study.mounts]
    again = np.maximum(objects.fetches - 1, 0)
    each = objects.fetched // np.maximum(objects.fetches, 1)
    return CacheUseOfRun(
        quota=quotas[0] if len(quotas) == 1 else None,
        working_set=int(np.where(objects.size >= 0, objects.size, objects.reach).sum()),
        fetched=int((objects.fetches > 0).sum()),
        again=int(again.sum()),
        again_bytes=int((again * each).sum()),
        evicted=int(objects.evictions.sum()),
    )
