"""Two bench folders, state by state: what changed, and whether that is more than noise."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis.bench.names import cell_name
from cvtrace.analysis.bench.schema import METRICS, STATES, Bench, Run
from cvtrace.analysis.bench.statistics import CellKey, cell_of, measured
from cvtrace.analysis.comparison.statistics import FEWEST, Change, Floats, change_of, intervals, median, number, too_few
from cvtrace.analysis.contract.quantities import pluralize

SCHEMA: Final = "cvtrace-compare-bench/1"
UNITS: Final = {"load_s": "s", "first_token_s": "s", "tokens_per_s": "tokens/s", "total_s": "s"}
MORE_IS_BETTER: Final = frozenset({"tokens_per_s"})
TOLERANCE: Final = 0.05
"""A change by less than this share of A is not taken for a change to the worse."""


@dataclass(frozen=True)
class BenchSide:
    """A bench folder: how many of its runs count, and what it measured."""

    path: str
    runs: int
    left_out: int
    host: str
    variants: dict[str, tuple[str, ...]]
    """Name -> command."""


@dataclass(frozen=True)
class Cell:
    """The runs of a variant, a value of the sweep and a state in both folders: how many, and the change of each figure."""

    name: str
    variant: str
    sweep_value: float | None
    state: str
    runs_a: int
    runs_b: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class BenchComparison:
    """What changed from A to B in each cell; `notes` say what makes the two hard to compare."""

    schema: str
    a: BenchSide
    b: BenchSide
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """All figures of all cells."""
        return tuple(change for cell in self.cells for change in cell.changes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists for JSON."""
        sides = {letter: {**vars(side)} for letter, side in (("a", self.a), ("b", self.b))}
        for side in sides.values():
            side["variants"] = {name: list(argv) for name, argv in side["variants"].items()}
        cells = [{**vars(cell), "changes": [vars(change) for change in cell.changes]} for cell in self.cells]
        return {"schema": self.schema, **sides, "cells": cells, "notes": list(self.notes)}


def counting(bench: Bench) -> list[Run]:
    """Return the runs that the statistics of a bench are made of: verified, ended well, and traced only if all were."""
    return measured(bench.runs, traced=bench.info.trace_all)


def compare_benches(a: Bench, b: Bench) -> BenchComparison:
    """Compare two bench folders. Cells that only one of them has are in the notes."""
    sides = [_by_cell(bench) for bench in (a, b)]
    common = [cell for cell in sides[0] if cell in sides[1]]
    several = len({variant for variant, _, _ in (*sides[0], *sides[1])}) > 1
    cells = tuple(_cell(key, cell_name(key, several_variants=several), sides[0][key], sides[1][key]) for key in common)
    only = [
        f"only {letter} has runs of {cell_name(key, several_variants=several)}"
        for letter, own, other in (("A", sides[0], sides[1]), ("B", sides[1], sides[0]))
        for key in own
        if key not in other
    ]
    ends = (_side(a), _side(b))
    return BenchComparison(SCHEMA, *ends, cells, (*_notes(a, b), *_left_out(ends), *only, *_few(cells)))


def _by_cell(bench: Bench) -> dict[CellKey, list[Run]]:
    """Return the runs that count of each cell that has some, in the order of the bench's tables."""
    cells: dict[CellKey, list[Run]] = {}
    for run in counting(bench):
        cells.setdefault(cell_of(run), []).append(run)
    variants = [each.name for each in bench.info.variants]
    states = list(STATES)
    return dict(
        sorted(
            cells.items(),
            key=lambda item: (_place(variants, item[0][0]), item[0][1] or 0.0, _place(states, item[0][2])),
        )
    )


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _cell(key: CellKey, name: str, a: Sequence[Run], b: Sequence[Run]) -> Cell:
    figures_a, figures_b = _figures(a), _figures(b)
    low, high = intervals(figures_a, figures_b)
    known = np.minimum(*((~np.isnan(side)).sum(axis=0) for side in (figures_a, figures_b))) >= FEWEST
    low, high = (np.where(known, bound, np.nan) for bound in (low, high))
    values = zip(UNITS.items(), median(figures_a), median(figures_b), low, high, strict=True)
    changes = [change_of((name, metric), unit, *map(float, numbers)) for (metric, unit), *numbers in values]
    known_changes = tuple(change for change in changes if change.a is not None or change.b is not None)
    return Cell(name, *key, len(a), len(b), known_changes)


def _figures(runs: Iterable[Run]) -> Floats:
    """Return the figures of runs, shape (runs, METRICS); NaN where not measured."""
    return np.array([[number(getattr(run, metric)) for metric in METRICS] for run in runs], dtype=np.float64)


def _side(bench: Bench) -> BenchSide:
    runs = len(counting(bench))
    of_kind = sum(run.traced == bench.info.trace_all for run in bench.runs)
    variants = {variant.name: variant.argv for variant in bench.info.variants}
    return BenchSide(str(Path(bench.path)), runs, of_kind - runs, bench.info.host, variants)


def _notes(a: Bench, b: Bench) -> list[str]:
    """Say what makes a comparison doubtful."""
    notes = []
    for noun, of_a, of_b in (
        (
            "commands",
            {each.name: each.argv for each in a.info.variants},
            {each.name: each.argv for each in b.info.variants},
        ),
        ("machines", a.info.host, b.info.host),
        ("axes of the sweeps", a.info.sweep and a.info.sweep.axis, b.info.sweep and b.info.sweep.axis),
        ("options of the lab", a.info.lab, b.info.lab),
        ("kinds of runs (traced and untraced)", a.info.trace_all, b.info.trace_all),
    ):
        if of_a != of_b:
            notes.append(f"the {noun} differ")
    return notes


def _left_out(sides: Sequence[BenchSide]) -> list[str]:
    """Say which runs do not count."""
    return [
        f"{side.path}: {pluralize(side.left_out, 'run')} left out: not in its state, or failed"
        for side in sides
        if side.left_out
    ]


def _few(cells: Sequence[Cell]) -> list[str]:
    """Say what is doubtful in the cell with the fewest runs."""
    if not cells:
        return ["the two folders have no state in common"]
    return too_few(*(min(sizes) for sizes in zip(*((cell.runs_a, cell.runs_b) for cell in cells), strict=True)))


@dataclass(frozen=True)
class Judgement:
    """Whether a figure got worse from A to B: by more than noise and by more than the tolerance. `met` is None if it cannot be judged."""

    change: Change
    met: bool | None
    text: str


def judge(comparison: BenchComparison, tolerance: float = TOLERANCE) -> list[Judgement]:
    """Judge each figure of each cell that both folders have."""
    return [_judged(change, tolerance) for change in comparison.changes]


def _judged(change: Change, tolerance: float) -> Judgement:
    what = f"{change.of}.{change.name}"
    word = "lower" if change.name in MORE_IS_BETTER else "higher"
    text = f"{what} is not {word} than in the baseline by more than {100 * tolerance:g} % and noise"
    if change.certain is None or change.low is None or change.high is None or not change.a:
        return Judgement(change, None, text)
    sign = -1 if change.name in MORE_IS_BETTER else 1
    worse = sign * (change.difference or 0.0)
    return Judgement(change, not (change.certain and worse > tolerance * change.a), text)
