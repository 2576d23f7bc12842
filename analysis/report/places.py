"""Where on the mounts a program waited: the files that most of it was for, and the narrowest folders that hold the rest."""

import posixpath
from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.contract.program_schema import Folder
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.storage_schema import File

MOST: Final = 5
WORTH: Final = 0.05
"""Share of the waiting from which on a place is told."""
SAME: Final = 0.8
"""A folder of which one folder in it has so much of the waiting is told by that one."""


@dataclass(frozen=True)
class Place:
    """A file, or a folder with what lies below it, less what is shown by itself; `is_remainder`: something of it is."""

    path: str
    blocked_s: float
    requests: int
    reads: int
    read_bytes: int
    fetches: int | None
    fetched_bytes: int
    file: File | None
    is_remainder: bool = False


def places(report: Report, most: int = MOST) -> list[Place]:
    """Return the places that were waited for longest, at most so many; none that holds another."""
    total = sum(row.blocked_s for row in report.folders)
    if not total:
        return []
    files_worth = [row for row in report.files if row.blocked_s >= 2 * WORTH * total][:most]
    selected = [_of_file(row) for row in files_worth]
    single_below: dict[str, float] = {}
    for row in files_worth:
        for folder in _upwards(row.path):
            single_below[folder] = single_below.get(folder, 0.0) + row.blocked_s
    remaining = {row.path: row.total_blocked_s - single_below.get(row.path, 0.0) for row in report.folders if row.path}
    by_path = {row.path: row for row in report.folders}
    tops = [path for path in remaining if posixpath.dirname(path) not in remaining]
    narrow = _narrow(tops, remaining, WORTH * total)
    selected += [
        _of_folder(by_path[path], remaining_s, is_remainder=remaining_s < by_path[path].total_blocked_s)
        for path, remaining_s in narrow
    ]
    return sorted(selected, key=lambda place: -place.blocked_s)[:most]


def _narrow(paths: list[str], remaining: dict[str, float], least: float) -> list[tuple[str, float]]:
    """Go down from each folder as long as the folders in it have nearly all of its waiting; what they have not is told, too."""
    inside: dict[str, list[str]] = {}
    for path in remaining:
        inside.setdefault(posixpath.dirname(path), []).append(path)
    narrowed, queue = [], [path for path in paths if remaining[path] >= least]
    while queue:
        path = queue.pop()
        children = [child for child in inside.get(path, []) if remaining[child] >= least]
        children_s = sum(remaining[child] for child in children)
        if not children or children_s < SAME * remaining[path]:
            narrowed.append((path, remaining[path]))
            continue
        queue += children
        if remaining[path] - children_s >= least:
            narrowed.append((path, remaining[path] - children_s))
    return narrowed


def _upwards(path: str) -> list[str]:
    folders = []
    while path not in ("", "/"):
        path = posixpath.dirname(path)
        folders.append(path)
    return folders


def _of_file(row: File) -> Place:
    return Place(
        row.path, row.blocked_s, row.opens + row.reads, row.reads, row.read_bytes, None, row.fetched_bytes, row
    )


def _of_folder(row: Folder, blocked_s: float, *, is_remainder: bool) -> Place:
    counts = (row.total_requests, row.reads, row.read_bytes, row.total_http_fetches, row.total_http_bytes)
    return Place(f"{row.path}/", blocked_s, *counts, None, is_remainder)
