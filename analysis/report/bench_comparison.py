"""Two bench folders side by side, as text and as JSON."""

import json
from typing import Final

from cvtrace.analysis.comparison.experiments import MORE_IS_BETTER, BenchComparison, BenchSide
from cvtrace.analysis.comparison.statistics import Change
from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.report.lines import columns, wrapped
from cvtrace.analysis.report.names import printable, shortened, with_printable_texts

FIGURES: Final = {"load_s": "load", "first_token_s": "first token", "tokens_per_s": "tokens/s", "total_s": "total"}
"""Figure -> its name in the table."""
NAME: Final = 48
ROOM: Final = 24
"""Cells beside the name of a cell."""
EQUAL: Final = 0.005
"""A change by less than this share is shown as none."""


def as_json(comparison: BenchComparison) -> str:
    """Return the contract for scripts: fields are added, never renamed."""
    return json.dumps(comparison.as_dict(), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render(comparison: BenchComparison, width: int) -> str:
    """Return what changed: sentences on what is more than noise, then all figures."""
    comparison = with_printable_texts(comparison)
    lines = [each for line in answer(comparison) for each in wrapped(line, width, subsequent_indent="  ")]
    lines += ["", _side("A", comparison.a), _side("B", comparison.b), ""]
    if comparison.cells:
        lines += _table(comparison, width)
    lines += [each for note in comparison.notes for each in wrapped(f"Note: {note}.", width, subsequent_indent="  ")]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def answer(comparison: BenchComparison) -> list[str]:
    """Return sentences on what changed by more than noise."""
    certain = [change for change in comparison.changes if change.certain]
    if not comparison.cells:
        return ["A and B cannot be compared: no state was measured in both."]
    if not certain:
        known = any(change.certain is not None for change in comparison.changes)
        return ["No figure changed by more than noise." if known else "Too few runs to tell a change from noise."]
    return [f"{sentence(change)}." for change in certain]


def sentence(change: Change) -> str:
    """Return what changed, in one sentence without its full stop."""
    of, what = shortened(change.of, NAME), FIGURES.get(change.name, change.name)
    a, b = (_quantity(value, change.unit) for value in (change.a, change.b))
    if change.difference is None:
        return f"{of}: {what} was measured in one of the two only"
    if change.low is None or change.high is None:
        return f"{of}: {what} {a} → {b}; too few runs to tell that from noise"
    share = f" ({100 * (change.ratio - 1):+.0f} %)" if change.ratio else ""
    low, high = _signed(change.low, change.unit), _signed(change.high, change.unit)
    noise = "" if change.certain else "; that may be noise"
    word = _word(change)
    return f"{of}: {what} {a} → {b}{share}, {word}; 95 % interval: {low} to {high}{noise}"


def _word(change: Change) -> str:
    if not change.difference:
        return "the same"
    is_better = (change.difference > 0) == (change.name in MORE_IS_BETTER)
    return "better" if is_better else "worse"


def _side(letter: str, side: BenchSide) -> str:
    left_out = f", {side.left_out} left out" if side.left_out else ""
    return f"{letter}: {printable(side.path)}: {pluralize(side.runs, 'run')}{left_out}, on {side.host}"


def _table(comparison: BenchComparison, width: int) -> list[str]:
    """Return a line for each cell, with a row for each of its figures below."""
    rows = [["", "A", "B", "change", "", "95 % interval"]]
    rows += [
        [f"  {FIGURES.get(change.name, change.name)}", *cells(change)]
        for cell in comparison.cells
        for change in cell.changes
    ]
    head, *lines = columns(rows, width)
    out = [head]
    for cell in comparison.cells:
        of_cell, lines = lines[: len(cell.changes)], lines[len(cell.changes) :]
        runs = f"{cell.runs_a} and {cell.runs_b} runs" if cell.runs_a != cell.runs_b else f"{cell.runs_a} runs each"
        out += [f"{shortened(cell.name, width - ROOM)}, {runs}", *of_cell]
    return out


def cells(change: Change) -> list[str]:
    """Return A, B, the change, its share, and the interval of a figure, as text."""
    a, b = (_quantity(value, change.unit) for value in (change.a, change.b))
    if change.difference is None:
        return [a, b, "", "", ""]
    is_same = change.ratio is not None and abs(change.ratio - 1) < EQUAL
    share = "" if change.ratio is None or is_same else f"{100 * (change.ratio - 1):+.0f} %"
    if change.low is None or change.high is None:
        return [a, b, _signed(change.difference, change.unit), share, ""]
    interval = f"{_signed(change.low, change.unit)}..{_signed(change.high, change.unit)}"
    return [a, b, _signed(change.difference, change.unit), share, interval if change.certain else f"({interval})"]


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{_quantity(abs(value), unit)}"


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "n/a"
    return seconds(value) if unit == "s" else f"{value:.3g}"
