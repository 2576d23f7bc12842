"""Predictions of `cvtrace report --what-if` against runs in the lab in which what was supposed is so.

A round makes every run once, so that a slow moment of the machine is spread over all rows. A run serves every row that it
is part of, before or after the change. With `--update` the table goes into docs/what-if.md, and the largest error of each prediction into
analysis/whatif/lab_error.py, from where reports have it.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.model import CLIENT
from benchmarks.results import Row, Settings, machine
from benchmarks.what_if_lab import READ_CHUNK_BYTES, Lab
from benchmarks.what_if_page import Compared, write_page
from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_options import Changes, ReportOptions
from cvtrace.lab.stack import Options, temporary
from cvtrace.tracer.store import read_trace

SMALL, MEDIUM, LARGE = 64_000_000, 256_000_000, 1_024_000_000
TIMES_SMALL: Final = (8, 512_000_000)
"""Of the lab's models, this one has eight times the matrices, the output layer and the embedding of the small one, each; LARGE has four
times those of MEDIUM. Others of its sizes differ in their parts."""
READ_BYTES: Final = 24_000_000
AT_ONCE = 4
FAR = {"first_byte_delay_s": 0.020, "bandwidth_bytes_per_s": 40e6}
NEAR = {"bandwidth_bytes_per_s": 1.25e8}
"""The near proxy that analysis/whatif/whatif.py assumes."""
OF_MODEL = ("load", "tokenizer", "prefill", "decode")
UNCHANGED: Final = Changes()
AIM: Final = {"in_memory": 10, "local_copy": 10, "larger_model": 10}
"""Per cent that a prediction may be wrong."""


@dataclass(frozen=True)
class _Case:
    """What is supposed, by what prediction, from which run, and in which run it is so."""

    label: str
    name: str
    before: str
    after: str
    changes: Changes = UNCHANGED
    phases: tuple[str, ...] = OF_MODEL


@dataclass
class _Plan:
    """The runs of a round by name, in their order, and the cases that compare them."""

    runs: dict[str, Callable[[], Path]] = field(default_factory=dict)
    cases: list[_Case] = field(default_factory=list)

    def changes_of(self, run: str) -> set[Changes]:
        """Return what is to be predicted from a run."""
        return {case.changes for case in self.cases if case.before == run} or {UNCHANGED}


def run(settings: Settings) -> list[Row]:
    """Make the runs in rounds, and compare what was predicted with what is so."""
    with contextlib.ExitStack() as stacks:
        plan = _Plan()
        busy: list[float] = []

        def lab(size_bytes: int, client: str = "lab", chunk_bytes: int = 8 << 20) -> Lab:
            options = Options(size_bytes=size_bytes, chunk_bytes=chunk_bytes, client=client)
            print(f"benchmark: model of {size_bytes // 10**6} MB, {Path(client).name}", file=sys.stderr)
            return Lab(settings.folder, stacks.enter_context(temporary(options)), stacks, busy)

        small, medium, large = lab(SMALL), lab(MEDIUM), lab(LARGE)
        times, eightfold = TIMES_SMALL[0], lab(TIMES_SMALL[1])
        reading = lab(READ_BYTES, chunk_bytes=READ_CHUNK_BYTES)
        for title, each in (("64 MB", small), ("256 MB", medium), ("1 GB", large)):
            _caches(plan, title, each)
        _sizes(plan, ("64 MB", "512 MB"), eightfold, times)
        _sizes(plan, ("256 MB", "1 GB"), None, LARGE // MEDIUM)
        _links(plan, small)
        _readers(plan, reading)
        if real := os.environ.get(CLIENT):
            _caches(plan, "256 MB, cvmfs2", lab(MEDIUM, real))
        else:
            print(f"benchmark: no real client: {CLIENT}=/path/to/cvmfs2 names one", file=sys.stderr)
        small.hot()  # the interpreter's and the library's own files are read once
        rounds = [_round(plan, number, settings.repeats) for number in range(settings.repeats)]
    compared = [each for case in plan.cases for each in _compared(case, rounds)]
    others = f"Before the runs other programs had {100 * statistics.median(busy):.0f} % of the CPUs (at most {100 * max(busy):.0f} %)"
    print(f"benchmark: {others}", file=sys.stderr)
    if settings.update:
        write_page(compared, settings.repeats, f"{machine()}. {others}")
    return [each.row(AIM.get(each.name)) for each in compared]


def _caches(plan: _Plan, title: str, lab: Lab) -> None:
    """Compare a cold run with runs of full caches and of a local copy."""
    plan.runs |= {
        f"{title} cold": lab.cold,
        f"{title} hot": lab.hot,
        f"{title} local": lab.local,
        f"{title} cached": lab.cached,
    }
    cold = f"{title} cold"
    plan.cases += [
        _Case(f"{title}: all in the client's cache, from cold", "all_cached", cold, f"{title} cached"),
        _Case(f"{title}: all in the page cache, from cold", "in_memory", cold, f"{title} hot"),
        _Case(
            f"{title}: all in the page cache, from the client's cache", "in_memory", f"{title} cached", f"{title} hot"
        ),
        _Case(f"{title}: a local copy, from cold", "local_copy", cold, f"{title} local"),
    ]


def _sizes(plan: _Plan, titles: tuple[str, str], lab: Lab | None, times: int) -> None:
    """Compare runs of a model with those of one so many times larger, which `lab` has where it is not in the plan yet."""
    smaller, larger = titles
    if lab is not None:
        plan.runs |= {f"{larger} cold": lab.cold, f"{larger} hot": lab.hot}
    plan.cases += [
        _Case(
            f"{larger}, from {smaller}, {state}",
            "larger_model",
            f"{smaller} {state}",
            f"{larger} {state}",
            Changes(scale=times),
        )
        for state in ("cold", "hot")
    ]


def _links(plan: _Plan, lab: Lab) -> None:
    """Compare runs over links of other lengths and bandwidths."""
    for name, injected in (("20 ms", {"first_byte_delay_s": 0.020}), ("50 ms", {"first_byte_delay_s": 0.050})):
        plan.runs[f"64 MB, {name}"] = partial(lab.cold, **injected)
    plan.runs["64 MB, far"] = partial(lab.cold, **FAR)
    plan.runs["64 MB, near"] = partial(lab.cold, **NEAR)
    cold = "64 MB cold"
    plan.cases += [
        _Case("64 MB: 20 ms round trip, from 0 ms", "round_trip", cold, "64 MB, 20 ms", Changes(rtt_s=0.020)),
        _Case("64 MB: 50 ms round trip, from 0 ms", "round_trip", cold, "64 MB, 50 ms", Changes(rtt_s=0.050)),
        _Case("64 MB: 0 ms round trip, from 50 ms", "round_trip", "64 MB, 50 ms", cold, Changes(rtt_s=0)),
        _Case("64 MB: a near proxy, from 20 ms and 40 MB/s", "near_proxy", "64 MB, far", "64 MB, near"),
    ]


def _readers(plan: _Plan, lab: Lab) -> None:
    """Compare reading with one thread and, really, with several."""
    for label, injected in (("50 ms", {"first_byte_delay_s": 0.050}), ("20 ms and 40 MB/s", FAR)):
        before, after = f"1 reader, {label}", f"{AT_ONCE} readers, {label}"
        plan.runs |= {before: partial(lab.read, 1, **injected), after: partial(lab.read, AT_ONCE, **injected)}
        title = f"24 MB: {AT_ONCE} chunks at once, from one by one, {label}"
        plan.cases.append(_Case(title, "parallel", before, after, Changes(parallel=AT_ONCE), ("reading",)))


Reports = dict[tuple[str, Changes], Report]


def _round(plan: _Plan, number: int, repeats: int) -> Reports:
    """Make every run once; return the report of each run and change that is to be predicted from it."""
    reports: Reports = {}
    for name, once in plan.runs.items():
        print(f"benchmark: round {number + 1} of {repeats}: {name}", file=sys.stderr)
        trace = once()
        for changes in plan.changes_of(name):
            reports[name, changes] = analyse(read_trace(trace), options=ReportOptions(changes=changes))
    return reports


def _compared(case: _Case, rounds: list[Reports]) -> list[Compared]:
    """Compare the phases together, and the load by itself."""
    before = [reports[case.before, case.changes] for reports in rounds]
    after = [next(each for (name, _), each in reports.items() if name == case.after) for reports in rounds]
    parts = [case.phases, ("load",)] if "load" in case.phases else [case.phases]
    return [
        Compared(
            label=f"{case.label}: {_name(phases)}",
            name=case.name,
            before_s=statistics.median(_wall_s(report, phases) for report in before),
            predicted_s=tuple(_predicted_s(report, case.name, phases) for report in before),
            after_s=tuple(_wall_s(report, phases) for report in after),
        )
        for phases in parts
    ]


def _name(phases: tuple[str, ...]) -> str:
    return phases[0] if len(phases) == 1 else f"{phases[0]} to {phases[-1]}"


def _wall_s(report: Report, phases: tuple[str, ...]) -> float:
    return sum(row.wall_s for row in report.phases if row.name in phases)


def _predicted_s(report: Report, name: str, phases: tuple[str, ...]) -> float:
    assert report.what_if is not None
    prediction = next(row for row in report.what_if.predictions if row.name == name)
    if prediction.reason is not None:
        raise SystemExit(f"benchmark: {name} cannot be predicted: {prediction.reason}")
    return sum(row.predicted_s or 0.0 for row in prediction.phases if row.name in phases)
