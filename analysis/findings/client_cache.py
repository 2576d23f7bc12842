"""Findings on the client's cache and the kernel's: what was not there, or did not stay."""

import errno
from typing import Final

import numpy as np

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Finding
from cvtrace.analysis.findings.scene import HIGH, LOW, MEDIUM, Scene
from cvtrace.analysis.findings.target import limits_of_target
from cvtrace.analysis.storage.causes import CATALOG_EXPIRED, EVICTED_PAGE, STREAMING_CACHE
from cvtrace.analysis.storage.chunks import CHUNK, FILE, blocked_ns
from cvtrace.analysis.storage.failures import CACHE_NOT_WRITTEN
from cvtrace.analysis.storage.reloads import reloads
from cvtrace.analysis.storage.tensors import GENERATION
from cvtrace.analysis.storage.tries import is_given_up
from cvtrace.analysis.trace.intervals import Bools, pick
from cvtrace.probes.events import Opcode

MEBIBYTE: Final = 1 << 20
ROOM: Final = 1.25
"""How much larger than what a run uses its cache should be: the client cleans up to half when it is full."""
COLD_SHARE: Final = 0.1
"""Share of the run that was waited for fetches."""
UNCHUNKED_BYTES: Final = 16 << 20
"""Size from which on publishers cut files into chunks, at the latest (CVMFS_MAX_CHUNK_SIZE)."""
OVER_FETCH: Final = 4.0
OVER_FETCH_SHARE: Final = 0.05
EVICTED_READS: Final = 10


def quota_too_small(scene: Scene) -> Finding | None:
    """Objects were fetched again because the cache could not keep them, or all that was used cannot fit."""
    cache = scene.tables.cache
    too_large = cache.quota is not None and cache.working_set > cache.quota
    if not scene.sees_requests or not (cache.thrash or too_large):
        return None
    limit = f"; the cache may hold {size(cache.quota)}" if cache.quota is not None else ""
    refetches = (
        f"the client had to fetch {pluralize(cache.evicted, 'object')} again ({size(cache.again_bytes)})"
        if cache.thrash
        else "the client fetched nothing twice so far"
    )
    cleanups = sum(row.cleanups or 0 for row in scene.report.phases)
    cleaned = f"; the client cleaned up {pluralize(cleanups, 'time')}" if cleanups else ""
    quota_mb = -(-int(cache.working_set * ROOM) // MEBIBYTE)
    return Finding(
        id="quota_too_small",
        severity=HIGH if cache.thrash else MEDIUM,
        title="the client's cache is too small for what the run uses",
        evidence=f"{refetches}; the run used {size(cache.working_set)}{limit}{cleaned}",
        advice=f"set CVMFS_QUOTA_LIMIT={quota_mb} or more (MB), then run cvmfs_config reload; if it is this large already, other jobs fill the cache",
    )


def object_above_half_of_quota(scene: Scene) -> Finding | None:
    """A file could not be opened, since it is one object that is larger than half of the quota: the client says so only in its debug log."""
    study, quota = scene.study, scene.tables.cache.quota
    requests = study.requests
    no_space = requests.by_target & requests.expects_reply & (requests.error == -errno.ENOSPC)
    refused = np.setdiff1d(np.flatnonzero(no_space), study.jobs.request)  # of which nothing was fetched
    if not len(refused):
        return None
    (path,) = study.file_paths.of(requests.connection[refused[:1]], requests.nodeid[refused[:1]])
    limit = "" if quota is None else f" of {size(quota)}"
    return Finding(
        id="object_above_half_of_quota",
        severity=HIGH,
        title="a file above half of the cache's quota cannot be opened",
        evidence=f"{path} could not be opened (no space left on device), and the client fetched nothing for it: it takes no object above half of its quota{limit}",
        advice="raise CVMFS_QUOTA_LIMIT above twice its size, or publish it in chunks",
    )


def cache_not_written(scene: Scene) -> Finding | None:
    """The client gave fetches up because it could not write them into its cache, whose file system may be full."""
    study = scene.study
    of_used_mounts = np.isin(study.gets.daemon, [mount.daemon_pid for mount in study.mounts])
    given_up = np.flatnonzero(is_given_up(study) & of_used_mounts)
    failed = [each for each in scene.report.failures if each.client_said == CACHE_NOT_WRITTEN]
    if not len(given_up) and not failed:
        return None
    came = int(study.gets.body_bytes[given_up].sum())
    return Finding(
        id="cache_not_written",
        severity=HIGH,
        title="the client failed to write into its cache",
        evidence=f"the client gave up {pluralize(max(len(given_up), len(failed)), 'fetch')}"
        + (f" after {size(came)}" if came else "")
        + (f", and {failed[0].path} could not be read" if failed else "")
        + ": the file system of its cache is full, read-only or broken",
        advice="free space there, or set CVMFS_QUOTA_LIMIT below the size of its file system",
    )


def _streamed(scene: Scene) -> int:
    """Return how many reads were answered from a download that was not kept; one may be a cache that was full."""
    count = int((scene.tables.cause == STREAMING_CACHE).sum())
    return count if count > 1 else 0


def _blocked_s(scene: Scene, chosen: Bools) -> float:
    """Return how long the run waited for the requests chosen."""
    return int(blocked_ns(scene.study)[chosen].sum()) / 1e9


def streaming_cache(scene: Scene) -> Finding | None:
    """The client downloads for every read and keeps nothing."""
    count = _streamed(scene)
    if not count:
        return None
    return Finding(
        id="streaming_cache",
        severity=HIGH,
        title="the client keeps no copy of what it downloads",
        evidence=f"{pluralize(count, 'read')} each downloaded an object that was not put into the cache",
        advice="set CVMFS_STREAMING_CACHE=no for this repository",
        saves_s=_blocked_s(scene, scene.tables.cause == STREAMING_CACHE),
    )


def mapped_weights_evicted(scene: Scene) -> Finding | None:
    """Generation reads pages again that had been in memory."""
    study = scene.study
    is_reread = (scene.tables.cause == EVICTED_PAGE) & np.isin(study.request_phase, GENERATION)
    count, tokens = int(is_reread.sum()), scene.report.verdict.steps
    if count < max(EVICTED_READS, tokens // 2):
        return None
    read_bytes = int(study.requests.read_bytes[is_reread].sum())
    tensor_wait_s = sum(row.generation_blocked_s for row in scene.report.tensors)
    return Finding(
        id="mapped_weights_evicted",
        severity=HIGH,
        title="memory is too small for the weights, which are used from the mapping",
        evidence=f"generation read {size(read_bytes)} again in {pluralize(count, 'read')} of pages that had been in memory"
        + (f", and waited {seconds(tensor_wait_s)} for tensors" if tensor_wait_s else "")
        + limits_of_target(scene),
        advice="give the job more memory (the limit of its cgroup counts), or copy the weights into memory when they are loaded",
        saves_s=_blocked_s(scene, is_reread),
    )


def cold_cache(scene: Scene) -> Finding | None:
    """A good part of the run was waited for fetches."""
    fetching = scene.report.fetching
    if fetching is None or _streamed(scene):
        return None
    study = scene.study
    is_failed = study.gets.failed | (pick(study.requests.failed.astype(np.int64), study.gets.request, 0) == 1)
    gets_of_target = study.gets_of_target & ~is_failed
    if not gets_of_target.any() or not scene.is_share(fetching.waited_s, COLD_SHARE):
        return None
    return Finding(
        id="cold_cache",
        severity=HIGH if scene.is_share(fetching.waited_s, 0.5) else MEDIUM,
        title="the client's cache was cold",
        evidence=f"the run waited {seconds(fetching.waited_s)} of its {seconds(scene.duration_s)} for {pluralize(int(gets_of_target.sum()), 'fetch')} "
        f"of {size(int(study.gets.body_bytes[gets_of_target].sum()))}",
        advice="keep the client's cache between jobs, or read the files once before the job",
        saves_s=fetching.waited_s,
    )


def unchunked_file(scene: Scene) -> Finding | None:
    """A large file was fetched whole when it was opened."""
    chunks, study = scene.tables.chunks, scene.study
    opening = np.zeros(len(study.opens.names) + 1, dtype=bool)
    in_open = pick(study.requests.opcode, study.gets.request, -1) == Opcode.OPEN
    opening[study.get_object[in_open & study.gets_of_target]] = True
    opening[-1] = False
    large = np.maximum(chunks.size, chunks.fetched) >= UNCHUNKED_BYTES
    chosen = np.flatnonzero((chunks.kind == FILE) & large & opening[chunks.object])
    if not len(chosen):
        return None
    worst = chosen[np.argmax(chunks.fetched[chosen])]
    (path,) = study.file_paths.of(chunks.connection[[worst]], chunks.nodeid[[worst]])
    return Finding(
        id="unchunked_file",
        severity=MEDIUM,
        title="a large file is not chunked, so opening it fetches all of it",
        evidence=f"to open {path}, the client fetched {size(int(chunks.fetched[worst]))}, and the run waited "
        f"{seconds(int(chunks.blocked_ns[worst]) / 1e9)}"
        + (f"; there {'is' if len(chosen) == 2 else 'are'} {len(chosen) - 1} more such" if len(chosen) > 1 else ""),
        advice="publish it with CVMFS_USE_FILE_CHUNKING=true",
    )


def over_fetch(scene: Scene) -> Finding | None:
    """Chunks were fetched of which little was read."""
    chunks, fetching = scene.tables.chunks, scene.report.fetching
    chosen = (chunks.fetches > 0) & (chunks.kind == CHUNK)
    fetched, read = int(chunks.fetched[chosen].sum()), int(chunks.read[chosen].sum())
    if (
        fetching is None
        or not read
        or fetched < OVER_FETCH * read
        or not scene.is_share(fetching.waited_s, OVER_FETCH_SHARE)
    ):
        return None
    return Finding(
        id="over_fetch",
        severity=LOW,
        title="much more is fetched than read",
        evidence=f"the client fetched {size(fetched)} in {pluralize(int(chosen.sum()), 'chunk')}, and the run read {size(read)} of them "
        f"({fetched / read:,.{0 if fetched > 100 * read else 1}f} bytes fetched for each byte read)",
        advice="publish the file in smaller chunks (CVMFS_AVG_CHUNK_SIZE), if random access is intended",
    )


def catalogs_reloaded(scene: Scene) -> Finding | None:
    """The client took over a new revision of the repository within the run."""
    study = scene.study
    daemons, _ = reloads(study)
    of_used_mount = np.isin(daemons, [mount.daemon_pid for mount in study.mounts])
    if not of_used_mount.any():
        return None
    repeated_requests = int(((scene.tables.cause == CATALOG_EXPIRED) & study.requests.by_target).sum())
    return Finding(
        id="catalogs_reloaded",
        severity=MEDIUM if repeated_requests else LOW,
        title="the repository changed while the run used it",
        evidence=f"the client loaded a new catalog {pluralize(int(of_used_mount.sum()), 'time')}; {pluralize(repeated_requests, 'request')} of the run repeated "
        "earlier requests",
        advice="mount a fixed revision for runs that must be alike (CVMFS_REPOSITORY_TAG), or measure again",
    )
