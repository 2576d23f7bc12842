"""Predictions of `cvtrace report --what-if` against runs in the lab in which what was supposed is so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.results import Row, Settings
from benchmarks.tracers import cvtrace
from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_options import Changes, ReportOptions
from cvtrace.lab.origin import control
from cvtrace.lab.stack import Options, Stack, forget_pages, temporary, warm, wipe_client_cache
from cvtrace.tracer.store import read_trace

SCRIPT, READERS = (Path(__file__).with_name(name) for name in ("genai.py", "readers.py"))
SIZE_BYTES, LARGER = 24_000_000, 4
CHUNK_BYTES = 1 << 20
TOKENS = 32
AT_ONCE = 4
FAR = {"first_byte_delay_s": 0.020, "bandwidth_bytes_per_s": 40e6}
NEAR = {"bandwidth_bytes_per_s": 1.25e8}
"""As analysis/whatif/whatif.py supposes a proxy next door."""
OF_MODEL = ("load", "tokenizer", "prefill", "decode")


@dataclass
class _Lab:
    """A stack that is up, and what can be run on it; every run is a report on a trace."""

    settings: Settings
    stack: Stack

    def cold(self, **injected: float) -> _Lab:
        """Empty the client's cache, and make the origin slow."""
        control(self.stack.control, {"command": "inject", "injections": []})
        self.stack = wipe_client_cache(self.stack)
        if injected:
            control(self.stack.control, {"command": "inject", "injections": [injected]})
        return self

    def warm(self) -> _Lab:
        """Leave everything in the client's cache; nothing of it in the kernel's for the mount."""
        self.cold()
        warm(self.stack)
        forget_pages(self.stack)
        return self

    def hot(self) -> _Lab:
        self.cold()
        warm(self.stack)
        return self

    def load(self, changes: Changes | None = None, model: Path | None = None) -> Report:
        """Load the model and decode."""
        return self._report([sys.executable, str(SCRIPT), str(model or self.stack.model), str(TOKENS)], changes)

    def read(self, threads: int, changes: Changes | None = None) -> Report:
        """Read the weights with so many threads."""
        weights = max(self.stack.model.iterdir(), key=lambda path: path.stat().st_size)
        return self._report([sys.executable, str(READERS), str(weights), str(CHUNK_BYTES), str(threads)], changes)

    def _report(self, argv: list[str], changes: Changes | None) -> Report:
        mount = ["--mount", str(self.stack.mountpoint), "--python", sys.executable]
        trace = cvtrace(argv, self.settings.folder / "what-if.trace", *mount).trace
        return analyse(read_trace(trace), options=ReportOptions(changes=changes or Changes()))


@dataclass(frozen=True)
class _Case:
    """What is supposed, by what prediction, from which run, and how it is really so."""

    label: str
    name: str
    before: Callable[[], Report]
    after: Callable[[], Report]
    phases: tuple[str, ...] = OF_MODEL


def run(settings: Settings) -> list[Row]:
    """Predict from one run, do what was supposed right after it, and compare."""
    options = Options(size_bytes=SIZE_BYTES, chunk_bytes=CHUNK_BYTES, client="lab")
    local = settings.folder / "local-copy"
    shutil.rmtree(local, ignore_errors=True)
    with temporary(options) as stack, temporary(replace(options, size_bytes=SIZE_BYTES * LARGER)) as larger:
        lab, large = _Lab(settings, stack), _Lab(settings, larger)
        shutil.copytree(stack.model, local)
        large.hot().load()  # the interpreter's and the library's own files are read once
        cases = [*_of_caches(lab, local), *_of_links(lab), *_of_reading(lab), *_of_size(lab, large)]
        rows = [row for case in cases for row in _compared(case, settings.repeats)]
    shutil.rmtree(local)
    return rows


def _of_caches(lab: _Lab, local: Path) -> list[_Case]:
    def cold() -> Report:
        return lab.cold().load()

    return [
        _Case("all in the client's cache, from cold", "all_cached", cold, lambda: lab.warm().load()),
        _Case("all in the page cache, from cold", "in_memory", cold, lambda: lab.hot().load()),
        _Case("a local copy, from cold", "local_copy", cold, lambda: lab.hot().load(model=local)),
    ]


def _of_links(lab: _Lab) -> list[_Case]:
    def away(delay_s: float, rtt_s: float) -> Callable[[], Report]:
        return lambda: lab.cold(first_byte_delay_s=delay_s).load(Changes(rtt_s=rtt_s))

    return [
        _Case("20 ms round trip, from 0 ms", "round_trip", away(0, 0.020), away(0.020, 0)),
        _Case("50 ms round trip, from 0 ms", "round_trip", away(0, 0.050), away(0.050, 0)),
        _Case("0 ms round trip, from 50 ms", "round_trip", away(0.050, 0), away(0, 0)),
        _Case(
            "a proxy next door, from 20 ms and 40 MB/s",
            "near_proxy",
            lambda: lab.cold(**FAR).load(),
            lambda: lab.cold(**NEAR).load(),
        ),
    ]


def _of_reading(lab: _Lab) -> list[_Case]:
    """Read with one thread, and really with several."""
    changes = Changes(parallel=AT_ONCE)

    def case(label: str, injected: dict[str, float]) -> _Case:
        return _Case(
            f"{AT_ONCE} chunks at once, from one by one, {label}",
            "parallel",
            lambda: lab.cold(**injected).read(1, changes),
            lambda: lab.cold(**injected).read(AT_ONCE),
            ("reading",),
        )

    return [case("50 ms", {"first_byte_delay_s": 0.050}), case("20 ms and 40 MB/s", FAR)]


def _of_size(lab: _Lab, large: _Lab) -> list[_Case]:
    changes, label = Changes(scale=LARGER), f"{SIZE_BYTES * LARGER // 10**6} MB, from {SIZE_BYTES // 10**6} MB"
    return [
        _Case(f"{label}, cold", "larger_model", lambda: lab.cold().load(changes), lambda: large.cold().load()),
        _Case(f"{label}, hot", "larger_model", lambda: lab.hot().load(changes), lambda: large.hot().load()),
    ]


def _compared(case: _Case, repeats: int) -> list[Row]:
    """Predict and do, in rounds; compare the phases together, and the load by itself."""
    print(f"benchmark: {case.label}", file=sys.stderr)
    rounds = [(case.before(), case.after()) for _ in range(repeats)]
    parts = [case.phases, ("load",)] if "load" in case.phases else [case.phases]
    return [_row(f"{case.label}: {_name(part)}", case.name, rounds, part) for part in parts]


def _name(phases: tuple[str, ...]) -> str:
    return phases[0] if len(phases) == 1 else f"{phases[0]} to {phases[-1]}"


def _row(label: str, name: str, rounds: list[tuple[Report, Report]], phases: tuple[str, ...]) -> Row:
    """Compare the shortest of the rounds, for whatever else runs only ever adds time; tell the errors of all."""
    before, after = ([_wall_s(reports[place], phases) for reports in rounds] for place in (0, 1))
    supposed = [_predicted_s(report, name, phases) for report, _ in rounds]
    errors = [100 * (predicted / real - 1) for predicted, real in zip(supposed, after, strict=True)]
    spread = f"; rounds {min(errors):+.0f} to {max(errors):+.0f} %" if len(errors) > 1 else ""
    error = 100 * (min(supposed) / min(after) - 1)
    times = f"was {min(before):.3f} s, predicted {min(supposed):.3f} s, is {min(after):.3f} s"
    return Row(label, f"{times}: {error:+.0f} %{spread}")


def _wall_s(report: Report, phases: tuple[str, ...]) -> float:
    return sum(row.wall_s for row in report.phases if row.name in phases)


def _predicted_s(report: Report, name: str, phases: tuple[str, ...]) -> float:
    assert report.what_if is not None
    prediction = next(row for row in report.what_if.predictions if row.name == name)
    if prediction.reason is not None:
        raise SystemExit(f"benchmark: {name} cannot be predicted: {prediction.reason}")
    return sum(row.predicted_s or 0.0 for row in prediction.phases if row.name in phases)
