"""Two runs, or two sets of runs, for Python programs and notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cvtrace.analysis import analyse
from cvtrace.analysis.bench import Bench as Measured
from cvtrace.analysis.bench import is_bench
from cvtrace.analysis.bench import read_bench as read_folder
from cvtrace.analysis.comparison.compare import Comparison as Compared
from cvtrace.analysis.comparison.compare import compare as compare_reports
from cvtrace.analysis.comparison.compare import traces_in
from cvtrace.analysis.comparison.experiments import BenchComparison, compare_benches
from cvtrace.analysis.contract.columns import Column
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import bench_comparison
from cvtrace.analysis.report import comparison as compared_text
from cvtrace.api import notebook
from cvtrace.api.experiment import Bench
from cvtrace.api.frames import rows_as_frame
from cvtrace.api.trace import Trace
from cvtrace.tracer.store import read_trace

__all__ = ["Comparison", "compare"]

PathLike = str | os.PathLike[str]
Side = PathLike | Trace | Bench | Iterable["PathLike | Trace"]

CHANGES: Final = {
    "of": Column(
        "text", "what the figure is of: run, generation, tokens, or the name of a phase; of benches, the state"
    ),
    "name": Column("text", "of the figure, as in the tables of a trace"),
    "unit": Column("text", "s, bytes, n or tokens/s: of the numbers that follow"),
    "a": Column("x", "of A, in this unit; the median of several runs"),
    "b": Column("x", "of B"),
    "difference": Column("x", "b - a"),
    "ratio": Column("x", "b / a, without unit"),
    "low": Column(
        "x", "the difference is at least this, with 95 % confidence; empty with fewer than three runs on a side"
    ),
    "high": Column("x", "and at most this"),
    "certain": Column("yes/no", "whether low to high excludes 0"),
}
WORDS: Final = {
    "of": Column("text", "run, or the name of a phase"),
    "name": Column("text", "verdict, cache_state or hits_cvmfs"),
    "word": Column("text", "the answer"),
    "a": Column("n", "runs of A that gave it"),
    "b": Column("n", "runs of B that gave it"),
}


def compare(a: Side, b: Side) -> Comparison:
    """Compare two runs, or two sets of runs, as `cvtrace compare` does.

    Each side is a trace (opened, or its folder), a folder with the traces of several runs, or several of these; or both are results
    of `cvtrace bench` (opened, or their folders). Raises `cvtrace.TraceError` if one of them cannot be read, and ValueError for a
    bench and something else.

        >>> comparison = cvtrace.compare("cold", "hot")
        >>> changes = comparison.changes.set_index(["of", "name"])
        >>> print(changes.loc[("generation", "fuse_reads"), "difference"])
        -1.0
    """
    benches = [_bench(side) for side in (a, b)]
    if benches[0] is not None and benches[1] is not None:
        return Comparison(compare_benches(benches[0], benches[1]))
    name_a, reports_a = _reports(a)
    name_b, reports_b = _reports(b)
    return Comparison(compare_reports(name_a, reports_a, name_b, reports_b))


class Comparison:
    """What changed from A to B: figures, answers, and notes with the reasons to doubt the comparison."""

    def __init__(self, compared: Compared | BenchComparison) -> None:
        self._compared = compared

    @property
    def changes(self) -> pd.DataFrame:
        """One row for each figure: both sides, the difference, and with several runs the interval of the difference."""
        return rows_as_frame([_values(row, CHANGES) for row in self._compared.changes], CHANGES)

    @property
    def words(self) -> pd.DataFrame:
        """One row for each answer in words, with the number of runs that gave it on each side. Benches have none."""
        rows = [
            (row.of, row.name, word, row.a.get(word, 0), row.b.get(word, 0))
            for row in (() if isinstance(self._compared, BenchComparison) else self._compared.words)
            for word in sorted({*row.a, *row.b})
        ]
        return rows_as_frame(rows, WORDS)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what makes the two sides hard to compare.

        >>> comparison.notes
        ('no interval where a side has fewer than 3 runs; a difference may be chance',)
        """
        return self._compared.notes

    def as_dict(self) -> dict[str, Any]:
        """Return what `cvtrace compare --format json` prints."""
        return self._compared.as_dict()

    def __str__(self) -> str:
        return _rendered(self._compared, 80)

    def __repr__(self) -> str:
        return f"<cvtrace.Comparison of {self._compared.a.path!r} with {self._compared.b.path!r}>"

    def _repr_html_(self) -> str:
        return notebook.comparison_html(_rendered(self._compared, notebook.WIDTH))


def _rendered(compared: Compared | BenchComparison, width: int) -> str:
    if isinstance(compared, BenchComparison):
        return bench_comparison.render(compared, width)
    return compared_text.render(compared, width)


def _bench(side: Side) -> Measured | None:
    """Return a side that is a bench; None for any other."""
    if isinstance(side, Bench):
        return side._measured
    return read_folder(Path(side)) if isinstance(side, str | os.PathLike) and is_bench(Path(side)) else None


def _values(row: Any, columns: dict[str, Column]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in columns)


def _reports(side: Side) -> tuple[Path, list[Report]]:
    """Return what a side is called, and the reports of its runs."""
    if isinstance(side, Trace):
        return side.path, [side.report()]
    if isinstance(side, str | os.PathLike):
        path = Path(side)
        if is_bench(path):
            raise ValueError(f"{path} is a bench folder, and the other side is none: compare two of a kind")
        return path, [analyse(read_trace(each)) for each in traces_in(path)]
    if isinstance(side, Bench):
        raise ValueError(f"{side.path} is a bench folder, and the other side is none: compare two of a kind")
    parts = [_reports(each) for each in side]
    if not parts:
        raise ValueError("a side of a comparison needs one trace or more")
    return Path(os.path.commonpath([path.absolute() for path, _ in parts])), [
        each for _, reports in parts for each in reports
    ]
