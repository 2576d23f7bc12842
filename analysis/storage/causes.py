"""Why a request was needed: the first touch of a page, a page or an object that had been there, an open, a new catalog."""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import file_of, used_ranges
from cvtrace.analysis.joins.cache_use import FETCHED, SHARED, cached_since
from cvtrace.analysis.storage.file_map import Axis
from cvtrace.analysis.storage.reloads import client_reloads, fetches_catalog, last_before, reload_before, repeated_after
from cvtrace.analysis.trace.intervals import Bools, Ints, distinct, latest, pick, ranges
from cvtrace.probes.events import Kind, Opcode

CAUSES: Final = (
    "first_touch",
    "evicted_page",
    "evicted_object",
    "new_file",
    "metadata",
    "catalog_expired",
    "streaming_cache",
    "direct_io",
    "client_reloaded",
)
(
    FIRST_TOUCH,
    EVICTED_PAGE,
    EVICTED_OBJECT,
    NEW_FILE,
    METADATA,
    CATALOG_EXPIRED,
    STREAMING_CACHE,
    DIRECT_IO,
    CLIENT_RELOADED,
) = range(len(CAUSES))


def request_causes(study: Study) -> Ints:
    """Return the cause of each request, as a number of CAUSES; -1 for those that nobody needs (RELEASE, FORGET) and those that failed.

    direct_io: a READ that goes past the page cache. streaming_cache: a READ that fetched, and nothing was put into the cache.
    evicted_object: the client missed an object that it had found or fetched before in this recording. client_reloaded: the client was
    reloaded since the page was there, or the name was asked for: the kernel had to forget them. catalog_expired: the client took over a new catalog, and fetched one for
    this request, or dropped the page or name that it is about. evicted_page: a READ of a page that was read, or seen in the page
    cache, before. first_touch: any other READ. new_file: OPEN. metadata: everything else.
    """
    requests = study.requests
    read = requests.reads
    cause = np.where(read, FIRST_TOUCH, np.where(requests.is_(Opcode.OPEN), NEW_FILE, METADATA))
    last_seen = _page_last_seen(study)
    cause[read & (last_seen >= 0)] = EVICTED_PAGE
    cause[read & requests.direct] = DIRECT_IO
    reloaded = reload_before(study, requests.connection, requests.sent)
    renewed = read & (last_seen >= 0) & (last_seen < reloaded)
    cause[renewed | repeated_after(study, reloaded) | (fetches_catalog(study) & (reloaded >= 0))] = CATALOG_EXPIRED
    client_start = last_before(study, client_reloads(study), requests.connection, requests.sent)
    cause[(read & (last_seen >= 0) & (last_seen < client_start)) | repeated_after(study, client_start)] = (
        CLIENT_RELOADED
    )
    cause[_object_was_cached(study)] = EVICTED_OBJECT
    cause[read & _streamed(study)] = STREAMING_CACHE
    return np.where(requests.expects_reply & ~requests.failed, cause, -1)


def cause_counts(cause: Ints) -> dict[str, int]:
    """Return how many requests have each cause, without those that none has."""
    count = np.bincount(cause[cause >= 0], minlength=len(CAUSES))
    return {name: int(count[number]) for number, name in enumerate(CAUSES) if count[number]}


def _object_was_cached(study: Study) -> Bools:
    """Tell which requests missed an object that the cache had held before."""
    use, requests = study.use, study.requests
    since = cached_since(study.opens, study.jobs)
    missing = (use.use == FETCHED) | (use.use == SHARED)
    again = missing & (since[use.use_object] < pick(requests.received, use.use_request, -1))
    missed_again = np.zeros(len(requests), dtype=bool)
    missed_again[use.use_request[again]] = True
    return missed_again


def _streamed(study: Study) -> Bools:
    """Tell which requests fetched something without a transaction of the cache, in a client that has one on disk.

    A cache that lies elsewhere (external, shared) opens no objects where they can be seen.
    """
    requests, jobs, opens, gets = study.requests, study.jobs, study.opens, study.gets
    on_disk = np.unique(opens.rows.tgid[opens.object >= 0])
    fetched = (pick(requests.daemon, gets.request, -1) >= 0) & ((gets.status == 200) | gets.encrypted)
    streamed = np.zeros(len(requests), dtype=bool)
    streamed[gets.request[fetched & np.isin(gets.daemon, on_disk)]] = True
    stored = np.concatenate([jobs.request[jobs.committed], opens.request[opens.transaction]])
    streamed[stored[stored >= 0]] = False
    return streamed


def _page_last_seen(study: Study) -> Ints:
    """Return when a page that each READ asked for was last brought or seen before, -1 for none and for other requests.

    A READ only asks for pages that are not cached: one that was there is gone. Files are looked at in stretches that no READ
    begins or ends within.
    """
    requests = study.requests
    reads = np.flatnonzero(requests.reads & ~requests.direct & (requests.offset >= 0) & (requests.size > 0))
    last_ns = np.full(len(requests), -1, dtype=np.int64)
    if not len(reads):
        return last_ns
    file, begin = file_of(requests)[reads], requests.offset[reads]
    end = begin + np.maximum(requests.size[reads], 0)
    axis = Axis.of(file, end)
    start, stop = axis.at(file, begin), axis.at(file, end)
    edges = distinct(np.concatenate([start, stop]))
    which, stretch = ranges(np.searchsorted(edges, start), np.searchsorted(edges, stop))
    page, of_page, page_when = _page_sightings(study, axis, edges)
    when = np.concatenate([requests.sent[reads][which], page_when])
    key = np.concatenate([stretch, of_page])
    owner = np.concatenate([reads[which], np.full(len(page), -1, dtype=np.int64)])
    order = np.lexsort((when, key))
    key, when, owner = key[order], when[order], owner[order]
    again = np.flatnonzero((key[1:] == key[:-1]) & (when[1:] > when[:-1]) & (owner[1:] >= 0)) + 1
    np.maximum.at(last_ns, owner[again], when[again - 1])
    return last_ns


def _page_sightings(study: Study, axis: Axis, edges: Ints) -> tuple[Ints, Ints, Ints]:
    """Return which events show that a page was there, the stretch it is of, and when.

    Both tracepoints tell the range that was asked for, and that some of it was there: of a read() its first page, of a
    fault-around any page. The latter is proof only where the whole range lies in one stretch.
    """
    pages = used_ranges(study.recording)
    first = latest(edges, axis.at(pages.file, pages.start))
    last = latest(edges, axis.at(pages.file, np.maximum(pages.end - 1, pages.start)))
    known = axis.at(pages.file, pages.start) >= 0
    proof = known & (first >= 0) & ((pages.kind == Kind.PAGE_READ) | ((pages.kind == Kind.PAGE_MAP) & (first == last)))
    index = np.flatnonzero(proof)
    return index, first[index], pages.when[index]
