"""Sentences on what went on inside the client: clean-ups of its cache, back-off."""

from collections.abc import Callable

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report


def client(report: Report) -> list[str]:
    """Return a sentence each on clean-ups and back-off, if there were any."""
    return [*_cleanups(report), *_backoff(report)]


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
