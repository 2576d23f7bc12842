"""What each request did with the client's cache: hits, misses, waits for others, and where its bytes came from."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.fetches import Jobs
from cvtrace.analysis.joins.objects import CacheOpens
from cvtrace.analysis.joins.reopened import reopened
from cvtrace.analysis.joins.requests import Requests
from cvtrace.analysis.trace.intervals import Bools, Ints, latest_within, pick
from cvtrace.analysis.trace.keys import descriptor_key, pair_key
from cvtrace.analysis.trace.recording import EventIndex, Recording
from cvtrace.probes.events import Kind

HIT, SHARED, FETCHED = range(3)
"""What a request did with an object: it was there, another request was fetching it, it fetched it."""
NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class CacheUse:
    """What each request did with the cache; the first four have one entry per request.

    `misses` counts objects the request had to fetch itself, `shared` those that another was fetching already (neither a
    hit nor a miss, as in the client's own counters); each object counts once per request. `object` is one object it
    missed, else found, -1 if it touched none.

    `use_request`, `use_object`, `use` have one entry per request and object: HIT, SHARED or FETCHED.

    `read_request`, `read_bytes`, `read_job` have one entry per read of a cache file: for which request, how many bytes,
    and which job of this recording fetched the object (-1: it lay in the cache before). `read_object` is the object read
    (-1: opened before the recording), `read_offset` where in it, `read_at` the event among all of the recording.
    """

    hits: Ints
    misses: Ints
    shared: Ints
    object: Ints
    use_request: Ints
    use_object: Ints
    use: Ints
    read_request: Ints
    read_bytes: Ints
    read_job: Ints
    read_object: Ints
    read_offset: Ints
    read_at: Ints


def cache_use(recording: Recording, requests: Requests, opens: CacheOpens, jobs: Jobs) -> CacheUse:
    """Count, per request, the objects found, missed and waited for."""
    count, width = len(requests), len(opens.names) + 1
    missed = _pairs(opens.request, opens.object, opens.is_miss, width)
    hit = np.setdiff1d(_pairs(opens.request, opens.object, opens.is_hit, width), missed)
    downloaded = _pairs(jobs.request, jobs.object, jobs.object >= 0, width)
    fetched = np.intersect1d(missed, downloaded) if recording.has(Kind.HANDOVER) else missed
    shared = np.setdiff1d(missed, fetched)
    job_of_open = _job_of_open(recording, opens, jobs)
    object_of_open = np.where(opens.object >= 0, opens.object, pick(jobs.object, job_of_open, -1))
    read = _reads(recording, requests, opens, job_of_open, object_of_open)
    known = np.concatenate([hit, shared, fetched])
    found_open = reopened(
        recording, requests, opens, object_of_open, (read["read_request"], read["read_object"]), known
    )
    hit = np.union1d(hit, found_open)
    an_object = np.full(count, -1, dtype=np.int64)
    pairs = np.concatenate([hit, shared, fetched])
    an_object[pairs // width] = pairs % width  # the last one counts
    return CacheUse(
        hits=_per_request(hit, width, count),
        misses=_per_request(fetched, width, count),
        shared=_per_request(shared, width, count),
        object=an_object,
        use_request=pairs // width,
        use_object=pairs % width,
        use=np.repeat(np.array([HIT, SHARED, FETCHED]), [len(hit), len(shared), len(fetched)]),
        **read,
    )


def _pairs(request: Ints, an_object: Ints, chosen: Bools, width: int) -> Ints:
    chosen = chosen & (request >= 0)
    return np.unique(request[chosen] * width + an_object[chosen])


def _per_request(pairs: Ints, width: int, count: int) -> Ints:
    return np.bincount(pairs // width, minlength=count).astype(np.int64)


def _reads(
    recording: Recording, requests: Requests, opens: CacheOpens, job_of_open: Ints, object_of_open: Ints
) -> dict[str, Ints]:
    reads = recording.of(Kind.CACHE_READ)
    request = requests.of_worker(reads.tid, reads.start)
    opened = np.flatnonzero(opens.rows.ret >= 0)
    rows = opens.rows.where(opened)
    by_descriptor = EventIndex(recording, rows, descriptor_key(rows.tgid, rows.ret))
    last = by_descriptor.asof_backward(descriptor_key(reads.tgid, reads.a), reads.start)
    source = pick(opened[by_descriptor.order], last, -1)
    return {
        "read_request": request,
        "read_bytes": np.maximum(reads.ret, 0),
        "read_job": pick(job_of_open, source, -1),
        "read_object": pick(object_of_open, source, -1),
        "read_offset": reads.b,
        "read_at": reads.index,
    }


def cached_since(opens: CacheOpens, jobs: Jobs) -> Ints:
    """Return since when each object is known to have been in the cache: found there, or fetched and committed; else NEVER."""
    since = np.full(len(opens.names) + 1, NEVER, dtype=np.int64)
    np.minimum.at(since, opens.object[opens.is_hit], opens.rows.start[opens.is_hit])
    committed = jobs.committed & (jobs.object >= 0)
    np.minimum.at(since, jobs.object[committed], jobs.filled[committed])
    return since


def _job_of_open(recording: Recording, opens: CacheOpens, jobs: Jobs) -> Ints:
    """Return the job that fetched what each open opens, -1 if it lay in the cache before.

    A worker reopens its transaction file when the download is done; later opens name the object.
    """
    by_worker = _last_job(recording, jobs, jobs.worker, opens.rows.tid, opens.rows.start)
    key = pair_key(jobs.daemon, jobs.object)
    query = pair_key(opens.rows.tgid, opens.object)
    by_object = _last_job(recording, jobs, key, query, opens.rows.start)
    return np.where(opens.transaction, by_worker, np.where(opens.object >= 0, by_object, -1))


def _last_job(recording: Recording, jobs: Jobs, key: Ints, query: Ints, when_ns: Ints) -> Ints:
    lanes = recording.lanes(key)
    places = lanes.at(key, jobs.back)
    order = np.argsort(places, kind="stable")
    return pick(order, latest_within(places[order], lanes.at(query, when_ns), lanes.span_ns), -1)
