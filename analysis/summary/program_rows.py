"""The rows of the report on imports of Python modules and on runs of a session."""

from typing import Any, Final

import numpy as np

from cvtrace.analysis.attribution.path import class_times, group_seconds
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.contract.program_schema import Import, ImportedPackage, Run
from cvtrace.analysis.joins.phases import RUN, life
from cvtrace.analysis.storage.imports import COUNTS, START, Imports
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group, pick

MOST_IMPORTS: Final = 20_000
"""Rows of imports; those that took least are left out."""


def run_rows(study: Study) -> tuple[Run, ...]:
    """Return one row for each call of `run` of a session, in the order in which they began."""
    calls, requests, gets = study.phase_calls, study.requests, study.gets
    of_run = np.flatnonzero(calls.row == RUN)
    if not len(of_run):
        return ()
    count = len(of_run)
    number = np.full(len(calls), -1, dtype=np.int64)
    number[of_run] = np.arange(count)
    times = class_times(study.call_path, number, count)
    call = np.where(requests.by_target, study.phases.call_at(requests.asker, requests.sent), -1)
    run = np.where(requests.expects_reply, pick(number, call, -1), -1)
    of_get = pick(run, gets.request, -1)
    start_ns, _ = life(study.recording)
    is_seen = study.recording.sees_requests
    columns: dict[str, Ints] = {
        "fuse_requests": add_by_group(run, np.ones(len(run), dtype=np.int64), count),
        "fuse_reads": add_by_group(run, requests.reads, count),
        "fuse_read_bytes": add_by_group(run, requests.read_bytes, count),
        "http_fetches": add_by_group(of_get, np.ones(len(of_get), dtype=np.int64), count),
        "http_bytes": add_by_group(of_get, gets.body_bytes, count),
    }
    blocked = times[:, list(BLOCKED_ON_CVMFS)].sum(axis=1)
    return tuple(
        Run(
            index=place,
            process=int(calls.process[call_place]),
            start_s=int(calls.start[call_place] - start_ns) / 1e9,
            wall_s=int(calls.end[call_place] - calls.start[call_place]) / 1e9,
            **group_seconds(times[place]),
            blocked_s=int(blocked[place]) / 1e9 if is_seen else None,
            **{name: int(column[place]) if is_seen else None for name, column in columns.items()},
        )
        for place, call_place in enumerate(of_run.tolist())
    )


def import_rows(study: Study, imports: Imports) -> tuple[Import, ...]:
    """Return one row for each module that a process imported, those that took longest first."""
    if not len(imports):
        return ()
    pairs, group = np.unique(np.column_stack([imports.process, imports.module]), axis=0, return_inverse=True)
    group, count = group.ravel(), len(pairs)
    is_outermost = _outermost(group, imports.parent, imports.depth)
    wall = add_by_group(np.where(is_outermost, group, -1), imports.end - imports.start, count)
    first = np.full(count, len(imports), dtype=np.int64)
    by_start = np.argsort(imports.start, kind="stable")
    np.minimum.at(first, group[by_start], np.arange(len(imports)))
    first = by_start[first]
    sums = _sums(imports, group, is_outermost, count)
    start_ns, _ = life(study.recording)
    longest = np.argsort(-wall, kind="stable")[:MOST_IMPORTS]
    tries, failed = np.bincount(group, minlength=count), add_by_group(group, imports.failed, count)
    return tuple(
        Import(
            module=imports.names[pairs[row, 1]],
            process=int(pairs[row, 0]),
            start_s=int(imports.start[first[row]] - start_ns) / 1e9,
            wall_s=int(wall[row]) / 1e9,
            imported_by=_name(imports, int(imports.parent[first[row]])),
            count=int(tries[row]),
            failed=int(failed[row]),
            **_cells(study, sums, row, ""),
            **_cells(study, sums, row, "self_"),
        )
        for row in longest.tolist()
    )


def package_rows(study: Study, imports: Imports) -> tuple[ImportedPackage, ...]:
    """Return one row for each package, those whose own modules waited longest first."""
    if not len(imports):
        return ()
    tops = [name if name == START else name.partition(".")[0] for name in imports.names]
    packages = tuple(dict.fromkeys(tops))
    number = {name: place for place, name in enumerate(packages)}
    package = np.array([number[top] for top in tops], dtype=np.int64)[imports.module]
    count = len(packages)
    is_outermost = _outermost(package, imports.parent, imports.depth)
    wall = add_by_group(np.where(is_outermost, package, -1), imports.end - imports.start, count)
    sums = _sums(imports, package, is_outermost, count)
    modules = np.unique(np.column_stack([package, imports.module]), axis=0)[:, 0]
    processes = np.unique(np.column_stack([package, imports.process]), axis=0)[:, 0]
    rows = []
    for row in range(count):
        self_cells = _cells(study, sums, row, "self_")
        rows.append(
            ImportedPackage(
                package=packages[row],
                modules=int((modules == row).sum()),
                processes=int((processes == row).sum()),
                wall_s=int(wall[row]) / 1e9,
                self_s=self_cells["self_s"],
                blocked_s=_cells(study, sums, row, "")["blocked_s"],
                self_blocked_s=self_cells["self_blocked_s"],
                **{name: self_cells[f"self_{name}"] for name in COUNTS},
            )
        )
    return tuple(sorted(rows, key=lambda each: (-(each.self_blocked_s or 0.0), -each.self_s, each.package)))


def _outermost(group: Ints, parent: Ints, depth: Ints) -> Bools:
    """Tell which imports are nested in no other of their group."""
    is_outermost = np.ones(len(group), dtype=bool)
    above = parent.copy()
    for _ in range(int(depth.max()) if len(depth) else 0):
        is_outermost &= pick(group, above, -1) != group
        above = pick(parent, above, -1)
    return is_outermost


def _sums(imports: Imports, group: Ints, is_outermost: Bools, count: int) -> dict[str, Ints]:
    """Add up the imports of each group: what they have themselves, and with those nested in the outermost of them."""
    of_outer = np.where(is_outermost, group, -1)
    sums = {
        "self_s": add_by_group(group, imports.self_ns, count),
        "self_blocked_s": add_by_group(group, imports.self_blocked_ns, count),
        "blocked_s": add_by_group(of_outer, imports.total_blocked_ns, count),
    }
    for column, name in enumerate(COUNTS):
        sums[f"self_{name}"] = add_by_group(group, imports.direct[:, column], count)
        sums[name] = add_by_group(of_outer, imports.total[:, column], count)
    return sums


def _cells(study: Study, sums: dict[str, Ints], row: int, prefix: str) -> dict[str, Any]:
    """Return the fields of a row whose names begin with `self_`, or those that do not."""
    is_seen = study.recording.sees_requests
    cells: dict[str, Any] = {}
    for name, column in sums.items():
        if name.startswith("self_") != (prefix == "self_"):
            continue
        if name == "self_s":
            cells[name] = int(column[row]) / 1e9
        elif not is_seen:
            cells[name] = None
        else:
            cells[name] = int(column[row]) / 1e9 if name.endswith("_s") else int(column[row])
    return cells


def _name(imports: Imports, number: int) -> str | None:
    return imports.names[imports.module[number]] if number >= 0 else None
