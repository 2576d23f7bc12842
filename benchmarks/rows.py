"""What a benchmark reports, and how it is written down."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure, and where files go."""

    repeats: int
    folder: Path


@dataclass(frozen=True)
class Row:
    """One measured figure next to its aim."""

    what: str
    value: str
    aim: str
    met: bool | None
    """None where there is no aim."""


def median_of(repeats: int, measure: Callable[[], float]) -> float:
    """Return the median of `repeats` measurements."""
    return statistics.median(measure() for _ in range(repeats))


def paired(repeats: int, *measures: Callable[[], float]) -> list[float]:
    """Return the median of each of `measures`, taken in turns, so that a slow moment of the machine hits all alike."""
    rounds = [[measure() for measure in measures] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


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
        lines.append(f"| {row.what} | {row.value} | {row.aim} | {met} |")
    return "\n".join(lines) + "\n"
