"""Sentences on what went on inside the client: clean-ups of its cache, back-off, prefetching."""

from collections.abc import Callable

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report


def client(report: Report) -> list[str]:
    """Return a sentence each on clean-ups, back-off and prefetching, if there were any."""
    return [*_cleanups(report), *_backoff(report), *(f"{sentence}." for sentence in prefetching(report))]


def prefetching(report: Report) -> list[str]:
    """Return what the client prefetched in the background, of what use that was, and how much was of none; without a full stop."""
    row = report.prefetching
    if row is None:
        return []
    fetched = (
        f"In the background, the client prefetched {pluralize(row.objects, 'object')} of a bundle ({size(row.bytes)})"
    )
    if not row.objects:
        return [
            f"In the background, the client fetched a bundle, and none of its files ({pluralize(row.fetches, 'fetch')})"
        ]
    used = f"the target used {row.used_objects:,} of them, which saved it {seconds(row.saves_at_most_s)} at most"
    waited = f" and still cost it a wait of {seconds(row.waited_s)}" if row.waited_s else ""
    wasted = (
        f"; {row.unused_objects:,} ({size(row.unused_bytes)}) were fetched for nothing" if row.unused_objects else ""
    )
    return [
        f"{fetched}: {used}{waited}{wasted}"
        if row.used_objects
        else f"{fetched}, and the target used none of them{wasted}"
    ]


def _cleanups(report: Report) -> list[str]:
    rows = [row for row in report.phases if row.cleanups]
    if not rows:
        return []
    is_known = all(row.cleanup_bytes is not None for row in rows)
    evicted = size(sum(row.cleanup_bytes or 0 for row in rows)) if is_known else "objects"
    total, spent = sum(row.cleanups or 0 for row in rows), sum(row.cleanup_s or 0 for row in rows)
    where = _where(rows, lambda row: f"{row.cleanups:,}")
    return [
        f"The client evicted {evicted} from its cache in {pluralize(total, 'clean-up')} of {seconds(spent)} together ({where})."
    ]


def _backoff(report: Report) -> list[str]:
    rows = [row for row in report.phases if row.backoff_s]
    if not rows:
        return []
    slept_s = sum(row.backoff_s or 0 for row in rows)
    waiting = [row for row in rows if row.backoff_waited_s]
    waited_s = sum(row.backoff_waited_s or 0 for row in waiting)
    where = _where(waiting, lambda row: seconds(row.backoff_waited_s or 0))
    sentence = (
        f"the target waited {seconds(waited_s)} for that, counted as network.queue ({where})"
        if waiting
        else "the run did not wait for that"
    )
    return [f"After failed requests the client slept {seconds(slept_s)} in back-off; {sentence}."]


def _where(rows: list[Phase], cell: Callable[[Phase], str]) -> str:
    return ", ".join(f"{row.name} {cell(row)}" for row in rows)
