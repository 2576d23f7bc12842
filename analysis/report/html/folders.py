"""The folders and files of a run as a tree: what many small files cost, folder by folder."""

from typing import Any, Final

from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report.names import printable

FEWEST: Final = 20
"""Files from which on the page has the tree."""
MOST: Final = 5000
"""Files in the tree, those that were waited for longest."""


def tree(report: Report) -> dict[str, list[Any]]:
    """Return the nodes as columns, folders before what lies in them; `parent` is a row, -1 for a root. Empty for few files."""
    if len(report.files) < FEWEST:
        return {}
    totals = {
        row.path: (row.total_requests, row.total_http_fetches, row.total_http_bytes, row.total_blocked_s)
        for row in report.folders
        if row.path
    }
    number: dict[str, int] = {}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("name", "parent", "folder", "requests", "fetches", "bytes", "blocked")
    }

    def add(path: str, parent: int, is_folder: bool, values: tuple[int, int, int, float]) -> int:
        name = path.rstrip("/").rpartition("/")[2] if parent >= 0 else path
        row = (printable(name), parent, int(is_folder), *values[:3], round(values[3], 9))
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        return len(columns["name"]) - 1

    for path in sorted(totals, key=lambda path: (path.count("/"), path)):
        number[path] = add(path, number.get(path.rpartition("/")[0], -1), True, totals[path])
    for row in sorted(report.files, key=lambda row: -row.blocked_s)[:MOST]:
        folder = number.get(row.path.rpartition("/")[0])
        if folder is not None:
            add(row.path, folder, False, (row.opens + row.reads, row.cache_misses, row.fetched_bytes, row.blocked_s))
    return columns if number else {}
