"""What a larger model changes: in each phase, what goes with the bytes of the weights, and what with the number of their chunks."""

from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS, Class
from cvtrace.analysis.evidence.needs import needed_requests
from cvtrace.analysis.joins.bytes_used import file_of
from cvtrace.analysis.joins.phases import DECODE, LOAD, PREFILL, RUN
from cvtrace.analysis.storage.causes import EVICTED_OBJECT, EVICTED_PAGE
from cvtrace.analysis.storage.chunks import Chunks
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, pick
from cvtrace.analysis.whatif.fetches_of_larger import fetches_of_larger, is_whole, weights_files
from cvtrace.analysis.whatif.own_time import OwnTime
from cvtrace.analysis.whatif.path_waits import NETWORK, PathWaits
from cvtrace.probes.events import Kind, Opcode
from cvtrace.probes.phases.functions import INDEX

COMPUTE: Final = (int(Class.COMPUTE_CPU), int(Class.COMPUTE_WAIT), int(Class.CACHE_PAGE))
GENERATION: Final = (PREFILL, DECODE, RUN)
NO_PASS: Final = (INDEX["OgaCreateGenerator"],)
"""Calls of prefill that do not pass over the weights: they make what a run of the model needs, once, in a time of their own."""
ONCE_PER_FETCH: Final = (Class.NETWORK_CONNECT, Class.NETWORK_REQUEST)
"""What a fetch takes whatever its size."""


def larger_model(
    study: Study, objects: Chunks, waits: PathWaits, own: OwnTime, cause: Ints, scale: float
) -> Ints | None:
    """Return by how many ns each phase gets longer, None if no model was loaded.

    In the load: reads of the weights, and computing between the first and the last touch of them. In prefill, decode and run:
    computing, and reads of pages that had been evicted. A page that is touched first is one whatever the size of the model.
    Chunks stay as large as they are, so there are more of them. `cause` is that of each request.
    """
    if not (study.segments.row == LOAD).any():
        return None
    growth = scale - 1
    longer: Ints = (_computing(study) * growth).astype(np.int64)
    for row in GENERATION:
        longer[row] -= round(own.filling[row] * growth * (1 - _evicted_share(study, cause, row)))
    return longer + _reading(study, objects, waits, cause, scale)


def _reading(study: Study, objects: Chunks, waits: PathWaits, cause: Ints, scale: float) -> Ints:
    """Return by how many ns the waits for the weights get longer."""
    count, growth = len(study.phases.names), scale - 1
    longer = np.zeros(count, dtype=np.int64)
    if not len(waits):
        return longer
    weights = weights_files(study)
    of_weights = np.isin(file_of(study.requests)[waits.request], weights)
    read = of_weights & study.requests.is_(Opcode.READ)[waits.request]
    blocked = _by_row(waits, read, waits.of(*(Class(number) for number in BLOCKED_ON_CVMFS)), count)
    fetching = _by_row(waits, read, waits.of(*NETWORK, Class.CACHE_FILL), count)
    longer[LOAD] = round((blocked - fetching)[LOAD] * growth)
    fetches = fetches_of_larger(study, objects, weights, scale)
    if is_whole(objects, weights):
        whole = _by_row(waits, of_weights, waits.of(*NETWORK, Class.CACHE_FILL) - waits.of(*ONCE_PER_FETCH), count)
        longer[LOAD] += round(whole[LOAD] * growth)
        return longer
    if fetches is None:
        longer[LOAD] += round(fetching[LOAD] * growth)
        return longer
    each = fetching.sum() / max(int(fetches.now.sum()), 1)
    more = np.where(
        fetches.now > 0, fetching * (fetches.larger / np.maximum(fetches.now, 1) - 1), fetches.larger * each
    )
    longer[LOAD] += round(more[LOAD])
    for row in GENERATION:
        repeated = _evicted_share(study, cause, row) * growth
        longer[row] += round((blocked - fetching)[row] * repeated + max(fetching[row] * repeated, more[row], key=abs))
    return longer


def _by_row(waits: PathWaits, chosen: Bools, amount: Ints, count: int) -> Ints:
    return add_by_group(np.where(chosen, waits.row, -1), amount, count)


def _evicted_share(study: Study, cause: Ints, row: int) -> float:
    """Return which share of the READs of a phase was for what had been there before."""
    is_read_of_phase = needed_requests(study, (row,)) & study.requests.is_(Opcode.READ)
    if not is_read_of_phase.any():
        return 0.0
    return float(np.isin(cause[is_read_of_phase], (EVICTED_PAGE, EVICTED_OBJECT)).mean())


def _computing(study: Study) -> Ints:
    """Return the ns of computing on weights by phase."""
    total = np.zeros(len(study.phases.names), dtype=np.int64)
    first, last = _weights_span(study)
    on_weights = np.isin(study.segments.row, (LOAD, *GENERATION))
    on_weights &= ~np.isin(pick(study.phase_calls.function, study.segments.call, -1), NO_PASS)
    for part in study.critical_path.parts():
        row = study.segments.row[part.of]
        chosen = on_weights[part.of] & np.isin(part.value, COMPUTE)
        touching = np.minimum(part.end, last) - np.maximum(part.start, first)
        length = np.where(row == LOAD, np.maximum(touching, 0), part.length)
        total += add_by_group(np.where(chosen, row, -1), length, len(total))
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
