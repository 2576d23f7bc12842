"""What is said of targets that make no tokens: what they waited for, run by run, import by import, file by file."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cvtrace.analysis.contract.program_schema import Import, Run
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.storage_schema import File
from cvtrace.analysis.contract.verdict_schema import INCONCLUSIVE, INFERENCE, YES
from cvtrace.analysis.report.lines import columns, fitted
from cvtrace.analysis.report.places import Place, places

Line = tuple[str, str]
"""A label and what is said."""

NAME: Final = 34
"""Cells of a name in a table."""
EACH_RUN: Final = 4
"""As many runs get a line each; of more, the first one and those that waited."""
MOST_PACKAGES: Final = 5
MOST_IMPORTS: Final = 2
WORTH: Final = 0.02
"""Share of the run from which on waiting for imports is told."""
NOTHING: Final = "–"


def lines(report: Report) -> list[Line]:
    """Return what inference or a program needed of CVMFS, and what of it was for imports."""
    needs = runs(report) if report.verdict.question == INFERENCE else _needed(report)
    return [*needs, *imported(report)]


def answer(report: Report) -> list[str]:
    """Return the numbers, the reasons and the proof in full."""
    verdict = report.verdict
    sentences = []
    if verdict.fuse_requests:
        needed = needs_in_words(verdict.fuse_requests, verdict.fuse_reads, verdict.http_fetches, verdict.http_bytes)
        sentences.append(
            f"{needed}, {size(verdict.fuse_read_bytes or 0)} read; blocked on CVMFS for {seconds(verdict.blocked_s or 0.0)}."
        )
    elif verdict.fuse_requests is None and report.checks:
        counts = ", ".join(f"{check.name.replace('_', ' ')} {check.client:,}" for check in report.checks)
        sentences.append(f"Over the whole run the client counted {counts} for all processes.")
    if verdict.answer == INCONCLUSIVE:
        sentences += [f"Why: {reason}." for reason in verdict.missing]
    if verdict.proof:
        sentences.append(f"{'Proof' if verdict.answer != INCONCLUSIVE else 'Known'}: {'; '.join(verdict.proof)}.")
    if verdict.answer == YES and verdict.missing:
        sentences.append(f"This is the minimum; uncertain: {'; '.join(verdict.missing)}.")
    return sentences


def _needed(report: Report) -> list[Line]:
    verdict = report.verdict
    if not verdict.fuse_requests:
        return []
    needs = needs_in_words(verdict.fuse_requests, verdict.fuse_reads, verdict.http_fetches, verdict.http_bytes)
    read = f" of {size(verdict.fuse_read_bytes)}" if verdict.fuse_reads and verdict.fuse_read_bytes else ""
    reads = pluralize(verdict.fuse_reads or 0, "read")
    return [("needed", needs.replace(reads, f"{reads}{read}", 1))]


def needs_in_words(requests: int | None, reads: int | None, fetches: int | None, fetched: int | None) -> str:
    """Return reads, other requests, fetches and their bytes."""
    other_requests = (requests or 0) - (reads or 0)
    parts = [pluralize(reads, "read")] if reads else []
    parts += [pluralize(other_requests, "other request" if reads else "request")] if other_requests > 0 else []
    parts += [f"{pluralize(fetches, 'fetch')} ({size(fetched or 0)})"] if fetches else []
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def runs(report: Report) -> list[Line]:
    """Return a line for each run of a session; of many, for the first one, the one that waited longest, and the others."""
    rows = report.runs
    if len(rows) <= EACH_RUN:
        return [(f"run {row.index + 1}", _run(row)) for row in rows]
    first, further = rows[0], rows[1:]
    worst = max(further, key=lambda row: row.blocked_s or 0.0)
    lines_of_runs = [("run 1", _run(first)), (f"{len(further):,} more runs", _runs_in_words(further))]
    if worst.blocked_s and worst.blocked_s < sum(row.blocked_s or 0.0 for row in further):
        lines_of_runs.append((f"worst, run {worst.index + 1:,}", _run(worst)))
    return lines_of_runs


def _run(row: Run) -> str:
    needs = needs_in_words(row.fuse_requests, row.fuse_reads, row.http_fetches, row.http_bytes)
    if row.blocked_s is None:
        return f"took {seconds(row.wall_s)}"
    if not needs:
        return f"needed nothing from CVMFS and took {seconds(row.wall_s)}"
    return f"waited {seconds(row.blocked_s)} of {seconds(max(row.wall_s, row.blocked_s))} for {needs}"


def _runs_in_words(rows: Sequence[Run]) -> str:
    middle = seconds(float(np.median([row.wall_s for row in rows])))
    waiting = [row for row in rows if row.fuse_requests]
    if rows[0].blocked_s is None:
        return f"took {middle} each (median)"
    if not waiting:
        return f"needed nothing from CVMFS and took {middle} each (median)"
    needs = needs_in_words(*(sum(getattr(row, name) or 0 for row in rows) for name in _COUNTS))
    whom = "all of them" if len(waiting) == len(rows) else f"{len(waiting):,} of them"
    return (
        f"{whom} waited, {seconds(sum(row.blocked_s or 0.0 for row in rows))} of "
        f"{seconds(sum(row.wall_s for row in rows))}, for {needs}"
    )


_COUNTS: Final = ("fuse_requests", "fuse_reads", "http_fetches", "http_bytes")


def imported(report: Report) -> list[Line]:
    """Return which import statements waited longest, with all that they imported."""
    statements = [row for row in report.imports if row.imported_by is None and _worth(report, row)]
    statements.sort(key=lambda row: -(row.blocked_s or 0.0))
    return [("import" if not number else "", _import(row)) for number, row in enumerate(statements[:MOST_IMPORTS])]


def _worth(report: Report, row: Import) -> bool:
    return bool(row.blocked_s) and (row.blocked_s or 0.0) >= WORTH * report.trace.duration_s


def _import(row: Import) -> str:
    parts = [
        pluralize(number, noun)
        for number, noun in ((row.opens, "open"), (row.lookups, "lookup"), (row.reads, "read"))
        if number
    ]
    parts += [f"{pluralize(row.http_fetches, 'fetch')} ({size(row.http_bytes or 0)})"] if row.http_fetches else []
    name = fitted(row.module, NAME)
    return f"{name} waited {seconds(row.blocked_s or 0.0)} of {seconds(row.wall_s)}: {', '.join(parts)}"


def imports_table(report: Report, width: int, most: int = MOST_PACKAGES) -> list[str]:
    """Return the packages whose own modules waited longest (without requests seen: took longest), as a table."""
    rows = [row for row in report.import_packages if row.self_blocked_s or (row.self_blocked_s is None and row.self_s)]
    total = sum(row.self_blocked_s if row.self_blocked_s is not None else row.self_s for row in rows)
    if not rows or total < WORTH * report.trace.duration_s:
        return []
    head = ["imported package", "modules", "time", "waiting", "opens", "lookups", "fetches", "fetched"]
    table = [
        [
            fitted(row.package, NAME),
            f"{row.modules:,}",
            seconds(row.self_s),
            *([NOTHING] * 5 if row.self_blocked_s is None else [seconds(row.self_blocked_s)]),
            *(
                []
                if row.self_blocked_s is None
                else [_number(row.opens), _number(row.lookups), _number(row.http_fetches)]
            ),
            *([] if row.self_blocked_s is None else [size(row.http_bytes) if row.http_bytes else NOTHING]),
        ]
        for row in rows[:most]
    ]
    further = len(rows) - most
    note = [f"{further:,} other packages: -v"] if further > 0 else []
    return [*columns(_without_empty([head, *table]), width), *note]


def places_table(report: Report, width: int, most: int = MOST_PACKAGES) -> list[str]:
    """Return the files and folders that were waited for longest, as a table."""
    rows_of_places = places(report, most)
    if not rows_of_places:
        return []
    head = ["waited for", "waiting", "requests", "read", "used", "fetched", "access"]
    rows = [
        [
            f"{fitted(_short(report, place), NAME)}{' (others)' if place.is_remainder else ''}",
            seconds(place.blocked_s),
            NOTHING if place.is_remainder else f"{place.requests:,}",
            size(place.read_bytes) if place.file and place.read_bytes else NOTHING,
            _used(place.file),
            size(place.fetched_bytes) if place.fetched_bytes and not place.is_remainder else NOTHING,
            (place.file.access or NOTHING) if place.file else NOTHING,
        ]
        for place in rows_of_places
    ]
    return columns(_without_empty([head, *rows]), width)


def _short(report: Report, place: Place) -> str:
    """Return the path of a place below its mount, if only one mount was used."""
    mount_paths = [mount.path for mount in report.trace.mounts if mount.used]
    if len(mount_paths) == 1 and place.path.startswith(f"{mount_paths[0]}/"):
        return place.path.removeprefix(f"{mount_paths[0]}/") or place.path
    return place.path


def _used(row: File | None) -> str:
    """Return how much of a file was used: where less was than was read, that much at least."""
    if row is None or row.used_bytes is None or not row.read_bytes:
        return NOTHING
    return f"{'≥ ' if row.used_bytes < row.read_bytes else ''}{size(row.used_bytes)}"


def _number(number: int | None) -> str:
    return f"{number:,}" if number else NOTHING


def _without_empty(rows: list[list[str]]) -> list[list[str]]:
    """Leave out columns in which nothing is told."""
    columns_shown = [place for place in range(len(rows[0])) if any(row[place] != NOTHING for row in rows[1:])]
    return [[row[place] for place in columns_shown] for row in rows]


def blocks(report: Report, width: int, most: int = MOST_PACKAGES) -> list[list[str]]:
    """Return the tables of a program, the one that tells most first, each of at most so many rows."""
    tables = [imports_table(report, width, most), places_table(report, width, most)]
    return [table for table in tables if table]
