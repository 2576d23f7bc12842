"""The time of the critical path by line of code: which stack the thread had at each moment, as far as it was sampled (`--stacks`).

A thread that waits does not move: a sample in a wait holds for all of it. Between waits a stack holds as long as samples showed it.
Where there is no sample there is no stack; its time is given to no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import WAITING
from cvtrace.analysis.storage.stacks import CHOICES, Stacks, stacks
from cvtrace.analysis.storage.tensors import Tensors
from cvtrace.analysis.trace.intervals import (
    Ints,
    Lanes,
    Steps,
    cut,
    disjoint,
    empty,
    ints,
    latest_within,
    numbered,
    overlay,
    pick,
)
from cvtrace.probes.stacks.frames import Frame
from cvtrace.tracer.stack_tables import read_stacks

NO_SAMPLE: Final = "no sample"
EARLY_NS: Final = 50_000
"""perf and the probe see the same switch of threads, some microseconds apart."""


class Summed(Protocol):
    """Time by stack, of whatever kind: what folded stacks and speedscope write."""

    @property
    def ns(self) -> Ints: ...
    @property
    def of_piece(self) -> Ints: ...
    @property
    def piece_ns(self) -> Ints: ...
    def __len__(self) -> int: ...
    def rows(self, choice: str) -> Ints: ...
    def frames(self, row: int) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Sampled:
    """Samples, sorted by time: thread `tid` had stack `stack` (number in `frames`) from `ts` until at least `ts + dur`."""

    ts: Ints
    dur: Ints
    tid: Ints
    stack: Ints
    frames: tuple[tuple[Frame, ...], ...]
    """Of each stack, the outermost first."""


@dataclass(frozen=True)
class Lines:
    """Rows of time with the same phase, stack of code, file on the mount, tensor and class; sorted in this order.

    `stack` numbers `code` (-1: no sample), `row` is the row of `by_file` that the time belongs to there. `of_piece` and `piece_ns` are
    the pieces in the order of time, `piece_start` when each begins.
    """

    stack: Ints
    row: Ints
    ns: Ints
    code: tuple[tuple[Frame, ...], ...]
    by_file: Stacks
    of_piece: Ints
    piece_ns: Ints
    piece_start: Ints
    piece_thread: Ints

    def __len__(self) -> int:
        return len(self.ns)

    @property
    def value(self) -> Ints:
        return self.by_file.value[self.row]

    @property
    def phase(self) -> Ints:
        return self.by_file.phase[self.row]

    @property
    def file(self) -> Ints:
        return self.by_file.file[self.row]

    def rows(self, choice: str) -> Ints:
        """Return the rows on a CPU, those waiting, or both (CHOICES), as far as any time was spent there."""
        waiting = np.isin(self.value, WAITING)
        chosen = dict(zip(CHOICES, (waiting | ~waiting, ~waiting, waiting), strict=True))[choice]
        return np.flatnonzero(chosen & (self.ns > 0))

    def frames(self, row: int) -> tuple[str, ...]:
        """Return the names of one row, the outermost first: phase, thread, frames of code, file, tensor, class."""
        phase, thread, *inner = self.by_file.frames(int(self.row[row]))
        stack = int(self.stack[row])
        return (phase, thread, *(map(name, self.code[stack]) if stack >= 0 else (NO_SAMPLE,)), *inner)


def name(frame: Frame) -> str:
    """Return what a frame is called: function and place."""
    return f"{frame.function} ({place(frame)})"


def place(frame: Frame) -> str:
    """Return file and line, or the library of a frame whose line is not known."""
    if frame.file:
        return f"{frame.file}:{frame.line}" if frame.line else frame.file
    return frame.library or "?"


def own_frames(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that are not of the language's runtime; of a stack with none, the innermost."""
    return tuple(each for each in frames if each.is_own) or tuple(frames[-1:])


def read_sampled(trace: Path) -> Sampled:
    """Return the sampled stacks of a trace; none if there are none that can be read."""
    tables = read_stacks(trace)
    if tables is None:
        return Sampled(empty(), empty(), empty(), empty(), ())
    samples, frames = tables
    ts, dur, tid, stack = (ints(samples.column(each).to_numpy()) for each in ("ts", "dur", "tid", "stack"))
    known = _frames_of(frames)
    order = np.argsort(ts, kind="stable")
    order = order[(stack[order] >= 0) & (stack[order] < len(known)) & (dur[order] >= 0)]
    return Sampled(ts[order], dur[order], tid[order], stack[order], known)


def _frames_of(table: Any) -> tuple[tuple[Frame, ...], ...]:
    columns = [table.column(each).to_pylist() for each in ("stack", "function", "file", "line", "library", "is_own")]
    stacks_by_number: dict[int, list[Frame]] = {}
    for number, *frame in zip(*columns, strict=True):
        stacks_by_number.setdefault(number, []).append(Frame(*frame))
    return tuple(tuple(stacks_by_number.get(number, ())) for number in range(len(stacks_by_number)))


def lines(study: Study, parts: Tensors | None = None) -> Lines | None:
    """Return the time of the target's life by line, None if no stacks were sampled."""
    if not isinstance(study.recording.meta.get("stacks"), dict):
        return None
    sampled = read_sampled(study.recording.path)
    by_file, path, segments = stacks(study, parts), study.critical_path, study.segments
    thread = segments.thread[path.of]
    lanes = study.recording.lanes(np.unique(segments.thread))
    steps = _stack_at(study, sampled, lanes)
    pieces = cut(steps, lanes.at(thread, path.start), lanes.at(thread, path.end))
    length = pieces.end - pieces.start
    row = by_file.of_piece[pieces.which]
    keys = row * (len(sampled.frames) + 1) + pieces.value + 1
    distinct, where = numbered(keys)
    return Lines(
        stack=distinct % (len(sampled.frames) + 1) - 1,
        row=distinct // (len(sampled.frames) + 1),
        ns=np.bincount(where, weights=length, minlength=len(distinct)).astype(np.int64),
        code=sampled.frames,
        by_file=by_file,
        of_piece=where,
        piece_ns=length,
        piece_start=lanes.time(pieces.start),
        piece_thread=thread[pieces.which],
    )


def _stack_at(study: Study, sampled: Sampled, lanes: Lanes) -> Steps:
    """Return the stack of each thread at each moment, -1 where there is no sample."""
    places = lanes.at(sampled.tid, sampled.ts)
    chosen = np.flatnonzero(places >= 0)
    chosen = chosen[np.argsort(places[chosen], kind="stable")]
    places, stack = places[chosen], sampled.stack[chosen]
    until = lanes.at(sampled.tid[chosen], sampled.ts[chosen] + sampled.dur[chosen])
    which, start, end = disjoint(places, until)
    steps = overlay(Steps.constant(-1), start, end, stack[which])
    waits = study.waits
    begin, stop = lanes.at(waits.tid, waits.start), lanes.at(waits.tid, waits.end)
    waiting = np.flatnonzero((begin >= 0) & (stop > begin))
    begin, stop = begin[waiting], stop[waiting]
    last = latest_within(places, stop - 1, lanes.span_ns)
    holds = np.maximum(pick(places, last, -1) + EARLY_NS, pick(until, last, -1)) >= begin
    return overlay(steps, begin, stop, np.where(holds, pick(stack, last, -1), -1))


def line_of_row(table: Lines) -> tuple[Ints, tuple[Frame, ...]]:
    """Return the line of each row (-1: no sample), and the lines: the innermost frame of a stack that is not of the runtime."""
    known: dict[Frame, int] = {}
    line_of_stack = np.array(
        [known.setdefault(own_frames(frames)[-1], len(known)) if frames else -1 for frames in table.code],
        dtype=np.int64,
    )
    return pick(line_of_stack, table.stack, -1), tuple(known)
