"""The life of the target cut into phases by the calls of the GenAI library."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.intervals import Bools, Ints, disjoint, latest, pick
from cvtrace.analysis.recording import Recording, Rows
from cvtrace.probes.events import Kind
from cvtrace.probes.phases.functions import FUNCTIONS

NAMES: Final = ("import", "load", "tokenizer", "prefill", "decode", "teardown", "script")
IMPORT, LOAD, TOKENIZER, PREFILL, DECODE, TEARDOWN, SCRIPT = range(len(NAMES))
_OF_FUNCTION: Final = np.array([NAMES.index(function.phase) for function in FUNCTIONS], dtype=np.int64)


@dataclass(frozen=True)
class Segments:
    """The target's life from its start to its end, without gap or overlap, sorted by time.

    `row` numbers NAMES, `thread` is the one that carries the segment, `token` numbers the GenerateNextToken calls
    (-1 elsewhere), `called` tells segments that are calls from those between calls, `cut` those that the end of the
    recording cut off.
    """

    start: Ints
    end: Ints
    row: Ints
    thread: Ints
    token: Ints
    called: Bools
    cut: Bools

    def __len__(self) -> int:
        return len(self.start)

    def at(self, time_ns: Ints) -> Ints:
        """Return the segment around each time, -1 outside the target's life."""
        found = latest(self.start, time_ns)
        return np.where(pick(self.end, found, -1) > time_ns, found, -1)

    def row_at(self, time_ns: Ints) -> Ints:
        """Return the row of each time, -1 outside the target's life."""
        return pick(self.row, self.at(time_ns), -1)

    @property
    def tokens(self) -> int:
        return int(self.token.max()) + 1 if len(self.token) else 0


def life(recording: Recording) -> tuple[int, int]:
    """Return when the target's life in the recording began and ended: its exec or the first sign of it, to its exit."""
    pid = recording.target_pid
    executed, exited = recording.of(Kind.PROC_EXEC), recording.of(Kind.PROC_EXIT)
    executed = executed.where(executed.tgid == pid)
    exited = exited.where((exited.tgid == pid) & (exited.tid == pid))
    clock = recording.meta.get("clock") or {}
    start_ns = int(executed.start[0]) if len(executed) else int(clock.get("start_ns") or recording.start_ns)
    end_ns = int(exited.start[-1]) if len(exited) else int(clock.get("end_ns") or recording.end_ns)
    return start_ns, max(start_ns, end_ns)


def segments(recording: Recording) -> Segments:
    """Cut the target's life: calls of the library (the outermost of nested ones), and what lies between them."""
    start_ns, end_ns = life(recording)
    calls = recording.of(Kind.PHASE)
    calls = calls.where((calls.a >= 0) & (calls.a < len(FUNCTIONS)))
    index, began, ended = disjoint(np.clip(calls.start, start_ns, end_ns), np.clip(calls.end, start_ns, end_ns))
    calls = calls.where(index)
    row = _OF_FUNCTION[calls.a]
    # Calls at odd places of the table, the gaps before, between and after them at even ones.
    count = 2 * len(calls) + 1
    start, end = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    start[0], start[1::2], start[2::2] = start_ns, began, ended
    end[:-1:2], end[1::2], end[-1] = began, ended, end_ns
    rows, thread = np.full(count, SCRIPT, dtype=np.int64), np.empty(count, dtype=np.int64)
    rows[1::2], thread[1::2], thread[2::2] = row, calls.tid, calls.tid
    thread[0] = calls.tgid[0] if len(calls) else recording.target_pid
    if len(calls):
        rows[0] = IMPORT
        rows[_tail_gaps(row)] = TEARDOWN
    token = np.full(count, -1, dtype=np.int64)
    decoding = np.flatnonzero(rows == DECODE)
    token[decoding] = np.arange(len(decoding))
    called = np.arange(count) % 2 == 1
    cut = np.zeros(count, dtype=bool)
    cut[1::2] = calls.unfinished
    return _of_processes(recording, calls, Segments(start, end, rows, thread, token, called, cut))


def _tail_gaps(row: Ints) -> Ints:
    """Return the places of the gaps after the last destroying call, if only destroying calls follow."""
    working = np.flatnonzero(row != TEARDOWN)
    first = int(working[-1]) + 1 if len(working) else 0
    if first >= len(row):
        return np.empty(0, dtype=np.int64)
    return 2 * np.arange(first + 1, len(row) + 1, dtype=np.int64)


def _of_processes(recording: Recording, calls: Rows, found: Segments) -> Segments:
    """Split the ends: before the process that calls the library began, and after its end, the target carries the time."""
    pid, caller = recording.target_pid, int(calls.tgid[0]) if len(calls) else 0
    if not caller or caller == pid or not pid:
        return _not_empty(found)
    forks, exits = recording.of(Kind.PROC_FORK), recording.of(Kind.PROC_EXIT)
    born = forks.start[forks.b == caller]
    died = exits.start[exits.tid == caller]
    times = [int(born[0])] if len(born) else []
    times += [int(died[-1])] if len(died) else []
    for time_ns in times:
        found = _split(found, time_ns)
    before = found.end <= times[0] if len(born) else np.zeros(len(found), dtype=bool)
    after = found.start >= times[-1] if len(died) else np.zeros(len(found), dtype=bool)
    thread = np.where(before | after, pid, found.thread)
    return _not_empty(Segments(**{**vars(found), "thread": thread}))


def _split(found: Segments, time_ns: int) -> Segments:
    place = int(found.at(np.array([time_ns]))[0])
    if place < 0 or found.called[place]:
        return found
    twice = np.sort(np.append(np.arange(len(found)), place))
    parts = {name: column[twice] for name, column in vars(found).items()}
    parts["end"][place], parts["start"][place + 1] = time_ns, time_ns
    return Segments(**parts)


def _not_empty(found: Segments) -> Segments:
    keep = (found.end > found.start) | found.called
    return Segments(**{name: column[keep] for name, column in vars(found).items()})
