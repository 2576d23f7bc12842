"""The life of the target cut into phases by the calls of the GenAI library, and by the names a script gives itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cvtrace.analysis.joins.answers import Answers, CallTokens, answers, call_tokens
from cvtrace.analysis.joins.idle import Idle
from cvtrace.analysis.joins.library_calls import (
    BETWEEN,
    DECODE,
    GENERATING,
    IMPORT,
    LOAD,
    NAMES,
    PREFILL,
    RUN,
    SCRIPT,
    TEARDOWN,
    TOKENIZER,
    WAITING,
    LibraryCalls,
    Turns,
    is_attached,
    library_calls,
    life,
)
from cvtrace.analysis.joins.user_phases import UserPhases, user_phases
from cvtrace.analysis.trace.intervals import (
    Bools,
    Ints,
    Steps,
    disjoint,
    distinct,
    latest,
    match,
    numbered,
    overlay,
    pick,
)
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind

__all__ = [
    "BETWEEN",
    "DECODE",
    "GENERATING",
    "IMPORT",
    "LOAD",
    "NAMES",
    "PREFILL",
    "RUN",
    "SCRIPT",
    "TEARDOWN",
    "TOKENIZER",
    "WAITING",
    "PhaseCalls",
    "Phases",
    "Segments",
    "is_attached",
    "life",
    "phases",
]


@dataclass(frozen=True)
class PhaseCalls(LibraryCalls):
    """The calls of the library, with what they made: `token` numbers the steps (those that made tokens), -1 elsewhere.

    `first` tells those that work for the first token of an answer. `by_thread` and `by_process` find calls by time.
    """

    call_tokens: CallTokens
    token: Ints
    first: Bools
    by_thread: Turns
    by_process: Turns
    """Of calls of one process that overlap, the one that began first."""

    @property
    def steps(self) -> int:
        return int(self.call_tokens.step.sum())

    @property
    def overlapping(self) -> int:
        """How many calls began while one of another thread was under way."""
        return int((self.start[1:] < np.maximum.accumulate(self.end)[:-1]).sum())


@dataclass(frozen=True)
class Segments:
    """The target's life from its start to its end, without gap or overlap, sorted by time.

    `row` numbers `Phases.names`, `thread` is the one that carries the segment, `call` the PhaseCalls (-1 between calls). Of calls that
    overlap, the one that began first carries the time.
    """

    start: Ints
    end: Ints
    row: Ints
    thread: Ints
    call: Ints

    def __len__(self) -> int:
        return len(self.start)

    def at(self, time_ns: Ints) -> Ints:
        """Return the segment around each time, -1 outside the target's life."""
        segment = latest(self.start, time_ns)
        return np.where(pick(self.end, segment, -1) > time_ns, segment, -1)

    def split(self, edges: Ints) -> Segments:
        """Return the segments cut at the edges (sorted, distinct) that lie inside one between calls."""
        place = self.at(edges)
        inside = (place >= 0) & (pick(self.call, place, 0) < 0) & (edges > pick(self.start, place, 0))
        order = np.sort(np.concatenate([np.arange(len(self)), place[inside]]), kind="stable")
        start, end = self.start[order], self.end[order]
        again = np.concatenate([[False], order[1:] == order[:-1]])[: len(order)]
        start[again] = edges[inside]
        end[:-1][again[1:]] = start[again]
        return Segments(start, end, self.row[order], self.thread[order], self.call[order])


@dataclass(frozen=True)
class Phases:
    """The phases of a target: its `calls`, which may overlap, and the `segments` of its life, which do not.

    `names` are those of the rows: NAMES, then those the script gives (`users`) that are not among them.
    """

    calls: PhaseCalls
    segments: Segments
    users: UserPhases
    names: tuple[str, ...]
    threads: tuple[Ints, Ints]
    """Those of the target, sorted: (tid, tgid)."""
    answers: Answers

    def call_at(self, thread: Ints, time_ns: Ints) -> Ints:
        """Return the call that something at a time belongs to: the thread's own, else its process's.

        Processes that never call the library work for those that do: theirs is the call that carries the time.
        """
        return self._by_stretch(self._call_at, thread, time_ns)

    def row_at(self, thread: Ints, time_ns: Ints) -> Ints:
        """Return the row of something that a thread did at a time, -1 outside the target's life."""
        return self._by_stretch(self._row_at, thread, time_ns)

    @cached_property
    def _edges(self) -> Ints:
        """The times, sorted, at which the answer for any thread may become another."""
        calls, parts = self.calls, (self.segments.start, self.segments.end, self.calls.start, self.calls.end)
        turns = [np.append(each.lanes.time(each.places), each.until) for each in (calls.by_thread, calls.by_process)]
        return distinct(np.concatenate([*parts, *turns]))

    def _by_stretch(self, lookup: Callable[[Ints, Ints], Ints], thread: Ints, time_ns: Ints) -> Ints:
        """Look up once for each thread and stretch between two edges if that is less than for each of very many times."""
        if len(time_ns) <= 2 * len(self._edges):
            return lookup(thread, time_ns)
        tids, which = numbered(thread)
        when = np.append(int(time_ns.min()), self._edges)
        if len(tids) * len(when) * 2 > len(time_ns):
            return lookup(thread, time_ns)
        of_stretch = lookup(np.repeat(tids, len(when)), np.tile(when, len(tids)))
        of_time: Ints = of_stretch[which * len(when) + np.searchsorted(self._edges, time_ns, side="right")]
        return of_time

    def _call_at(self, thread: Ints, time_ns: Ints) -> Ints:
        process, calls_itself = self._process(thread)
        of_thread = self.calls.by_thread.at(thread, time_ns)
        carrying = pick(self.segments.call, self.segments.at(time_ns), -1)
        of_process = np.where(calls_itself, self.calls.by_process.at(process, time_ns), carrying)
        return np.where(of_thread >= 0, of_thread, of_process)

    def _row_at(self, thread: Ints, time_ns: Ints) -> Ints:
        segment = self.segments.at(time_ns)
        carrier = pick(self.calls.process, pick(self.segments.call, segment, -1), -1)
        process, calls_itself = self._process(thread)
        apart = calls_itself & (carrier >= 0) & (carrier != process)
        between = np.where(apart, self._between_calls(process, time_ns), pick(self.segments.row, segment, -1))
        return np.where(segment >= 0, pick(self.calls.row, self._call_at(thread, time_ns), between), -1)

    def _process(self, thread: Ints) -> tuple[Ints, Bools]:
        """Return the process of each thread, and whether it calls the library."""
        tid, tgid = self.threads
        place = np.searchsorted(tid, thread)
        process = np.where(pick(tid, place, -1) == thread, pick(tgid, place, -1), -1)
        return process, np.isin(process, self.calls.process)

    def _between_calls(self, process: Ints, time_ns: Ints) -> Ints:
        """Return the row of a process that calls the library while it does not, another process carrying the time."""
        known, which = np.unique(self.calls.process, return_inverse=True)
        first = np.full(len(known), np.iinfo(np.int64).max, dtype=np.int64)
        last = np.zeros(len(known), dtype=np.int64)
        np.minimum.at(first, which, self.calls.start)
        np.maximum.at(last, which, self.calls.end)
        place = match(known, process)
        row = np.where(time_ns < pick(first, place, 0), IMPORT, SCRIPT)
        return np.where(time_ns >= pick(last, place, np.iinfo(np.int64).max), TEARDOWN, row)


def phases(recording: Recording) -> Phases:
    """Find the calls of the library, and cut the target's life into them and what lies between them.

    What lies between them belongs to the phase that the script names, if it does.
    """
    library = library_calls(recording)
    tokens = call_tokens(recording, library)
    generation = answers(recording, library, tokens)
    calls = _calls(recording, library, tokens, generation)
    users = user_phases(recording, *life(recording), NAMES)
    segments = _between_calls(recording, _segments(recording, calls, users), generation)
    return Phases(calls, _named(segments, users), users, users.names, recording.target_threads, generation)


def _between_calls(recording: Recording, segments: Segments, generation: Answers) -> Segments:
    """Name the time between calls: that within an answer, and that in which the target waits for something to answer."""
    if not len(generation) or not len(segments):
        return segments
    since = int(segments.start[segments.call >= 0].min(initial=np.iinfo(np.int64).max))
    gap = (segments.call < 0) & np.isin(segments.row, (SCRIPT, TEARDOWN))
    steps = overlay(Steps.constant(0), generation.start, generation.end, 1)
    within = gap & (steps.value_at(segments.start) == 1)
    segments = replace(segments, row=np.where(within, BETWEEN, segments.row))
    outside = np.flatnonzero(gap & ~within & (segments.start >= since))
    part, begin, end = Idle(recording).of(segments.thread[outside], segments.start[outside], segments.end[outside])
    if not len(part):
        return segments
    edges = distinct(np.concatenate([begin, end]))
    segments = segments.split(edges)
    waiting = overlay(Steps.constant(0), begin, end, 1)
    gap = (segments.call < 0) & np.isin(segments.row, (SCRIPT, TEARDOWN)) & (waiting.value_at(segments.start) == 1)
    return replace(segments, row=np.where(gap, WAITING, segments.row))


def _calls(recording: Recording, library: LibraryCalls, tokens: CallTokens, generation: Answers) -> PhaseCalls:
    return PhaseCalls(
        **vars(library),
        call_tokens=tokens,
        token=np.where(tokens.step, np.cumsum(tokens.step) - 1, -1),
        first=_for_first_token(recording, library, generation),
        by_thread=Turns.of(recording, library.thread, library.start, library.end),
        by_process=Turns.of(recording, library.process, library.start, library.end),
    )


def _for_first_token(recording: Recording, calls: LibraryCalls, generation: Answers) -> Bools:
    """Tell which calls work for a first token: those of a prefill, and those up to the one that made it.

    Of an engine, one call may work for the first token of one request and for further ones of others: it counts as the former.
    """
    until = np.where(generation.first_end >= 0, generation.first_end, generation.end)
    steps = Steps.constant(0)
    lanes = recording.lanes(generation.thread)
    steps = overlay(steps, lanes.at(generation.thread, generation.start), lanes.at(generation.thread, until), 1)
    place = lanes.at(calls.thread, calls.start)
    early: Bools = (place >= 0) & (steps.value_at(place) == 1)
    for_first: Bools = (calls.row == PREFILL) | ((calls.row == DECODE) & early)
    return for_first


def _segments(recording: Recording, calls: PhaseCalls, users: UserPhases) -> Segments:
    start_ns, end_ns = life(recording)
    index, begin, stop = disjoint(calls.start, calls.end)
    # Calls at odd places of the table, the gaps before, between and after them at even ones.
    count = 2 * len(index) + 1
    start, end = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    start[0], start[1::2], start[2::2] = start_ns, begin, stop
    end[:-1:2], end[1::2], end[-1] = begin, stop, end_ns
    rows, thread = np.full(count, SCRIPT, dtype=np.int64), np.empty(count, dtype=np.int64)
    rows[1::2], thread[1::2], thread[2::2] = calls.row[index], calls.thread[index], calls.thread[index]
    callers = calls.process if len(calls) else users.process
    thread[0] = callers[0] if len(callers) else recording.target_pid
    if len(calls):
        rows[0] = SCRIPT if is_attached(recording) else IMPORT
        rows[_tail_gaps(calls.row[index])] = TEARDOWN
    call = np.full(count, -1, dtype=np.int64)
    call[1::2] = index
    return _of_processes(recording, calls, Segments(start, end, rows, thread, call))


def _named(segments: Segments, users: UserPhases) -> Segments:
    """Give the time between calls to the phases that the script names."""
    if not len(users) or not len(segments):
        return segments
    segments = segments.split(users.edges)
    owner = np.where(segments.call >= 0, -1, users.owner_at(segments.start))
    return replace(
        segments,
        row=np.where(owner >= 0, pick(users.row, owner, -1), segments.row),
        thread=np.where(owner >= 0, pick(users.thread, owner, -1), segments.thread),
    )


def _tail_gaps(row: Ints) -> Ints:
    """Return the places of the gaps after the last destroying call, if only destroying calls follow."""
    working = np.flatnonzero(row != TEARDOWN)
    first = int(working[-1]) + 1 if len(working) else 0
    if first >= len(row):
        return np.empty(0, dtype=np.int64)
    return 2 * np.arange(first + 1, len(row) + 1, dtype=np.int64)


def _of_processes(recording: Recording, calls: PhaseCalls, segments: Segments) -> Segments:
    """Split the ends: before the process that calls the library began, and after its end, the target carries the time."""
    pid, caller = recording.target_pid, int(calls.process[0]) if len(calls) else 0
    if not caller or caller == pid or not pid:
        return _not_empty(segments)
    forks, exits = recording.of(Kind.PROC_FORK), recording.of(Kind.PROC_EXIT)
    born = forks.start[forks.b == caller]
    died = exits.start[exits.tid == caller]
    times = [int(born[0])] if len(born) else []
    times += [int(died[-1])] if len(died) else []
    for time_ns in times:
        segments = _split(segments, time_ns)
    before = segments.end <= times[0] if len(born) else np.zeros(len(segments), dtype=bool)
    after = segments.start >= times[-1] if len(died) else np.zeros(len(segments), dtype=bool)
    thread = np.where(before | after, pid, segments.thread)
    return _not_empty(Segments(**{**vars(segments), "thread": thread}))


def _split(segments: Segments, time_ns: int) -> Segments:
    place = int(segments.at(np.array([time_ns]))[0])
    if place < 0 or segments.call[place] >= 0:
        return segments
    twice = np.sort(np.append(np.arange(len(segments)), place))
    parts = {name: column[twice] for name, column in vars(segments).items()}
    parts["end"][place], parts["start"][place + 1] = time_ns, time_ns
    return Segments(**parts)


def _not_empty(segments: Segments) -> Segments:
    keep = (segments.end > segments.start) | (segments.call >= 0)
    return Segments(**{name: column[keep] for name, column in vars(segments).items()})
