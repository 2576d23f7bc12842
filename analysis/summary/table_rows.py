"""The rows of the report that come from `tables`."""

from typing import TypedDict

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.storage_schema import Chunk, ClientCache, Fetching, Layer, Tensor
from cvtrace.analysis.storage.chunks import KINDS
from cvtrace.analysis.storage.fetching import most_at_once
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.intervals import Bools


def chunk_rows(study: Study, tables: Tables) -> tuple[Chunk, ...]:
    """Return one row for each object that the target used, by file and place."""
    chunks, pages = tables.chunks, study.recording.sees_pages
    names = study.file_paths.of(chunks.connection, chunks.nodeid)
    columns = {name: column.tolist() for name, column in vars(chunks).items()}
    rows = []
    for number in range(len(chunks)):
        at = {name: column[number] for name, column in columns.items()}
        rows.append(
            Chunk(
                object=study.opens.names[at["object"]],
                kind=KINDS[at["kind"]],
                path=names[number] if at["file"] >= 0 else "",
                offset_bytes=_known(at["offset"]),
                size_bytes=_known(at["size"]),
                asked_bytes=at["requested"] if pages and at["offset"] >= 0 else None,
                read_bytes=at["read"],
                fetched_bytes=at["fetched"],
                fetches=at["fetches"],
                hits=at["hits"],
                shared=at["shared"],
                misses=at["misses"],
                evictions=at["evictions"],
                blocked_s=at["blocked_ns"] / 1e9,
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.path, row.offset_bytes or 0, row.object)))


def _known(number: int) -> int | None:
    return number if number >= 0 else None


def fetching_row(study: Study, tables: Tables) -> Fetching | None:
    """Return what was waited for fetches; None where requests cannot be observed."""
    if not study.recording.sees_requests:
        return None
    fetch_wait = tables.fetch_waits
    total, sequential, longest = int(fetch_wait.waited.sum()), int(fetch_wait.sequential.sum()), fetch_wait.longest
    return Fetching(
        waited_s=total / 1e9,
        sequential_s=sequential / 1e9,
        sequential_share=round(sequential / total, 4) if total else None,
        longest_s=longest / 1e9,
        parallel_saves_at_most_s=(sequential - longest) / 1e9,
        most_at_once=most_at_once(study),
    )


def cache_row(study: Study, tables: Tables) -> ClientCache | None:
    """Return what the run took of the client's cache; None where requests cannot be observed."""
    if not study.recording.sees_requests:
        return None
    cache = tables.cache
    return ClientCache(
        quota_bytes=cache.quota,
        working_set_bytes=cache.working_set,
        objects_fetched=cache.fetched,
        fetched_again=cache.again,
        fetched_again_bytes=cache.again_bytes,
        evicted=cache.evicted,
        thrash=cache.thrash,
    )


class _Sums(TypedDict):
    reads: int
    read_bytes: int
    faults: int | None
    fetched_bytes: int
    evictions: int
    blocked_s: float
    generation_reads: int
    generation_blocked_s: float


def _sums(study: Study, tables: Tables, chosen: Bools | int) -> _Sums:
    """Add up what is counted of the chosen rows of the table of tensors."""
    tensors = tables.tensors

    def total(column: str) -> int:
        return int(np.sum(getattr(tensors, column)[chosen]))

    return _Sums(
        reads=total("reads"),
        read_bytes=total("read_bytes"),
        faults=total("faults") if study.recording.sees_pages else None,
        fetched_bytes=total("fetched"),
        evictions=total("evictions"),
        blocked_s=total("blocked_ns") / 1e9,
        generation_reads=total("generation_reads"),
        generation_blocked_s=total("generation_blocked_ns") / 1e9,
    )


def tensor_rows(study: Study, tables: Tables) -> tuple[Tensor, ...]:
    """Return the tensors by file and place; what belongs to none, where it is anything, comes last."""
    tensors = tables.tensors
    rows = []
    for number, header in enumerate(tensors.header):
        sums = _sums(study, tables, number)
        if header is None and not any(sums.values()):
            continue
        layer = int(tensors.layer[number])
        rows.append(
            Tensor(
                name=header.name if header else "",
                dtype=header.dtype if header else "",
                shape=header.shape if header else (),
                layer=layer if layer >= 0 else None,
                path=tensors.path[number],
                offset_bytes=int(tensors.offset[number]),
                size_bytes=int(tensors.size[number]),
                **sums,
            )
        )
    return tuple(rows)


def layer_rows(study: Study, tables: Tables) -> tuple[Layer, ...]:
    """Return the layers in order, then the tensors of no layer together."""
    tensors = tables.tensors
    is_tensor = np.array([header is not None for header in tensors.header], dtype=bool)
    rows = []
    for layer in sorted(np.unique(tensors.layer[is_tensor]).tolist(), key=lambda number: (number < 0, number)):
        chosen = is_tensor & (tensors.layer == layer)
        size = int(tensors.size[chosen].sum())
        layer_or_none = layer if layer >= 0 else None
        rows.append(
            Layer(layer=layer_or_none, tensors=int(chosen.sum()), size_bytes=size, **_sums(study, tables, chosen))
        )
    return tuple(rows)
