"""The calls of the GenAI library (and of onnxruntime's sessions) in the target's life, and what other calls tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import Bools, Ints, Lanes, disjoint, latest_within, pick
from cvtrace.analysis.trace.recording import Recording, Rows
from cvtrace.probes.events import Kind
from cvtrace.probes.phases.functions import FUNCTIONS, NOTES, USER_PHASE

NAMES: Final = (
    "import",
    "load",
    "tokenizer",
    "prefill",
    "decode",
    "between",
    "run",
    "waiting for work",
    "teardown",
    "script",
)
IMPORT, LOAD, TOKENIZER, PREFILL, DECODE, BETWEEN, RUN, WAITING, TEARDOWN, SCRIPT = range(len(NAMES))
GENERATING: Final = (PREFILL, DECODE)
"""Rows of the calls that make tokens."""
_OF_FUNCTION: Final = np.array(
    [-1 if function.phase in ("user", "note") else NAMES.index(function.phase) for function in FUNCTIONS],
    dtype=np.int64,
)

MISSED: Final = ("before its calls could be marked", "its calls do not mark phases", "decode cannot be distinguished")
"""What the recorder says where calls of the library were, or may have been, made that it did not see."""


@dataclass(frozen=True)
class Turns:
    """Intervals of many keys, those of one key disjoint: `places` are sorted positions in the `lanes` of the keys."""

    lanes: Lanes
    places: Ints
    until: Ints
    which: Ints

    @classmethod
    def of(cls, recording: Recording, key: Ints, start: Ints, end: Ints) -> Turns:
        """Make the intervals of each key disjoint, earlier ones first."""
        lanes = recording.lanes(key)
        index, begin, stop = disjoint(lanes.at(key, start), lanes.at(key, end))
        return cls(lanes, begin, lanes.time(begin) + (stop - begin), index)

    def at(self, key: Ints, time_ns: Ints) -> Ints:
        """Return which interval of a key is at a time, -1 if none."""
        turn = latest_within(self.places, self.lanes.at(key, time_ns), self.lanes.span_ns)
        return np.where(pick(self.until, turn, -1) > time_ns, pick(self.which, turn, -1), -1)


@dataclass(frozen=True)
class LibraryCalls:
    """Calls of the library within the target's life, sorted by start: of nested ones the outermost of each thread.

    `row` numbers NAMES, `function` FUNCTIONS, `owner` is the object that was called (a generator, a request of an engine …), `detail` what
    the function tells of itself (Function.detail; 0 where nothing was read). `failed` returned an error, `cut` ones were under way
    when the recording ended.
    """

    start: Ints
    end: Ints
    thread: Ints
    process: Ints
    row: Ints
    function: Ints
    owner: Ints
    detail: Ints
    failed: Bools
    cut: Bools

    def __len__(self) -> int:
        return len(self.start)


def life(recording: Recording) -> tuple[int, int]:
    """Return when the target's life in the recording began and ended: its exec or the first sign of it, to its exit."""
    pid = recording.target_pid
    executed, exited = recording.of(Kind.PROC_EXEC), recording.of(Kind.PROC_EXIT)
    executed = executed.where((executed.tgid == pid) & (not is_attached(recording)))
    exited = exited.where((exited.tgid == pid) & (exited.tid == pid))
    clock = recording.meta.get("clock") or {}
    start_ns = int(executed.start[0]) if len(executed) else int(clock.get("start_ns") or recording.start_ns)
    end_ns = int(exited.start[-1]) if len(exited) else int(clock.get("end_ns") or recording.end_ns)
    return start_ns, max(start_ns, end_ns)


def is_attached(recording: Recording) -> bool:
    """Return whether the target ran already when the trace begins: then neither an exec nor the first call tells of its begin."""
    return bool((recording.meta.get("target") or {}).get("attached")) or bool(recording.meta.get("dropped"))


def calls_missed(recording: Recording) -> bool:
    """Return whether the recorder says that it missed calls of the library: the load may then be in another phase."""
    missing = [str(each) for each in recording.meta.get("missing") or ()]
    return any(phrase in each for each in missing for phrase in MISSED)


def library_calls(recording: Recording) -> LibraryCalls:
    """Find the calls that are phases; those within calls of the same thread are left out."""
    start_ns, end_ns = life(recording)
    rows = recording.of(Kind.PHASE)
    known = (rows.a >= 0) & (rows.a < len(FUNCTIONS)) & (rows.a != USER_PHASE)
    rows = rows.where(known & ~np.isin(rows.a, list(NOTES)))
    lanes = recording.lanes(rows.tid)
    begin, stop = np.clip(rows.start, start_ns, end_ns), np.clip(rows.end, start_ns, end_ns)
    index, first, last = disjoint(lanes.at(rows.tid, begin), lanes.at(rows.tid, stop))
    start = lanes.time(first)
    order = np.argsort(start, kind="stable")
    rows, start, end = rows.where(index[order]), start[order], (start + (last - first))[order]
    row = _OF_FUNCTION[rows.a]
    return LibraryCalls(
        start=start,
        end=end,
        thread=rows.tid,
        process=rows.tgid,
        row=row,
        function=rows.a,
        owner=rows.b,
        detail=rows.c,
        failed=(rows.ret != 0) & (row != TEARDOWN) & ~rows.unfinished,  # what destroys returns nothing
        cut=rows.unfinished,
    )


def notes(recording: Recording, function: int) -> Rows:
    """Return the calls of a function that only tells of others, those that succeeded."""
    rows = recording.of(Kind.PHASE)
    return rows.where((rows.a == function) & (rows.ret == 0))
