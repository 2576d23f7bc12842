"""The flame graph turned to the code: phase, then the stack of the thread, then the file waited for, then the class."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.report.html.palette import CLASSES, of_phase
from cvtrace.analysis.report.html.scene import SHOWN_NAME, Marks, Scene
from cvtrace.analysis.report.names import shortened
from cvtrace.analysis.storage.lines import NO_SAMPLE, Lines, name, own_frames

MODES: Final = {"lines": "both", "lines-waiting": "waiting"}
"""Mode -> the choice of rows in it."""
MOST_ROWS: Final = 1500
"""Rows that are drawn, those of the longest time."""
MOST_FRAMES: Final = 10
"""Frames of code one above the other; of deeper stacks, the innermost."""


class _Row(NamedTuple):
    names: tuple[str, ...]
    phase: int
    file: int
    value: int
    ns: int


class _Box(NamedTuple):
    name: str
    depth: int
    left_ns: int
    ns: int
    row: _Row
    is_leaf: bool
    is_file: bool


def modes(scene: Scene) -> dict[str, Marks]:
    """Return the marks of each mode, none for a run whose stacks were not sampled."""
    table = scene.lines
    return {mode: _marks(scene, table, table.rows(choice)) for mode, choice in MODES.items()} if table else {}


def depth(scene: Scene) -> int:
    """Return how many levels the graph has at most, the root included."""
    table = scene.lines
    deepest = max((len(own_frames(frames)[-MOST_FRAMES:]) for frames in table.code), default=1) if table else 0
    return deepest + 4


def _marks(scene: Scene, table: Lines, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Marks:
    marks = Marks()
    largest = rows[np.argsort(-table.ns[rows], kind="stable")[:MOST_ROWS]]
    total = int(table.ns[largest].sum())
    if not total:
        return marks
    boxes = list(_boxes(_ordered(_rows(scene, table, largest.tolist())), 0, 0))
    marks.add(["all"], [seconds(total / 1e9)], left=0.0, right=1.0, bottom=1.0, top=0.0, paint=CLASSES, caption=["all"])
    marks.add(
        [box.name for box in boxes],
        [f"{seconds(box.ns / 1e9)}, {100 * box.ns / total:.1f} %, in {scene.phases[box.row.phase]}" for box in boxes],
        left=[box.left_ns / total for box in boxes],
        right=[(box.left_ns + box.ns) / total for box in boxes],
        bottom=[box.depth + 2.0 for box in boxes],
        top=[box.depth + 1.0 for box in boxes],
        paint=[box.row.value if box.is_leaf else of_phase(box.row.phase) for box in boxes],
        phase=[box.row.phase for box in boxes],
        file=[box.row.file if box.is_file or box.is_leaf else -1 for box in boxes],
        caption=[box.name for box in boxes],
    )
    return marks


def _rows(scene: Scene, table: Lines, rows: Sequence[int]) -> Iterator[_Row]:
    codes = [
        tuple(shortened(name(frame), SHOWN_NAME) for frame in own_frames(frames)[-MOST_FRAMES:])
        for frames in table.code
    ]
    for row in rows:
        stack, file, value = int(table.stack[row]), int(table.file[row]), int(table.value[row])
        phase = int(table.phase[row])
        about = (scene.short_files[file],) if file >= 0 else ()
        code = codes[stack] if stack >= 0 else (NO_SAMPLE,)
        yield _Row((scene.phases[phase], *code, *about, LABELS[value]), phase, file, value, int(table.ns[row]))


def _ordered(rows: Iterator[_Row]) -> list[_Row]:
    """Put the rows of one phase together, and within it those of the same frames, in the order of names."""
    return sorted(rows, key=lambda row: (row.phase, row.names))


def _boxes(rows: Sequence[_Row], level: int, left_ns: int) -> Iterator[_Box]:
    """Yield a box for each name of a level and, above it, those of the rows that share it."""
    for shown, group in groupby(rows, key=lambda row: row.names[level]):
        members = list(group)
        ns = sum(row.ns for row in members)
        last = len(members[0].names) - 1
        is_file = level == last - 1 and members[0].file >= 0
        yield _Box(shown, level, left_ns, ns, members[0], level == last, is_file)
        yield from _boxes([row for row in members if len(row.names) > level + 1], level + 1, left_ns)
        left_ns += ns
