"""What a benchmark reports, and how it is written down."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Measure = Callable[[], float]
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
"""Around what a benchmark writes into a page of its own."""


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure, and where files go."""

    repeats: int
    folder: Path
    update: bool = False
    """Whether benchmarks with a page of their own write it."""


@dataclass(frozen=True)
class Row:
    """One measured figure next to its aim."""

    measure: str
    value: str
    aim: str = ""
    met: bool | None = None
    """None where there is no aim."""


@dataclass(frozen=True)
class Ratio:
    """How much longer something takes, round by round against the plain run beside it."""

    plain: float
    """Median of the plain runs, in what the benchmark measures."""
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def row(self, measure: str, aim: float | None = None) -> Row:
        """Return the row, with the spread of the rounds."""
        spread = f" ({min(self.rounds):.3f} to {max(self.rounds):.3f})" if len(self.rounds) > 1 else ""
        text = f"{self.median:.3f} x{spread}"
        return Row(measure, text) if aim is None else Row(measure, text, f"≤ {aim} x", self.median <= aim)


def ratio(repeats: int, plain: Measure, traced: Measure) -> Ratio:
    """Measure both in turns, each first as often as second: a slow moment of the machine hits both alike."""
    plains, rounds = [], []
    for number in range(repeats):
        if number % 2:
            beside, plain_s = traced(), plain()
            plains.append(plain_s)
            rounds.append(beside / plain_s)
        else:
            plain_s = plain()
            plains.append(plain_s)
            rounds.append(traced() / plain_s)
    return Ratio(statistics.median(plains), tuple(rounds))


def machine() -> str:
    """Return one line on the machine the figures are from."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"{cpu}, {cores} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| what | measured | aim | met |", "|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.measure} | {row.value} | {row.aim} | {met} |")
    return "\n".join(lines) + "\n"


def cells_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table of cells, without a line break at its end."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def put_between(page: Path, text: str) -> None:
    """Replace what is between the marks in a page. Raises ValueError if it does not have them once each."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}{text}{END}{after}")
