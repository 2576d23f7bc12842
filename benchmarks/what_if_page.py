"""The table of predictions and their errors in docs/what-if.md, and the errors that reports print."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.results import Row, cells_table, put_between

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "what-if.md"
ERRORS: Final = ROOT / "analysis" / "whatif" / "lab_error.py"
LEAST: Final = 10
"""Per cent that reports print at least: rounds differ by that."""


@dataclass(frozen=True)
class Compared:
    """What one prediction says of some phases, and what is so, round by round."""

    label: str
    name: str
    before_s: float
    predicted_s: tuple[float, ...]
    after_s: tuple[float, ...]

    @property
    def error(self) -> float:
        """Return by how many per cent the median of the predictions is wrong."""
        return 100 * (statistics.median(self.predicted_s) / statistics.median(self.after_s) - 1)

    @property
    def errors(self) -> list[float]:
        """Return the error of each round by itself."""
        return [100 * (each / real - 1) for each, real in zip(self.predicted_s, self.after_s, strict=True)]

    def row(self, aim: int | None) -> Row:
        """Return the row that the benchmark prints."""
        predicted, after = statistics.median(self.predicted_s), statistics.median(self.after_s)
        spread = f"; rounds {min(self.errors):+.0f} to {max(self.errors):+.0f} %" if len(self.errors) > 1 else ""
        text = f"was {self.before_s:.3f} s, predicted {predicted:.3f} s, is {after:.3f} s: {self.error:+.0f} %{spread}"
        return Row(self.label, text) if aim is None else Row(self.label, text, f"±{aim} %", abs(self.error) <= aim)

    def cells(self) -> list[str]:
        """Return the cells of the table of the page."""
        times = (self.before_s, statistics.median(self.predicted_s), statistics.median(self.after_s))
        error, low, high = (signed(each) for each in (self.error, min(self.errors), max(self.errors)))
        return [self.label, *(f"{each:.3f} s" for each in times), f"{error} %", f"{low} to {high} %"]


def signed(value: float) -> str:
    """Return per cent with a sign: +12, −3."""
    return f"{value:+.0f}".replace("-", "−")


def lab_error(percent: float) -> float:
    """Return an error as reports print it: a share, rounded up to a per cent, and at least LEAST."""
    return max(LEAST, math.ceil(abs(percent))) / 100


def lab_errors(compared: Sequence[Compared]) -> dict[str, float]:
    """Return the largest error of each prediction, as reports print it."""
    errors: dict[str, float] = {}
    for each in compared:
        errors[each.name] = max(errors.get(each.name, 0.0), lab_error(each.error))
    return errors


def write_page(compared: Sequence[Compared], rounds: int, machine: str) -> None:
    """Put the table into docs/what-if.md, and the errors where reports have them from."""
    head = ["change, and compared time", "before", "predicted", "measured", "error", "rounds"]
    table = cells_table(head, (each.cells() for each in compared))
    put_between(PAGE, f"{table}\n\nMedians of {rounds} rounds. {machine}.\n")
    errors = "".join(f'    "{name}": {value:.2f},\n' for name, value in lab_errors(compared).items())
    before, _ = ERRORS.read_text().split("LAB_ERROR: Final = {\n")
    ERRORS.write_text(f"{before}LAB_ERROR: Final = {{\n{errors}}}\n")
