"""Where on the mounts a program waited: the files that most of it was for, and the narrowest folders that hold the rest."""

import posixpath
from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.contract.program_schema import Folder
from cvtrace.analysis.contract.report_schema import File, Report

MOST: Final = 5
WORTH: Final = 0.05
"""Share of the waiting from which on a place is told."""
SAME: Final = 0.8
"""A folder of which one folder in it has so much of the waiting is told by that one."""


@dataclass(frozen=True)
class Place:
    """A file, or a folder with what lies below it, less what is told by itself; `others`: something of it is."""

    path: str
    blocked_s: float
    requests: int
    reads: int
    read_bytes: int
    fetches: int | None
    fetched_bytes: int
    file: File | None
    others: bool = False


def places(report: Report, most: int = MOST) -> list[Place]:
    """Return the places that were waited for longest, at most so many; none that holds another."""
    total = sum(row.blocked_s for row in report.folders)
    if not total:
        return []
    single = [row for row in report.files if row.blocked_s >= 2 * WORTH * total][:most]
    found = [_of_file(row) for row in single]
    below: dict[str, float] = {}
    for row in single:
        for folder in _upwards(row.path):
            below[folder] = below.get(folder, 0.0) + row.blocked_s
    rest = {row.path: row.total_blocked_s - below.get(row.path, 0.0) for row in report.folders if row.path}
    by_path = {row.path: row for row in report.folders}
    tops = [path for path in rest if posixpath.dirname(path) not in rest]
    narrow = _narrow(tops, rest, WORTH * total)
    found += [_of_folder(by_path[path], left, others=left < by_path[path].total_blocked_s) for path, left in narrow]
    return sorted(found, key=lambda place: -place.blocked_s)[:most]


def _narrow(paths: list[str], rest: dict[str, float], least: float) -> list[tuple[str, float]]:
    """Go down from each folder as long as the folders in it have nearly all of its waiting; what they have not is told, too."""
    inside: dict[str, list[str]] = {}
    for path in rest:
        inside.setdefault(posixpath.dirname(path), []).append(path)
    found, queue = [], [path for path in paths if rest[path] >= least]
    while queue:
        path = queue.pop()
        children = [child for child in inside.get(path, []) if rest[child] >= least]
        theirs = sum(rest[child] for child in children)
        if not children or theirs < SAME * rest[path]:
            found.append((path, rest[path]))
            continue
        queue += children
        if rest[path] - theirs >= least:
            found.append((path, rest[path] - theirs))
    return found


def _upwards(path: str) -> list[str]:
    found = []
    while path not in ("", "/"):
        path = posixpath.dirname(path)
        found.append(path)
    return found


def _of_file(row: File) -> Place:
    return Place(
        row.path, row.blocked_s, row.opens + row.reads, row.reads, row.read_bytes, None, row.fetched_bytes, row
    )


def _of_folder(row: Folder, blocked_s: float, *, others: bool) -> Place:
    counts = (row.total_requests, row.reads, row.read_bytes, row.total_http_fetches, row.total_http_bytes)
    return Place(f"{row.path}/", blocked_s, *counts, None, others)
