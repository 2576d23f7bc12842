"""What is told of a trace beyond its study: the cause of every request, objects and tensors one by one, waiting for fetches.

Columns with one entry per request are indexed like `Study.requests`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.storage.cache_state import states_by_row
from cvtrace.analysis.storage.causes import request_causes
from cvtrace.analysis.storage.chunks import Chunks, chunks
from cvtrace.analysis.storage.fetching import CacheUseOfRun, FetchWait, cache_of_run, waited
from cvtrace.analysis.storage.headers import HeaderTensor
from cvtrace.analysis.storage.tensors import Tensors, tensors
from cvtrace.analysis.trace.intervals import Ints


@dataclass(frozen=True)
class Tables:
    """Tables that reports show in detail.

    `cause` is that of each request (causes.CAUSES, -1 for none), `states` the state of the caches in each row of phases.
    """

    cause: Ints
    chunks: Chunks
    tensors: Tensors
    waited: FetchWait
    cache: CacheUseOfRun
    states: tuple[str | None, ...]


def tables(study: Study, headers: Sequence[HeaderTensor] = ()) -> Tables:
    """Work out the tables of a study; `headers` are the tensors of the files that the target used."""
    found, cause = chunks(study), request_causes(study)
    return Tables(
        cause=cause,
        chunks=found,
        tensors=tensors(study, found, cause, headers),
        waited=waited(study),
        cache=cache_of_run(study, found),
        states=tuple(states_by_row(study)),
    )
