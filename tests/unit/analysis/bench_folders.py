"""Bench folders, made up from the times of their runs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtrace.analysis.bench.folder import write_json, write_runs
from cvtrace.analysis.bench.schema import METRICS, Bench, BenchInfo, Run, Statistic, SummaryRow, Sweep, Variant

Cells = Mapping[tuple[str, float | None, str], Sequence[float]]
"""Variant, value of the sweep, state -> the time of the load of each run."""


def run(cell: tuple[str, float | None, str], number: int, load_s: float, **changed: Any) -> Run:
    variant, value, state = cell
    values: dict[str, Any] = {
        "variant": variant,
        "sweep_value": value,
        "state": state,
        "round": number,
        "order": number,
        "verified": True,
        "reason": "",
        "repeated": False,
        "traced": False,
        "exit_code": 0,
        "started": "2026-01-01T00:00:00+00:00",
        "load_s": load_s,
        "first_token_s": load_s / 10,
        "tokens": 8,
        "tokens_per_s": 20.0 / load_s,
        "total_s": load_s + 1,
        "reads": 100,
        "fetches": 12,
        "bytes_read": 64_000_000,
        "bytes_fetched": 50_000_000,
        "host": "here",
    }
    return Run(**{**values, **changed})


def statistic_of(values: Sequence[float]) -> Statistic:
    low, high = np.percentile(values, (25, 75)).tolist()
    return Statistic(len(values), float(np.median(values)), (low, high), (min(values), max(values)), 2.0, (1.5, 2.5))


def summary_of(cell: tuple[str, float | None, str], runs: Sequence[Run]) -> SummaryRow:
    counted = [each for each in runs if each.counts and not each.traced]
    figures: dict[str, Statistic | None] = {}
    for metric in METRICS:
        values = [value for each in counted if (value := getattr(each, metric)) is not None]
        figures[metric] = statistic_of(values) if values else None
    return SummaryRow(*cell, n=len(counted), left_out=len(runs) - len(counted), **figures)


def bench_of(path: Path, cells: Cells, further: Sequence[Run] = (), **info: Any) -> Bench:
    """Return a bench with these runs, and `further` ones."""
    runs = [run(cell, number, load_s) for cell, times in cells.items() for number, load_s in enumerate(times)]
    runs += further
    variants, values, states = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    known: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00",
        "command": ("phi3-qa.py", "-m", "/cvmfs/repo.test.org/model"),
        "seed": 7,
        "repeats": 5,
        "states": tuple(states),
        "variants": tuple(Variant(name, ("phi3-qa.py",)) for name in variants),
        "sweep": None if values == [None] else Sweep("size", tuple(values), "B"),
        "host": "here",
        "versions": {"cvtrace": "0.1.0"},
        "finished": True,
    }
    of_cell = {cell: [each for each in runs if (each.variant, each.sweep_value, each.state) == cell] for cell in cells}
    summary = tuple(summary_of(cell, [each for each in own if not each.traced]) for cell, own in of_cell.items())
    return Bench(path, BenchInfo(**{**known, **info}), tuple(runs), summary, (), ())


def written(bench: Bench) -> Path:
    """Write a bench folder; return where it is."""
    bench.path.mkdir(parents=True)
    folder = os.open(bench.path, os.O_RDONLY)
    write_json(folder, bench)
    write_runs(folder, bench.runs)
    os.close(folder)
    return bench.path


def times(median: float, count: int = 8, seed: int = 1) -> list[float]:
    """Return times that scatter by some percent around their median."""
    return (median * np.random.default_rng(seed).normal(1, 0.03, count)).tolist()


def cold_and_hot(path: Path, cold_s: float, hot_s: float, seed: int = 1, count: int = 8) -> Path:
    """Write a bench folder with one variant and two states."""
    cells: Cells = {("", None, "cold"): times(cold_s, count, seed), ("", None, "hot"): times(hot_s, count, seed + 50)}
    return written(bench_of(path, cells))
