"""The difference flame graph: widths are the time of one run, colours how much a frame changed from A to B."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cvtrace.analysis.comparison.differences import Differences, relative
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.quantities import seconds, signed
from cvtrace.analysis.report.html.comparison.sides import Sides
from cvtrace.analysis.report.html.flame import drawn, in_order, levels, named, without_small
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
GONE: Final = 8
"""Frames that vanished, or are new, that are told in words."""


def picture(sides: Sides) -> Picture:
    """Return the flame graph with the widths of B, and the same with those of A, in which what vanished has a width."""
    found = sides.differences
    plot = drawn({"b": _marks(sides, found.b_ns), "a": _marks(sides, found.a_ns)})
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
    return [(CHANGES[number], told) for number, told in LEGEND]


def _marks(sides: Sides, width: Ints) -> Marks:
    """Lay out all frames of both runs by the time of one; those that took none in it have no width, and are left out last."""
    marks, found = Marks(), sides.differences
    total = int(width.sum())
    if not total:
        return marks
    part = without_small(found.phase, found.part, found.a_ns + found.b_ns)
    order = in_order(found.phase, part, found.value, width)
    phase, part, value, a_ns, b_ns = (
        column[order] for column in (found.phase, part, found.value, found.a_ns, found.b_ns)
    )
    whole = np.array([[a_ns.sum()], [b_ns.sum()]])
    marks.add(["all"], _how(*whole), left=0.0, right=1.0, bottom=1.0, top=0.0, paint=paint_of(*whole), caption=["all"])
    for depth, level in enumerate(levels((phase, part, value), width[order]), start=1):
        a, b = (np.add.reduceat(ns, level.first) for ns in (a_ns, b_ns))
        seen = np.flatnonzero(level.ns > 0)
        first = level.first[seen]
        told = [f"{how}, in {sides.phases[row]}" for how, row in zip(_how(a[seen], b[seen]), phase[first], strict=True)]
        frame_names = named(depth, sides.phases, sides.short_files, phase[first], part[first], value[first])
        marks.add(
            frame_names,
            told,
            left=level.left[seen],
            right=level.right[seen],
            bottom=depth + 1.0,
            top=float(depth),
            paint=paint_of(a[seen], b[seen]),
            phase=phase[first],
            file=np.maximum(part[first], -1) if depth > 1 else -1,
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


def gone(sides: Sides) -> tuple[list[str], list[str]]:
    """Return in words what vanished from A to B, and what is new in B, the longest first."""
    found = sides.differences
    return (
        _longest(sides, found, np.where(found.b_ns == 0, found.a_ns, 0)),
        _longest(sides, found, np.where(found.a_ns == 0, found.b_ns, 0)),
    )


def _longest(sides: Sides, found: Differences, ns: Ints) -> list[str]:
    order = np.argsort(-ns, kind="stable")[: int((ns > 0).sum())]
    told = [f"{seconds(int(ns[row]) / 1e9)} {_frame(sides, found, row)}" for row in order[:GONE].tolist()]
    rest = order[GONE:]
    if len(rest):
        told.append(f"{seconds(int(ns[rest].sum()) / 1e9)} in {len(rest):,} more")
    return told


def _frame(sides: Sides, found: Differences, row: int) -> str:
    part = int(found.part[row])
    names: Sequence[str] = (
        sides.phases[found.phase[row]],
        *((sides.short_files[part],) if part >= 0 else ()),
        LABELS[found.value[row]],
    )
    return " › ".join(names)
