"""How many chunks a larger model is fetched in: the READs of a run, replayed on files that are so many times longer."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import file_of
from cvtrace.analysis.joins.phases import DECODE, LOAD, PREFILL, RUN
from cvtrace.analysis.storage.chunks import CHUNK, FILE, Chunks
from cvtrace.analysis.trace.intervals import Ints, add_by_group, match, ranges

WEIGHTS_SHARE = 10
"""Files of which the load read at least this part of what it read of the largest hold weights."""
ORDER = (LOAD, PREFILL, DECODE, RUN)


def weights_files(study: Study) -> Ints:
    """Return the files (keys.file_key) that hold weights: the load read most of its bytes from them."""
    requests = study.requests
    reads = requests.reads & (study.request_phase == LOAD)
    files, which = np.unique(file_of(requests)[reads], return_inverse=True)
    size = np.bincount(which.ravel(), weights=requests.size[reads], minlength=len(files))
    return files[size * WEIGHTS_SHARE >= size.max()] if len(files) else files


@dataclass(frozen=True)
class Fetches:
    """Of READs of the weights, by phase (row): GETs of this run, and those of the larger model."""

    now: Ints
    larger: Ints


def is_whole(objects: Chunks, weights: Ints) -> bool:
    """Return whether a file of the weights was one object: that of a larger model is a larger one, not more of them."""
    return bool((np.isin(objects.file, weights) & (objects.kind == FILE)).any())


def _chunk_bytes(objects: Chunks, weights: Ints) -> float | None:
    """Return the mean size of the chunks of the weights, None if it is not known."""
    chunks = np.isin(objects.file, weights) & (objects.kind == CHUNK)
    sized = chunks & (objects.size > 0)
    if sized.any():
        return float(objects.size[sized].mean())
    placed = chunks & (objects.offset >= 0)
    file, offset = objects.file[placed], objects.offset[placed]  # sorted
    step = np.diff(offset)[(np.diff(file) == 0) & (np.diff(offset) > 0)]
    return float(np.median(step)) if len(step) else None


def fetches_of_larger(study: Study, objects: Chunks, weights: Ints, scale: float) -> Fetches | None:
    """Return how many chunks the phases fetch; None if the size of the chunks is not known.

    A READ is as far into the larger file as it is into this one, and chunks are as large as they are. What the load reads is
    all of the larger file that corresponds to what it read; the other phases read as often, and as much each time.
    """
    count, chunk = len(study.phases.names), _chunk_bytes(objects, weights)
    if chunk is None:
        return None
    requests = study.requests
    reads = np.flatnonzero(requests.reads & np.isin(study.request_phase, ORDER) & np.isin(file_of(requests), weights))
    by_read = np.isin(study.gets.request, reads)
    now = add_by_group(np.where(by_read, study.get_phase, -1), np.ones(len(study.gets), dtype=np.int64), count)
    simulated, larger = (_touched(study, reads, weights, factor, chunk) for factor in (1.0, scale))
    # Some of the chunks may have been in the cache: as many of those of the larger model.
    total = int(simulated.sum())
    share = min(now.sum() / total, 1.0) if total else 0.0
    expected = np.where(now > 0, now * larger / np.maximum(simulated, 1), larger * share)
    return Fetches(now, np.rint(np.where(simulated > 0, expected, larger * share)).astype(np.int64))


def _touched(study: Study, reads: Ints, weights: Ints, scale: float, chunk: float) -> Ints:
    """Return how many chunks each phase (row) touches first."""
    requests, row = study.requests, study.request_phase[reads]
    file = match(weights, file_of(requests)[reads])
    begin = (requests.offset[reads] * scale).astype(np.int64)
    length = np.where(row == LOAD, requests.size[reads] * scale, requests.size[reads]).astype(np.int64)
    first, last = begin // int(chunk), (begin + np.maximum(length, 1) - 1) // int(chunk)
    which, number = ranges(first, last + 1)
    turn = np.argsort(match(np.asarray(ORDER, dtype=np.int64), row)[which], kind="stable")
    key = file[which][turn] << 40 | number[turn]
    _, place = np.unique(key, return_index=True)
    return np.bincount(row[which][turn][place], minlength=len(study.phases.names)).astype(np.int64)
