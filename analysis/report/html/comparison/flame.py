"""The difference flame graph: widths are the time of one run, colours how much a frame changed from A to B."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cvtrace.analysis.comparison.differences import Differences, relative
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import seconds, signed
from cvtrace.analysis.report.html.comparison.sides import Sides
from cvtrace.analysis.report.html.flame import drawn, in_order, levels, named, with_folders
from cvtrace.analysis.report.html.palette import CHANGES, FIRST_CHANGE
from cvtrace.analysis.report.html.pictures import Picture
from cvtrace.analysis.report.html.scene import Marks
from cvtrace.analysis.trace.intervals import Ints

STEPS: Final = (-0.9, -0.5, -0.25, -0.1, -0.02, 0.02, 0.1, 0.25, 0.5, 0.9)
"""Relative change (differences.relative) from which on the next colour is used: 0.5 is twice as much, 0.9 ten times."""
LEGEND: Final = (
    (0, "a tenth or gone"),
    (1, "half or less"),
    (2, "a quarter less"),
    (3, "10 % less"),
    (5, "the same"),
    (7, "10 % more"),
    (8, "a third more"),
    (9, "twice or more"),
    (10, "ten times or new"),
)
IN_WORDS: Final = 8
"""Frames that vanished, or are new, that are listed in words."""


def picture(sides: Sides) -> Picture:
    """Return the flame graph with the widths of B, and the same with those of A, in which what vanished has a width."""
    frames = sides.differences
    plot = drawn({"b": _marks(sides, frames.b_ns), "a": _marks(sides, frames.a_ns)})
    return Picture(
        key="flame",
        title="Difference flame graph",
        about="Phase, then the file waited for, then the class. Widths are the time of B (or A), colours how much the time of a frame changed from A to B. "
        "Choose a frame to zoom into it.",
        model=plot,
        table="frames",
        label="Flame graph of phases, files and classes, coloured by the change from A to B",
    )


def paint_of(a_ns: Ints, b_ns: Ints) -> Ints:
    """Return the paint of a change."""
    return FIRST_CHANGE + np.digitize(relative(a_ns, b_ns), STEPS).astype(np.int64)


def legend() -> list[tuple[str, str]]:
    """Return colours and what they mean."""
    return [(CHANGES[number], text) for number, text in LEGEND]


def _marks(sides: Sides, width: Ints) -> Marks:
    """Lay out all frames of both runs by the time of one; those that took none in it have no width, and are left out last."""
    marks, frames = Marks(), sides.differences
    total = int(width.sum())
    if not total:
        return marks
    part, parts = with_folders(frames.phase, frames.part, frames.a_ns + frames.b_ns, frames.parts, sides.short_files)
    order = in_order(frames.phase, part, frames.value, width)
    phase, part, value, a_ns, b_ns = (
        column[order] for column in (frames.phase, part, frames.value, frames.a_ns, frames.b_ns)
    )
    totals = np.array([[a_ns.sum()], [b_ns.sum()]])
    marks.add(
        ["all"], _how(*totals), left=0.0, right=1.0, bottom=1.0, top=0.0, paint=paint_of(*totals), caption=["all"]
    )
    for depth, level in enumerate(levels((phase, part, value), width[order]), start=1):
        a, b = (np.add.reduceat(ns, level.first) for ns in (a_ns, b_ns))
        wide = np.flatnonzero(level.ns > 0)
        first = level.first[wide]
        texts = [
            f"{how}, in {sides.phases[row]}" for how, row in zip(_how(a[wide], b[wide]), phase[first], strict=True)
        ]
        frame_names = named(depth, sides.phases, parts, phase[first], part[first], value[first])
        marks.add(
            frame_names,
            texts,
            left=level.left[wide],
            right=level.right[wide],
            bottom=depth + 1.0,
            top=float(depth),
            paint=paint_of(a[wide], b[wide]),
            phase=phase[first],
            file=np.where(part[first] < len(sides.short_files), part[first], -1) if depth > 1 else -1,
            caption=frame_names,
        )
    return marks


def _how(a_ns: Ints, b_ns: Ints) -> list[str]:
    return [
        f"A {seconds(a / 1e9)}, B {seconds(b / 1e9)}: {signed(b - a)}{_kind(a, b)}"
        for a, b in zip(a_ns.tolist(), b_ns.tolist(), strict=True)
    ]


def _kind(a: int, b: int) -> str:
    return " (new)" if not a else " (vanished)" if not b else f", {100 * (b / a - 1):+.0f} %" if b < 10 * a else ""


def vanished_and_new(sides: Sides) -> tuple[list[str], list[str]]:
    """Return in words what vanished from A to B, and what is new in B, the longest first."""
    frames = sides.differences
    return (
        _longest(sides, frames, np.where(frames.b_ns == 0, frames.a_ns, 0)),
        _longest(sides, frames, np.where(frames.a_ns == 0, frames.b_ns, 0)),
    )


def _longest(sides: Sides, frames: Differences, ns: Ints) -> list[str]:
    order = np.argsort(-ns, kind="stable")[: int((ns > 0).sum())]
    texts = [f"{seconds(int(ns[row]) / 1e9)} {_frame(sides, frames, row)}" for row in order[:IN_WORDS].tolist()]
    rest = order[IN_WORDS:]
    if len(rest):
        texts.append(f"{seconds(int(ns[rest].sum()) / 1e9)} in {len(rest):,} more")
    return texts


def _frame(sides: Sides, frames: Differences, row: int) -> str:
    part = int(frames.part[row])
    names: Sequence[str] = (
        sides.phases[frames.phase[row]],
        *((sides.short_files[part],) if part >= 0 else ()),
        LABELS[frames.value[row]],
    )
    return " › ".join(names)
