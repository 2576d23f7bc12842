"""A GenAI model on a mount: cold load, warm load, decode, and a storm of random reads, under each tool."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import build
from benchmarks.results import Ratio, Row, Settings, ratio
from benchmarks.tracers import ENVIRONMENT, Run, available_tracers, cvtrace, last_json, untraced
from cvtrace.lab.stack import Options, Stack, drop_page_cache, forget_pages, temporary, warm, wipe_client_cache

SCRIPT = Path(__file__).with_name("genai.py")
SIZE_BYTES = 400_000_000
"""Of int4 weights: 22 layers, 270 tensors."""
TOKENS = 64
STORM_READS = 200_000
STORM_READS_OTHERS = 20_000
"""Under strace each takes up to a millisecond."""
ROUNDS_OTHERS = 3
"""Rounds of the other tools, at most: how many times slower they are shows soon, and they are slow."""
CLIENT = "CVTRACE_TEST_CVMFS2"
"""Environment variable that names a real cvmfs2, which is then measured as well."""


@dataclass
class Bench:
    """A stack that is up, and the commands that are measured on it."""

    settings: Settings
    stack: Stack
    storm: Path
    reads_each: int = STORM_READS

    def cold(self) -> None:
        """Empty the client's cache and the page cache: cold for the recorder as well."""
        self.stack = wipe_client_cache(self.stack)
        drop_page_cache()

    def warm(self) -> None:
        """Leave everything in the client's cache and nothing of it in the page cache."""
        forget_pages(self.stack)

    def load(self, run: Run) -> float:
        """Return the seconds of a load."""
        return float(self._genai(run, 1)["load_s"])

    def decode(self, run: Run) -> float:
        """Return the seconds of the decode steps."""
        return float(self._genai(run, TOKENS)["decode_s"])

    def _genai(self, run: Run, tokens: int) -> dict[str, float]:
        argv = [sys.executable, str(SCRIPT), str(self.stack.model), str(tokens)]
        times: dict[str, float] = last_json(run(argv, self.stack.client_pid))
        return times

    def reads(self, run: Run) -> float:
        """Return the ns of one of many random reads of the weights."""
        weights = max(self.stack.model.iterdir(), key=lambda path: path.stat().st_size)
        return float(last_json(run([str(self.storm), str(weights), str(self.reads_each)], self.stack.client_pid)))

    def under_cvtrace(self, argv: object, daemon: int) -> str:
        """Run under cvtrace, which must lose nothing."""
        assert isinstance(argv, list)
        mount = ["--mount", str(self.stack.mountpoint), "--python", sys.executable]
        traced = cvtrace(argv, self.settings.folder / "model.trace", *mount)
        if traced.meta["lost"]:
            raise SystemExit(f"benchmark: cvtrace lost events: {traced.meta['lost']}")
        return traced.stdout


def run(settings: Settings) -> list[Row]:
    """Measure on the lab's client, and on the real one that CVTRACE_TEST_CVMFS2 names."""
    rows = _on(
        "lab", settings, "lab client", available_tracers(lambda text: print(f"benchmark: {text}", file=sys.stderr))
    )
    real = os.environ.get(CLIENT)
    if real is None:
        print(f"benchmark: no real client: {CLIENT}=/path/to/cvmfs2 names one", file=sys.stderr)
        return rows
    version = subprocess.run([real, "--version"], capture_output=True, text=True, env=_environment(real), check=False)
    name = (version.stdout.split() or ["cvmfs2"])[-1]
    return rows + _on(real, settings, f"cvmfs2 {name}", {})


def _environment(client: str) -> dict[str, str]:
    return {**ENVIRONMENT, "CVMFS_LIBRARY_PATH": str(Path(client).resolve().parent.parent / "lib")}


def _on(client: str, settings: Settings, name: str, tools: dict[str, Run]) -> list[Row]:
    options = Options(size_bytes=SIZE_BYTES, client=client)
    with temporary(options) as stack:
        bench = Bench(settings, stack, build("storm", settings.folder))
        warm(bench.stack)
        bench.load(untraced)  # the interpreter's and the library's own files are read once
        works: list[tuple[str, Callable[[], None], Callable[[Run], float], float]] = [
            (f"cold load of {SIZE_BYTES // 1_000_000} MB", bench.cold, bench.load, 1.03),
            (f"warm load of {SIZE_BYTES // 1_000_000} MB", bench.warm, bench.load, 1.03),
            (f"{TOKENS} tokens of decode", lambda: None, bench.decode, 1.01),
            (f"{STORM_READS:,} random 4 KiB reads, warm", bench.warm, bench.reads, 1.5),
        ]
        rows = []
        for title, prepare, measure, aim in works:
            rows += _compare(bench, f"{title}, {name}", prepare, measure, aim, tools)
        return rows


def _compare(
    bench: Bench,
    title: str,
    prepare: Callable[[], None],
    measure: Callable[[Run], float],
    aim: float,
    tools: dict[str, Run],
) -> list[Row]:
    def under(run: Run) -> Callable[[], float]:
        def once() -> float:
            prepare()
            return measure(run)

        return once

    print(f"benchmark: {title}", file=sys.stderr)
    cvtrace_ratio = ratio(bench.settings.repeats, under(untraced), under(bench.under_cvtrace))
    rows = [Row(f"{title}, untraced", _amount(cvtrace_ratio)), cvtrace_ratio.row(f"{title}, cvtrace", aim)]
    bench.reads_each = STORM_READS_OTHERS
    rounds = min(bench.settings.repeats, ROUNDS_OTHERS)
    for name, run in tools.items():
        rows.append(ratio(rounds, under(untraced), under(run)).row(f"{title}, {name}"))
    bench.reads_each = STORM_READS
    return rows


def _amount(ratio_: Ratio) -> str:
    return f"{ratio_.plain:.3f} s" if ratio_.plain < 100 else f"{ratio_.plain / 1000:.2f} µs per read"
