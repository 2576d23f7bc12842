"""Runs of a bench that was not made, for tests of what is computed from runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cvtrace.analysis.bench.laws import laws
from cvtrace.analysis.bench.schema import STATES, Bench, BenchInfo, Cell, Run, Sweep, Variant
from cvtrace.analysis.bench.statistics import summarise, tracing_cost

NOW = "2026-01-01T00:00:00+00:00"


def run(
    state: str = "cold",
    load_s: float | None = 1.0,
    *,
    round_: int = 0,
    order: int = 0,
    verified: bool = True,
    traced: bool = False,
    variant: str = "",
    value: float | None = None,
    repeated: bool = False,
) -> Run:
    return Run(
        variant=variant,
        sweep_value=value,
        state=state,
        round=round_,
        order=order,
        verified=verified,
        reason="" if verified else "the client fetched 3 objects",
        repeated=repeated,
        traced=traced,
        exit_code=0,
        started=NOW,
        load_s=load_s,
        first_token_s=0.1,
        tokens=8,
        tokens_per_s=50.0,
        total_s=(load_s or 0) + 1,
        reads=10,
        fetches=4 if state == "cold" else 0,
        bytes_fetched=1000,
        verdict="yes" if traced else "",
        trace="traces/x" if traced else "",
        classes={"network.request": 0.25, "cache.fill": 0.5, "compute.cpu": 0.25} if traced else {},
    )


def info(
    states: Sequence[str] = tuple(STATES),
    variants: Sequence[str] = ("",),
    sweep: Sweep | None = None,
    cells: Sequence[Cell] = (),
    repeats: int = 5,
) -> BenchInfo:
    return BenchInfo(
        created=NOW,
        command=("bench", "phi3-qa.py"),
        seed=7,
        repeats=repeats,
        states=tuple(states),
        variants=tuple(Variant(name, ("phi3-qa.py", "-m", name)) for name in variants),
        sweep=sweep,
        host="here",
        versions={"cvtrace": "0.1.0"},
        cells=tuple(cells),
        finished=True,
    )


def bench(about: BenchInfo, runs: Sequence[Run], path: Path = Path("bench")) -> Bench:
    rows = tuple(runs)
    return Bench(path, about, rows, summarise(about, rows), tracing_cost(about, rows), laws(about, rows))


def loads(times: Mapping[str, Sequence[float]]) -> list[Run]:
    """Return a run for each load time of each state."""
    return [run(state, load_s, round_=place) for state, values in times.items() for place, load_s in enumerate(values)]
