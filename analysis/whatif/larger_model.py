"""What a larger model changes: in each phase, what goes with the bytes of the weights."""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS, Class
from cvtrace.analysis.evidence.needs import needed_requests
from cvtrace.analysis.joins.phases import DECODE, LOAD, PREFILL, RUN
from cvtrace.analysis.storage.causes import EVICTED_OBJECT, EVICTED_PAGE
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.analysis.whatif.path_waits import NETWORK, PathWaits
from cvtrace.probes.events import Kind, Opcode

COMPUTE: Final = (int(Class.COMPUTE_CPU), int(Class.COMPUTE_WAIT), int(Class.CACHE_PAGE))


def larger_model(study: Study, waits: PathWaits, cause: Ints, scale: float) -> Ints | None:
    """Return by how many ns each phase gets longer, None if no model was loaded.

    In the load: reads of the weights, and computing between the first and the last touch of them. In prefill, decode and run:
    computing, and reads of pages that had been evicted. A page that is touched first is one whatever the size of the model,
    but lies in one of more chunks: those fetched grow in number until each read has its own. `cause` is that of each request.
    """
    count = len(study.phases.names)
    if not (study.segments.row == LOAD).any():
        return None
    read = study.requests.is_(Opcode.READ)[waits.request] if len(waits) else waits.row > 0
    blocked = _by_row(waits, np.where(read, waits.of(*(Class(number) for number in BLOCKED_ON_CVMFS)), 0), count)
    fetching = _by_row(waits, np.where(read, waits.of(*NETWORK, Class.CACHE_FILL), 0), count)
    reads, gets = _by_row(waits, read.astype(np.int64), count), _by_row(waits, np.where(read, waits.gets, 0), count)
    longer = _computing(study, count) * (scale - 1)
    longer[LOAD] += blocked[LOAD] * (scale - 1)
    for row in (PREFILL, DECODE, RUN):
        repeated_share = _evicted_share(study, cause, row) * (scale - 1)
        chunk_share = min(scale, max(reads[row] / max(gets[row], 1), 1.0)) - 1 if scale > 1 else scale - 1
        longer[row] += (blocked[row] - fetching[row]) * repeated_share + fetching[row] * max(
            repeated_share, chunk_share, key=abs
        )
    return np.asarray(longer).astype(np.int64)


def _by_row(waits: PathWaits, amount: Ints, count: int) -> Ints:
    total: Ints = np.bincount(waits.row, weights=amount, minlength=count).astype(np.int64)
    return total


def _evicted_share(study: Study, cause: Ints, row: int) -> float:
    """Return which share of the READs of a phase was for what had been there before."""
    is_read_of_phase = needed_requests(study, (row,)) & study.requests.is_(Opcode.READ)
    if not is_read_of_phase.any():
        return 0.0
    return float(np.isin(cause[is_read_of_phase], (EVICTED_PAGE, EVICTED_OBJECT)).mean())


def _computing(study: Study, count: int) -> Ints:
    """Return the ns of computing on weights by phase."""
    path = study.critical_path
    row = study.segments.row[path.of]
    first, last = _weights_span(study)
    touching = np.minimum(path.end, last) - np.maximum(path.start, first)
    length = np.where(row == LOAD, np.maximum(touching, 0), path.length)
    chosen = np.isin(row, (LOAD, PREFILL, DECODE, RUN)) & np.isin(path.value, COMPUTE)
    total: Ints = np.bincount(row[chosen], weights=length[chosen], minlength=count).astype(np.int64)
    return total


def _weights_span(study: Study) -> tuple[int, int]:
    """Return when the load touched the file it touched most for the first time, and when for the last."""
    pages = study.recording.of(Kind.FAULT, Kind.PAGE_MAP, Kind.PAGE_READ)
    loading = pick(study.segments.row, study.segments.at(pages.start), -1) == LOAD
    file, time = pages.b[loading], pages.start[loading]
    if not len(file):  # a probe that sees no pages
        chosen = study.requests.is_(Opcode.READ) & (study.request_phase == LOAD)
        file, time = study.requests.nodeid[chosen], study.requests.sent[chosen]
    if not len(file):
        return 0, 0
    files, file_of_touch, touches = np.unique(file, return_inverse=True, return_counts=True)
    weights = time[file_of_touch.ravel() == int(np.argmax(touches))]
    return (int(weights.min()), int(weights.max())) if len(files) else (0, 0)
