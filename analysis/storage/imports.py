"""Which imports of Python modules took how long, and what each asked of CVMFS.

Imports nest: what a thread does belongs to the innermost import that it is in. What came before imports were marked is the start of
the interpreter.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.joins.requests import PATHS
from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, Steps, add_by_group, latest_within, pick
from cvtrace.analysis.trace.keys import thread_depth_key
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind, Opcode
from cvtrace.probes.phases.hook import ARMED

START: Final = "(start of the interpreter)"
"""Stands for the modules that are imported before imports are marked."""
DEEPEST: Final = 255
COUNTS: Final = ("opens", "lookups", "reads", "read_bytes", "http_fetches", "http_bytes")


@dataclass(frozen=True)
class Imports:
    """Imports, sorted by (thread, start). `parent` is the import that each began in, -1 for none; `depth` how many it is nested in.

    `module` numbers `names`, `process` `processes`. `direct` has a row for each import and a column for each of COUNTS, without those nested in
    it; `total` with them. `self_ns`, `self_blocked_ns` and `total_blocked_ns` likewise.
    """

    start: Ints
    end: Ints
    process: Ints
    thread: Ints
    depth: Ints
    parent: Ints
    module: Ints
    names: tuple[str, ...]
    failed: Bools
    direct: Ints
    total: Ints
    self_ns: Ints
    self_blocked_ns: Ints
    total_blocked_ns: Ints

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class _Marks:
    """Columns of the marks, in any order."""

    start: Ints
    end: Ints
    process: Ints
    thread: Ints
    depth: Ints
    name: list[str]
    failed: Bools


def imports(study: Study) -> Imports:
    """Gather the imports that the target's interpreters marked, and share out what was asked in them."""
    marks = _marks(study.recording)
    lanes = study.recording.lanes(marks.thread)
    order = np.lexsort((marks.depth, lanes.at(marks.thread, marks.start)))
    start, thread, depth = marks.start[order], marks.thread[order], marks.depth[order]
    parent = _parents(study.recording, thread, depth, start, marks.end[order])
    end = _within(marks.end[order], parent, depth)
    names = tuple(dict.fromkeys(marks.name))
    number = {name: place for place, name in enumerate(names)}
    module = np.array([number[marks.name[place]] for place in order.tolist()], dtype=np.int64)
    innermost = _innermost(lanes, thread, start, end, depth, parent)
    direct = _counts(study, lanes, innermost, len(start))
    self_ns, blocked = _times(study, lanes, innermost, len(start))
    return Imports(
        start=start,
        end=end,
        process=marks.process[order],
        thread=thread,
        depth=depth,
        parent=parent,
        module=module,
        names=names,
        failed=marks.failed[order],
        direct=direct,
        total=_with_nested(direct, parent, depth),
        self_ns=self_ns,
        self_blocked_ns=blocked,
        total_blocked_ns=_with_nested(blocked, parent, depth),
    )


def _marks(recording: Recording) -> _Marks:
    """Return the marked imports, and the start of each interpreter that marked any."""
    rows = recording.of(Kind.IMPORT)
    start, end = life(recording)
    armed = rows.where(rows.a == ARMED)
    rows = rows.where((rows.a != ARMED) & (rows.end > start) & (rows.start < end))
    since = _executed(recording, armed)
    armed, since = armed.where(since >= 0), since[since >= 0]
    return _Marks(
        start=np.concatenate([np.clip(rows.start, start, end), since]),
        end=np.concatenate([np.clip(rows.end, start, end), np.maximum(armed.start, since)]),
        process=np.concatenate([rows.tgid, armed.tgid]),
        thread=np.concatenate([rows.tid, armed.tid]),
        depth=np.concatenate([np.clip(rows.b, 0, DEEPEST), np.zeros(len(armed), dtype=np.int64)]),
        name=[*recording.text(rows), *[START] * len(armed)],
        failed=np.concatenate([(rows.ret < 0) & ~rows.unfinished, np.zeros(len(armed), dtype=bool)]),
    )


def _executed(recording: Recording, armed: Rows) -> Ints:
    """Return when each interpreter that marks imports was executed, -1 where that is not known."""
    execs = recording.of(Kind.PROC_EXEC)
    lanes = recording.lanes(execs.tgid)
    places = lanes.at(execs.tgid, execs.start)
    order = np.argsort(places, kind="stable")
    last_exec = pick(
        execs.start[order], latest_within(places[order], lanes.at(armed.tgid, armed.start), lanes.span_ns), -1
    )
    first = np.where(armed.tgid == recording.target_pid, life(recording)[0], -1)
    return np.where(last_exec >= 0, last_exec, first)


def _parents(recording: Recording, thread: Ints, depth: Ints, start: Ints, end: Ints) -> Ints:
    """Return for each import the last one of its thread that is nested in one fewer and began before it, -1 for none."""
    lanes = recording.lanes(thread_depth_key(thread, depth))
    places = lanes.at(thread_depth_key(thread, depth), start)
    order = np.argsort(places, kind="stable")
    above = np.where(depth > 0, lanes.at(thread_depth_key(thread, np.maximum(depth - 1, 0)), start), -1)
    last_above = pick(order, latest_within(places[order], above, lanes.span_ns), -1)
    return np.where(pick(end, last_above, -1) > start, last_above, -1)


def _within(end: Ints, parent: Ints, depth: Ints) -> Ints:
    """Let no import end after the one that it is nested in."""
    end = end.copy()
    for level in np.unique(depth).tolist():
        at_level = np.flatnonzero((depth == level) & (parent >= 0))
        end[at_level] = np.minimum(end[at_level], end[parent[at_level]])
    return end


def _innermost(lanes: Lanes, thread: Ints, start: Ints, end: Ints, depth: Ints, parent: Ints) -> Steps:
    """Return the innermost import of each thread at each moment, -1 for none."""
    count = np.arange(len(start), dtype=np.int64)
    at = np.concatenate([lanes.at(thread, start), lanes.at(thread, end)])
    value = np.concatenate([count, parent])
    # At one moment, inner imports end before outer ones, and all before the next begins.
    turn = np.concatenate([DEEPEST + 1 + depth, DEEPEST - depth])
    order = np.lexsort((turn, at))
    at, value = at[order], value[order]
    last = np.append(at[1:] != at[:-1], True)[: len(at)]
    return Steps(np.concatenate([[0], at[last]]), np.concatenate([[-1], value[last]]))


def _counts(study: Study, lanes: Lanes, innermost: Steps, count: int) -> Ints:
    """Return what was asked in each import itself: columns as COUNTS."""
    requests, gets = study.requests, study.gets
    position = lanes.at(requests.asker, requests.sent)
    import_of = np.where(requests.by_target & (position >= 0), innermost.value_at(position), -1)
    of_get = pick(import_of, gets.request, -1)
    columns = (
        add_by_group(import_of, requests.is_(Opcode.OPEN), count),
        add_by_group(import_of, np.isin(requests.opcode, PATHS), count),
        add_by_group(import_of, requests.reads, count),
        add_by_group(import_of, requests.read_bytes, count),
        add_by_group(of_get, np.ones(len(of_get), dtype=np.int64), count),
        add_by_group(of_get, gets.body_bytes, count),
    )
    return np.stack(columns, axis=1)


def _times(study: Study, lanes: Lanes, innermost: Steps, count: int) -> tuple[Ints, Ints]:
    """Return how long each import itself took, and how long its thread was blocked on CVMFS in that, in ns."""
    inside = np.flatnonzero(innermost.value[:-1] >= 0)
    position, which = innermost.at[inside], innermost.value[inside]
    start = lanes.time(position)
    end = start + (innermost.at[inside + 1] - position)
    thread = pick(lanes.keys, position // lanes.span_ns, -1)
    path = study.threads.between(thread, start, end)
    times = class_times(path, which, count)
    blocked: Ints = times[:, list(BLOCKED_ON_CVMFS)].sum(axis=1)
    return add_by_group(which, end - start, count), blocked


def _with_nested(direct: Ints, parent: Ints, depth: Ints) -> Ints:
    """Add to each import what those nested in it have."""
    total = direct.copy()
    for level in np.unique(depth)[::-1].tolist():
        at_level = np.flatnonzero((depth == level) & (parent >= 0))
        np.add.at(total, parent[at_level], total[at_level])
    return total
