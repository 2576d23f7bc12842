"""The law of a state: load = a + b·requests + c·bytes, fitted over the sizes of a sweep or over variants; other axes have a law of their own.

The fit minimises the squared relative error, because the noise of a load grows with it. Intervals come from draws of the runs within each
cell (bootstrap). `requests` are the objects that a cold client fetches; in the other states nothing is fetched, and the law has no such term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.bench.schema import COLD, BenchInfo, Cell, Coefficient, HeldOut, Law, Run
from cvtrace.analysis.bench.statistics import SEED, CellKey, Floats, cell_of, interval, measured, values_of

DRAWS: Final = 2000
TOO_ALIKE: Final = 0.99
"""Correlation of requests and bytes above which their coefficients cannot be told apart."""
ONE: Final = "a"
FEWEST: Final = 3
"""Runs in a cell, below which draws of them tell little."""


@dataclass(frozen=True)
class Term:
    """What a coefficient multiplies; `unit` is that of the coefficient."""

    name: str
    unit: str
    predictor: Callable[[Cell], float]


CONSTANT: Final = Term(ONE, "s", lambda cell: 1.0)
REQUESTS: Final = Term("b", "s per request", lambda cell: float(cell.objects or 0))
BYTES: Final = Term("c", "s per byte", lambda cell: float(cell.bytes))
OF_AXIS: Final = {
    "delay": Term("b", "requests", lambda cell: float(cell.sweep_value or 0)),
    "bandwidth": Term("c", "bytes", lambda cell: 1 / cell.sweep_value if cell.sweep_value else 0.0),
    "chunk": REQUESTS,
}
"""Axis -> what the load grows with along it, besides the constant; an axis that is not here has no law."""
WORDS: Final = {"size": "load = a + b·requests + c·bytes", "delay": "load = a + b·delay"}
WORDS_OF_AXIS: Final = {**WORDS, "bandwidth": "load = a + c/bandwidth", "chunk": "load = a + b·requests"}


@dataclass(frozen=True)
class _Points:
    """The cells that a law is fitted to, and the load times of the runs in each."""

    cells: list[Cell]
    loads: list[Floats]

    def without(self, place: int) -> _Points:
        return _Points(
            [each for number, each in enumerate(self.cells) if number != place],
            [each for number, each in enumerate(self.loads) if number != place],
        )


def laws(info: BenchInfo, runs: Sequence[Run], held_out: float | None = None) -> tuple[Law, ...]:
    """Return the law of each state for which the experiment has enough values.

    `held_out` is the value of the sweep that is predicted from the others; the default is the largest of at least three.
    """
    axis = info.sweep.axis if info.sweep else "size" if len(info.variants) >= 3 else ""
    if axis not in WORDS_OF_AXIS:
        return ()
    loads: dict[CellKey, Floats] = {}
    chosen = measured(runs, traced=info.trace_all)
    metric = "load_s" if any(run.load_s is not None for run in chosen) else "total_s"
    for key in {cell_of(run) for run in chosen}:
        values = values_of([run for run in chosen if cell_of(run) == key], metric)
        if len(values):
            loads[key] = values
    # A law over sizes may take all variants together; one along another axis belongs to a variant.
    groups = [""] if info.sweep is None else [each.name for each in info.variants]
    rows = []
    # What the server does concerns the state in which something is fetched.
    states = info.states if axis == "size" else [state for state in info.states if state == COLD]
    for state in states:
        for group in groups:
            in_group = [cell for cell in info.cells if group in ("", cell.variant)]
            known = [cell for cell in in_group if (cell.variant, cell.sweep_value, state) in loads]
            points = _Points(known, [loads[cell.variant, cell.sweep_value, state] for cell in known])
            if len(known) >= 2:
                rows.append(_law(axis, state, group, points, held_out))
    return tuple(rows)


def _law(axis: str, state: str, group: str, points: _Points, held_out: float | None) -> Law:
    terms, note = _terms(axis, state, points)
    if min(map(len, points.loads)) < FEWEST:
        few = f"fewer than {FEWEST} runs in a cell: the intervals are too narrow"
        note = f"{note}; {few}" if note else few
    values, draws = _fit(terms, points)
    coefficients = tuple(
        Coefficient(term.name, float(value), interval(draws[:, place]), term.unit)
        for place, (term, value) in enumerate(zip(terms, values, strict=True))
    )
    predicted = _design(terms, points.cells) @ values
    residuals = np.concatenate([loads - each for loads, each in zip(points.loads, predicted, strict=True)])
    return Law(
        state,
        group,
        _formula(axis, terms),
        coefficients,
        sum(map(len, points.loads)),
        float(np.median(np.abs(residuals))),
        _held_out(axis, state, points, held_out),
        note,
    )


def fitted(axis: str, law: Law, cells: Sequence[Cell]) -> list[float]:
    """Return what a law says of each cell, in seconds."""
    by_name = {term.name: term for term in (CONSTANT, REQUESTS, BYTES)} | ({} if axis == "size" else _named(axis))
    return [sum(each.value * by_name[each.name].predictor(cell) for each in law.coefficients) for cell in cells]


def _named(axis: str) -> dict[str, Term]:
    term = OF_AXIS[axis]
    return {term.name: term}


def _formula(axis: str, terms: Sequence[Term]) -> str:
    if axis != "size":
        return WORDS_OF_AXIS[axis]
    parts = {"a": "a", "b": "b·requests", "c": "c·bytes"}
    return f"load = {' + '.join(parts[term.name] for term in terms)}"


def _terms(axis: str, state: str, points: _Points) -> tuple[list[Term], str]:
    """Return what the load is fitted to, and a sentence if a term had to be left out."""
    if axis != "size":
        return [CONSTANT, OF_AXIS[axis]], ""
    if state != COLD:
        return [CONSTANT, BYTES], ""
    requests, sizes = (np.array([term.predictor(cell) for cell in points.cells]) for term in (REQUESTS, BYTES))
    if len(points.cells) < 4:
        return [
            CONSTANT,
            BYTES,
        ], "fewer than four sizes do not fix three coefficients: c has the cost of the requests in it"
    if np.ptp(requests) == 0 or np.ptp(sizes) == 0 or abs(np.corrcoef(requests, sizes)[0, 1]) > TOO_ALIKE:
        return [CONSTANT, BYTES], (
            "requests grow in step with bytes, so c has the cost of the requests in it: variants with other chunks, or a sweep of the chunk size, tell them apart"
        )
    return [CONSTANT, REQUESTS, BYTES], ""


def _design(terms: Sequence[Term], points: Sequence[Cell]) -> Floats:
    return np.array([[term.predictor(cell) for term in terms] for cell in points], dtype=np.float64)


def _fit(terms: Sequence[Term], points: _Points) -> tuple[Floats, Floats]:
    """Return the coefficients, and those of DRAWS draws of the runs, one draw per row."""
    design = _design(terms, points.cells)
    medians = np.array([np.median(loads) for loads in points.loads])
    random = np.random.default_rng(SEED)
    drawn = np.stack(
        [np.median(loads[random.integers(0, len(loads), (DRAWS, len(loads)))], axis=1) for loads in points.loads],
        axis=1,
    )
    # One matrix for all draws: the weights are those of the medians.
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    solve = np.linalg.pinv(design / scale / medians[:, None]) / scale[:, None] / medians
    return solve @ medians, drawn @ solve.T


def _held_out(axis: str, state: str, points: _Points, value: float | None) -> HeldOut | None:
    """Return the prediction for one cell by the law of the others; None if there are too few."""
    sizes = [cell.bytes if axis == "size" else cell.sweep_value or 0.0 for cell in points.cells]
    chosen = [place for place, cell in enumerate(points.cells) if cell.sweep_value == value and value is not None]
    place = chosen[0] if chosen else int(np.argmax(sizes))
    rest = points.without(place)
    if len(rest.cells) < 2:
        return None
    terms, _ = _terms(axis, state, rest)
    values, draws = _fit(terms, rest)
    cell, loads = points.cells[place], points.loads[place]
    row = _design(terms, [cell])[0]
    predicted, real = float(row @ values), float(np.median(loads))
    return HeldOut(
        cell.sweep_value,
        cell.variant,
        predicted,
        interval(draws @ row),
        real,
        (predicted - real) / real if real else 0.0,
    )
