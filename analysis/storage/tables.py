"""The result of this room: the cause of every request, objects and tensors one by one, waits for fetches, state of the caches."""

from dataclasses import dataclass

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.storage.cache_state import states_by_row
from cvtrace.analysis.storage.causes import request_causes
from cvtrace.analysis.storage.chunks import Chunks, chunks
from cvtrace.analysis.storage.fetching import CacheUseOfRun, FetchWait, cache_of_run, fetch_waits
from cvtrace.analysis.storage.headers import Headers
from cvtrace.analysis.storage.tensors import Tensors, look_up, tensors
from cvtrace.analysis.trace.intervals import Ints


@dataclass(frozen=True)
class Tables:
    """Which bytes a run needed, and why.

    `cause` is that of each request of the study (causes.CAUSES, -1 for none), `states` the state of the caches in each row of phases.
    """

    cause: Ints
    chunks: Chunks
    tensors: Tensors
    fetch_waits: FetchWait
    cache: CacheUseOfRun
    states: tuple[str | None, ...]
    unread_headers: tuple[str, ...] = ()
    """Sentences on tensors that could not be looked up."""


def storage_tables(study: Study, headers: Headers | None = None) -> Tables:
    """Work out the tables; with `headers`, tensors are looked up in the headers of the files that the target used."""
    objects, cause = chunks(study), request_causes(study)
    header_tensors, unread = look_up(study, headers)
    return Tables(
        cause=cause,
        chunks=objects,
        tensors=tensors(study, objects, cause, header_tensors),
        fetch_waits=fetch_waits(study),
        cache=cache_of_run(study, objects),
        states=tuple(states_by_row(study)),
        unread_headers=tuple(unread),
    )
