"""The rows of the report that come from `tables`."""

from cvtrace.analysis.chunks import KINDS
from cvtrace.analysis.fetching import most_at_once
from cvtrace.analysis.model import Chunk, ClientCache, Fetching
from cvtrace.analysis.study import Study
from cvtrace.analysis.tables import Tables


def chunk_rows(study: Study, tables: Tables) -> tuple[Chunk, ...]:
    """Return one row for each object that the target used, by file and place."""
    found, pages = tables.chunks, study.recording.sees_pages
    names = study.paths.of(found.connection, found.nodeid)
    columns = {name: column.tolist() for name, column in vars(found).items()}
    rows = []
    for number in range(len(found)):
        at = {name: column[number] for name, column in columns.items()}
        rows.append(
            Chunk(
                object=study.opens.names[at["object"]],
                kind=KINDS[at["kind"]],
                path=names[number] if at["file"] >= 0 else "",
                offset_bytes=_known(at["offset"]),
                size_bytes=_known(at["size"]),
                asked_bytes=at["asked"] if pages and at["offset"] >= 0 else None,
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
    waited = tables.waited
    total, sequential = int(waited.length.sum()), int(waited.sequential.sum())
    longest = waited.longest(len(study.requests))
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
