"""Two runs, or two sets of runs, figure by figure: what changed, and of sets, how sure that is."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.analysis.comparison.statistics import Change, Floats, Key, change_of, intervals, median, number, too_few
from cvtrace.analysis.contract.classes import GROUP_COLUMNS, LABELS
from cvtrace.analysis.contract.columns import PHASES
from cvtrace.analysis.contract.quantities import script
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.tracer.folder import is_trace
from cvtrace.tracer.safe_open import open_below_or_linked, open_folder

SCHEMA: Final = "cvtrace-compare/1"
COLUMNS: Final = tuple(
    name
    for name, column in PHASES.items()
    if column.unit in ("s", "n", "bytes") and name not in ("start_s", *GROUP_COLUMNS)
)
VERDICT: Final = {
    "fuse_reads": "n",
    "fuse_read_bytes": "bytes",
    "http_fetches": "n",
    "http_bytes": "bytes",
    "blocked_s": "s",
}


@dataclass(frozen=True)
class Side:
    """One run or a set of runs."""

    path: str
    runs: int
    scripts: tuple[str, ...]
    targets: tuple[str, ...]
    """Command lines."""
    probes: tuple[str, ...]
    questions: tuple[str, ...] = ()
    """What the verdicts answer: generation, inference, program (verdict_model.QUESTIONS)."""


@dataclass(frozen=True)
class Word:
    """An answer in words on both sides: each word and how many runs gave it."""

    of: str
    name: str
    a: dict[str, int]
    b: dict[str, int]


@dataclass(frozen=True)
class Comparison:
    """All figures and words of two sides, in the order of the report; `notes` say what makes them hard to compare."""

    schema: str
    a: Side
    b: Side
    words: tuple[Word, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists for JSON."""
        return {
            "schema": self.schema,
            "a": _plain(self.a),
            "b": _plain(self.b),
            "words": [_plain(word) for word in self.words],
            "changes": [_plain(change) for change in self.changes],
            "notes": list(self.notes),
        }


def _plain(row: Any) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(row).items()}


def traces_in(path: Path) -> list[Path]:
    """Return the trace at a path, or the traces in the folder there; if there is none, the path, which will say so itself."""
    try:
        folder = open_folder(path)
    except OSError:
        return [path]
    try:
        if is_trace(folder):
            return [path]
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        return [path / name for name in names if _holds_trace(folder, name)] or [path]
    finally:
        os.close(folder)


def _holds_trace(folder: int, name: str) -> bool:
    """Return whether a trace is in a folder of this name, or where a link leads that may be followed."""
    try:
        inner = open_below_or_linked(folder, name)
    except OSError:
        return False
    try:
        return is_trace(inner)
    finally:
        os.close(inner)


def middle(reports: Sequence[Report]) -> int:
    """Return which run is the median by time of load and decode; of an even number, the shorter of the two in the middle."""
    spent = [sum(row.wall_s for row in report.phases if row.name in ("load", "decode")) for report in reports]
    return sorted(range(len(spent)), key=spent.__getitem__)[(len(spent) - 1) // 2]


def compare(path_a: Path, a: Sequence[Report], path_b: Path, b: Sequence[Report]) -> Comparison:
    """Compare two sets of reports, each of one run or more."""
    units = _units([*a, *b])
    figures_a, figures_b = _table(a, units), _table(b, units)
    low, high = intervals(figures_a, figures_b)
    middle_a, middle_b = median(figures_a), median(figures_b)
    changes = tuple(
        change_of(key, unit, *map(float, values))
        for (key, unit), *values in zip(units.items(), middle_a, middle_b, low, high, strict=True)
    )
    return Comparison(
        SCHEMA, _side(path_a, a), _side(path_b, b), _words(a, b), changes, (*_notes(a, b), *too_few(len(a), len(b)))
    )


def _side(path: Path, reports: Sequence[Report]) -> Side:
    targets = dict.fromkeys(" ".join(report.trace.target) for report in reports)
    scripts = dict.fromkeys(script(report.trace.target) for report in reports)
    return Side(
        str(path),
        len(reports),
        tuple(scripts),
        tuple(targets),
        tuple(sorted({report.trace.probes for report in reports})),
        tuple(sorted({report.verdict.question for report in reports})),
    )


def _units(reports: Sequence[Report]) -> dict[Key, str]:
    """Return all figures and their units: of the run, of generation, of tokens, of every phase that occurs in any run."""
    units: dict[Key, str] = {("run", "duration_s"): "s"}
    units |= {("generation", name): unit for name, unit in VERDICT.items()}
    units |= {("tokens", "count"): "n", ("tokens", "median_s"): "s", ("tokens", "p99_s"): "s"}
    for phase in dict.fromkeys(row.name for report in reports for row in report.phases):
        units |= {(phase, name): PHASES[name].unit for name in COLUMNS}
        units |= {(phase, name): "s" for name in (*GROUP_COLUMNS, *LABELS)}
    return units


def _table(reports: Sequence[Report], units: dict[Key, str]) -> Floats:
    """Return the figures, shape (runs, figures); NaN where not observed."""
    return np.array(
        [[number(figures.get(key)) for key in units] for figures in map(_figures, reports, [units] * len(reports))]
    )


def _figures(report: Report, units: dict[Key, str]) -> dict[Key, float | None]:
    walls = [token.wall_s for token in report.tokens]
    median, high = np.percentile(walls, [50, 99]).tolist() if walls else (None, None)
    figures: dict[Key, float | None] = {("run", "duration_s"): report.trace.duration_s}
    figures |= {("generation", name): getattr(report.verdict, name) for name in VERDICT}
    figures |= {("tokens", "count"): len(walls), ("tokens", "median_s"): median, ("tokens", "p99_s"): high}
    absent = [key for key in units if key not in figures]  # phases that did not occur took no time
    figures |= dict.fromkeys(absent, 0.0)
    for row in report.phases:
        figures |= _of_phase(row)
    return figures


def _of_phase(row: Phase) -> dict[Key, float | None]:
    figures: dict[Key, float | None] = {(row.name, name): getattr(row, name) for name in (*COLUMNS, *GROUP_COLUMNS)}
    return {**figures, **{(row.name, name): spent for name, spent in row.classes.items()}}


def _words(a: Sequence[Report], b: Sequence[Report]) -> tuple[Word, ...]:
    words = [
        Word("run", "verdict", *(dict(Counter(each.verdict.answer for each in side)) for side in (a, b))),
        Word(
            "run",
            "cache_state",
            *(dict(Counter(each.cache_state or "not observed" for each in side)) for side in (a, b)),
        ),
    ]
    for phase in dict.fromkeys(row.name for report in (*a, *b) for row in report.phases):
        answers = [
            Counter(row.hits_cvmfs for report in side for row in report.phases if row.name == phase) for side in (a, b)
        ]
        words.append(Word(phase, "hits_cvmfs", dict(answers[0]), dict(answers[1])))
    return tuple(words)


def _notes(a: Sequence[Report], b: Sequence[Report]) -> list[str]:
    """Say what makes a comparison doubtful."""
    notes = []
    for noun, values in (
        ("commands", [{each.trace.target for each in side} for side in (a, b)]),
        ("probes", [{each.trace.probes for each in side} for side in (a, b)]),
        ("machines", [{each.trace.host for each in side} for side in (a, b)]),
    ):
        if values[0] != values[1]:
            notes.append(f"the {noun} differ")
    for report in (*a, *b):
        if report.trace.lost:
            notes.append(f"{report.trace.path}: {report.trace.lost:,} events lost")
        if report.trace.damage:
            notes.append(f"{report.trace.path}: {report.trace.damage}")
        if report.trace.exit_code:
            notes.append(f"{report.trace.path}: the target ended with {report.trace.exit_code}")
    return notes
