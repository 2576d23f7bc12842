"""Conditions on a bench folder, such as `cold.load_s < 3`: parsed, never evaluated as code.

NAME is `STATE.FIGURE`, `VARIANT.STATE.FIGURE`, and with a sweep `STATE@VALUE.FIGURE`. Without a variant or value, the condition has to hold for each.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.bench.names import cell_name, spellings
from cvtrace.analysis.bench.schema import METRICS, Bench, Run, SummaryRow
from cvtrace.analysis.bench.statistics import CellKey, cell_of, cells
from cvtrace.analysis.checks.expectations import BASELINE, OPERATORS, BadExpression, Value, right_side
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.verdict_schema import ANSWERS

EXPRESSION: Final = re.compile(r"^\s*([^\s=!<>]+)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*$")
INTERVAL: Final = ("low", "high")
COUNTS: Final = ("reads", "fetches", "bytes_read", "bytes_fetched", "tokens")
RUNS: Final = ("n", "left_out")
FIGURES: Final = (
    *METRICS,
    *(f"{metric}.{bound}" for metric in METRICS for bound in INTERVAL),
    *(f"{metric}.ratio_to_local" for metric in METRICS),
    *COUNTS,
    *RUNS,
    *LABELS,
    "verdict",
)


@dataclass(frozen=True)
class BenchExpectation:
    """One condition, and the cells that it is about. `factor` is that of the baseline, None for a number or a word."""

    text: str
    cells: tuple[CellKey, ...]
    figure: str
    comparison: str
    expected: Value
    factor: float | None


@dataclass(frozen=True)
class BenchOutcome:
    """Whether a condition holds for all of its cells, and what the first one has for which it does not."""

    text: str
    met: bool
    reason: str


def parse_for_bench(text: str, bench: Bench) -> BenchExpectation:
    """Read a condition on this bench. Raises BadExpression."""
    match = EXPRESSION.match(text)
    if not match:
        raise BadExpression(f"cannot read '{text}': write NAME ==|!=|<|<=|>|>= VALUE, e.g. 'cold.load_s < 3'")
    name, comparison, value = match.groups()
    cells, figure = _cells_and_figure(name, text, bench)
    if figure != "verdict":
        return BenchExpectation(text, cells, figure, comparison, *right_side(value, text))
    word = value.strip("'\"").lower()
    if comparison not in ("==", "!=") or word not in (*ANSWERS, BASELINE):
        raise BadExpression(f"'{name}' in '{text}' is one of {', '.join(ANSWERS)}: compare it by == or !=")
    return BenchExpectation(text, cells, figure, comparison, word, 1.0 if word == BASELINE else None)


def _cells_and_figure(name: str, text: str, bench: Bench) -> tuple[tuple[CellKey, ...], str]:
    """Return what a name stands for: the longest beginning that names cells, and the rest, which is a figure."""
    known = cells(bench.info)
    for end in [place for place, letter in enumerate(name) if letter == "."][::-1]:
        head, figure = name[:end], name[end + 1 :]
        chosen = tuple(cell for cell in known if head in spellings(cell))
        if chosen and figure in FIGURES:
            return chosen, figure
    raise BadExpression(f"unknown name '{name}' in '{text}'{_meant(name, known)}; known are: {known_names(bench)}")


def known_names(bench: Bench) -> str:
    """Return what may stand on the left, for people."""
    states = ", ".join(bench.info.states)
    variants = [each.name for each in bench.info.variants]
    variant = f" (or VARIANT.STATE, of the variants {', '.join(variants)})" if len(variants) > 1 else ""
    sweep = bench.info.sweep
    values = f" (or STATE@VALUE, of {', '.join(f'{value:.12g}' for value in sweep.values)})" if sweep else ""
    bounds = f"<{'|'.join(METRICS)}>.<{'|'.join((*INTERVAL, 'ratio_to_local'))}>"
    return f"for each STATE of {states}{variant}{values}: .<{'|'.join((*METRICS, *COUNTS, *RUNS, 'verdict'))}>, .{bounds}, .<{'|'.join(LABELS)}> (seconds)"


def _meant(name: str, cells: Iterable[CellKey]) -> str:
    names = [f"{spelling}.{figure}" for cell in cells for spelling in sorted(spellings(cell)) for figure in FIGURES]
    close = list(dict.fromkeys(difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.7)))
    return f": did you mean {' or '.join(close)}?" if close else ""


def check_bench(
    bench: Bench, expectations: Sequence[BenchExpectation], baseline: Bench | None = None
) -> list[BenchOutcome]:
    """Hold a bench against conditions; `baseline` is that of conditions which name it. What was not measured meets none."""
    return [_outcome(bench, each, baseline) for each in expectations]


def _outcome(bench: Bench, expectation: BenchExpectation, baseline: Bench | None) -> BenchOutcome:
    for cell in expectation.cells:
        name = f"{cell_name(cell, several_variants=len(bench.info.variants) > 1)}.{expectation.figure}"
        actual = value_of(bench, cell, expectation.figure)
        if actual is None:
            return BenchOutcome(expectation.text, False, f"{name} was not measured")
        expected = expectation.expected
        compared = ""
        if expectation.factor is not None:
            base = None if baseline is None else value_of(baseline, cell, expectation.figure)
            if base is None:
                return BenchOutcome(expectation.text, False, f"the baseline has no {name}")
            expected = base if isinstance(base, str) else expectation.factor * base
            compared = f", the baseline's {_in_words(base)}"
        if not OPERATORS[expectation.comparison](actual, expected):
            return BenchOutcome(expectation.text, False, f"{name} is {_in_words(actual)}{compared}")
    return BenchOutcome(expectation.text, True, "")


def _in_words(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def value_of(bench: Bench, cell: CellKey, figure: str) -> Value | None:
    """Return a figure of a cell: of times the median, with bounds of its interval, as in the summary; None if it was not measured."""
    metric, _, bound = figure.partition(".")
    if metric in METRICS:
        row = _row(bench, cell)
        return None if row is None else _of_statistic(row, metric, bound)
    if figure in RUNS:
        row = _row(bench, cell)
        return None if row is None else float(getattr(row, figure))
    runs = [run for run in bench.runs if run.counts and cell_of(run) == cell]
    if figure == "verdict":
        words = {run.verdict for run in runs if run.verdict}
        return words.pop() if len(words) == 1 else ("mixed" if words else None)
    return _median(run.classes.get(figure) if figure in LABELS else _count(run, figure, bench) for run in runs)


def _row(bench: Bench, cell: CellKey) -> SummaryRow | None:
    return next((row for row in bench.summary if (row.variant, row.sweep_value, row.state) == cell), None)


def _of_statistic(row: SummaryRow, metric: str, bound: str) -> float | None:
    statistic = row.statistic(metric)
    if statistic is None:
        return None
    if bound in INTERVAL:
        return statistic.interval[INTERVAL.index(bound)]
    return statistic.ratio_to_local if bound else statistic.median


def _count(run: Run, figure: str, bench: Bench) -> int | None:
    value: int | None = getattr(run, figure)
    return value if run.traced == bench.info.trace_all else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
