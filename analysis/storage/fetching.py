"""How much of the waiting for fetches was for one fetch after the other, and objects that were fetched again."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import ANY_FETCH
from cvtrace.analysis.storage.chunks import Chunks
from cvtrace.analysis.trace.intervals import Ints, Pieces, Steps, add_by_group, cut, pick


@dataclass(frozen=True)
class FetchWait:
    """Time on the critical path that was waited for fetches, in pieces: of which row of phases, for which request (-1: unknown),
    how long, and how many fetches of the client were under way."""

    row: Ints
    request: Ints
    length: Ints
    in_flight: Ints

    @property
    def sequential(self) -> Ints:
        """Length of each piece during which at most one fetch was under way, else 0."""
        return np.where(self.in_flight <= 1, self.length, 0)

    def by_row(self, rows: int) -> tuple[Ints, Ints]:
        """Return, per row of phases, ns waited and ns of it with one fetch after the other."""
        return add_by_group(self.row, self.length, rows), add_by_group(self.row, self.sequential, rows)

    def longest(self, requests: int) -> int:
        """Return the longest time, in ns, that was waited for the fetches of one request, one after the other."""
        total = add_by_group(self.request, self.sequential, requests)
        return int(total.max()) if len(total) else 0


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
    path, start_ns = study.critical_path, study.recording.start_ns
    failed = pick(study.requests.failed.astype(np.int64), path.request, 0) == 1
    chosen = np.flatnonzero(np.isin(path.value, ANY_FETCH) & ~failed)
    pieces: Pieces = cut(in_flight(study), path.start[chosen] - start_ns, path.end[chosen] - start_ns)
    piece = chosen[pieces.which]
    return FetchWait(
        row=study.segments.row[path.of[piece]],
        request=path.request[piece],
        length=pieces.end - pieces.start,
        in_flight=pieces.value,
    )


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
