"""A load after `cvtrace warmup` against the cold load, and against what `--what-if` had predicted from that one."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.model import CLIENT
from benchmarks.results import Row, Settings, cells_table, machine, put_between
from benchmarks.tracers import ENVIRONMENT, cvtrace
from cvtrace.analysis import Report, analyse
from cvtrace.lab.origin import control
from cvtrace.lab.stack import Options, Stack, temporary, warm, wipe_client_cache
from cvtrace.tracer.store import read_trace

SCRIPT: Final = Path(__file__).with_name("genai.py")
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "warmup.md"
SIZE_BYTES = 256_000_000
DELAY_S = 0.020
TOKENS = 24
AIM = 0.6
"""Of the cold load."""


@dataclass(frozen=True)
class _Rounds:
    """Seconds of each round on a client."""

    client: str
    cold: tuple[float, ...]
    predicted: tuple[float, ...]
    after: tuple[float, ...]
    warmup: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.after) / statistics.median(self.cold)

    @property
    def error(self) -> float:
        return 100 * (statistics.median(self.predicted) / statistics.median(self.after) - 1)

    def cells(self) -> list[str]:
        columns = (self.cold, self.predicted, self.after)
        times = [f"{', '.join(f'{each:.2f}' for each in column)} s" for column in columns]
        warmup = f"{', '.join(f'{each:.2f}' for each in self.warmup)} s"
        return [self.client, *times, f"{self.ratio:.2f}", warmup]


def run(settings: Settings) -> list[Row]:
    """Measure on the lab's client, and on the real one that CVTRACE_TEST_CVMFS2 names."""
    clients = [("lab", "lab")]
    if real := os.environ.get(CLIENT):
        clients.append((real, "cvmfs2"))
    else:
        print(f"benchmark: no real client: {CLIENT}=/path/to/cvmfs2 names one", file=sys.stderr)
    measured = [_on(client, name, settings) for client, name in clients]
    if settings.update:
        head = ["client", "cold", "predicted from it", "after a warm-up", "of the cold load", "the warm-up itself"]
        table = cells_table(head, (each.cells() for each in measured))
        put_between(PAGE, f"{table}\n\n{machine()}.\n")
    return [row for each in measured for row in _rows(each)]


def _rows(rounds: _Rounds) -> list[Row]:
    title = f"load of {SIZE_BYTES // 10**6} MB at {DELAY_S * 1000:.0f} ms, {rounds.client}"
    median = {name: statistics.median(getattr(rounds, name)) for name in ("cold", "predicted", "after", "warmup")}
    times = f"cold {median['cold']:.2f} s, after a warm-up {median['after']:.2f} s"
    return [
        Row(title, f"{times}: {rounds.ratio:.2f} x", f"≤ {AIM} x", rounds.ratio <= AIM),
        Row(f"{title}: what-if had predicted", f"{median['predicted']:.2f} s: {rounds.error:+.0f} %"),
        Row(f"{title}: the warm-up itself", f"{median['warmup']:.2f} s"),
    ]


def _on(client: str, name: str, settings: Settings) -> _Rounds:
    with temporary(Options(size_bytes=SIZE_BYTES, client=client)) as stack:
        warm(stack)
        _load(stack, settings)  # the interpreter's and the library's own files are read once
        delay = {"command": "inject", "injections": [{"first_byte_delay_s": DELAY_S}]}
        control(stack.control, delay)
        rounds = [_round(stack, settings) for _ in range(settings.repeats)]
    return _Rounds(name, *(tuple(column) for column in zip(*rounds, strict=True)))


def _round(stack: Stack, settings: Settings) -> tuple[float, float, float, float]:
    """Return the seconds of the cold load, of the prediction, of the load after a warm-up, and of the warm-up."""
    print("benchmark: cold, warm-up, load", file=sys.stderr)
    stack = wipe_client_cache(stack)
    cold = _load(stack, settings)
    assert cold.what_if is not None
    cached = next(each for each in cold.what_if.predictions if each.name == "all_cached")
    predicted_s = next(row.predicted_s for row in cached.phases if row.name == "load")
    assert predicted_s is not None
    stack = wipe_client_cache(stack)
    begun_s = time.monotonic()
    command = [sys.executable, "-m", "cvtrace", "warmup", str(stack.model)]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    warmup_s = time.monotonic() - begun_s
    return _load_s(cold), predicted_s, _load_s(_load(stack, settings)), warmup_s


def _load(stack: Stack, settings: Settings) -> Report:
    argv = [sys.executable, str(SCRIPT), str(stack.model), str(TOKENS)]
    mount = ["--mount", str(stack.mountpoint), "--python", sys.executable]
    return analyse(read_trace(cvtrace(argv, settings.folder / "warmup.trace", *mount).trace))


def _load_s(report: Report) -> float:
    return next(row.wall_s for row in report.phases if row.name == "load")
