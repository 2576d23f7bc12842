"""Where the cost of tracing a cold load goes: each part of the recording left out in turn, and what each program takes."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys

from benchmarks.build import build
from benchmarks.model import CLIENT, SIZE_BYTES, Bench
from benchmarks.results import Row, Settings
from benchmarks.run_ablated import BUFFER, PARTS
from benchmarks.tracers import cvtrace, untraced
from cvtrace.lab.stack import Options, temporary, warm


def run(settings: Settings) -> list[Row]:
    """Measure cold loads on the real client that CVTRACE_TEST_CVMFS2 names, else on the lab's."""
    with temporary(Options(size_bytes=SIZE_BYTES, client=os.environ.get(CLIENT, "lab"))) as stack:
        bench = Bench(settings, stack, build("storm", settings.folder))
        warm(stack)
        bench.load(untraced)
        bench.cold()
        bench.load(bench.under_cvtrace)  # what both read of their own files is cached from here on
        return [*_ratios(bench), *_programs(bench)]


def _ratios(bench: Bench) -> list[Row]:
    """Return a row for each part left out: the ratio to the untraced load of the same round."""
    rounds: dict[str, list[float]] = {name: [] for name in PARTS}
    plain = []
    shuffled = random.Random(0)
    for number in range(bench.settings.repeats):
        print(f"benchmark: ablation, round {number + 1} of {bench.settings.repeats}", file=sys.stderr)
        names: list[str | None] = [None, *PARTS]
        shuffled.shuffle(names)
        seconds = {name: _cold_load(bench, name) for name in names}
        plain.append(seconds[None])
        for name in PARTS:
            rounds[name].append(seconds[name] / seconds[None])
    size = f"cold load of {SIZE_BYTES // 1_000_000} MB"
    return [
        Row(
            f"{size}, all but {name}" if name != "nothing" else f"{size}, all of cvtrace",
            f"{statistics.median(ratios):.3f} x ({min(ratios):.3f} to {max(ratios):.3f})",
        )
        for name, ratios in rounds.items()
    ]


def _cold_load(bench: Bench, part: str | None) -> float:
    bench.cold()
    if part is None:
        return bench.load(untraced)
    return bench.load(lambda argv, daemon: _ablated(bench, part, argv))


def _ablated(bench: Bench, part: str, argv: object, *more: str) -> str:
    assert isinstance(argv, list)
    mount = ["--mount", str(bench.stack.mountpoint), "--python", sys.executable]
    trace = bench.settings.folder / "ablation.trace"
    return cvtrace(argv, trace, *mount, *BUFFER, *more, module=("benchmarks.run_ablated", part)).stdout


def _programs(bench: Bench) -> list[Row]:
    """Return a row for each BPF program: its time in one cold load, by the kernel's own statistics."""
    bench.cold()
    trace = bench.settings.folder / "ablation.trace"
    load_s = bench.load(lambda argv, daemon: _ablated(bench, "nothing", argv, "--cost"))
    recorder = json.loads((trace / "meta.json").read_text())["recorder"]
    rows = []
    for name, (spent_s, runs) in sorted(recorder["bpf_programs"].items(), key=lambda item: -item[1][0]):
        if spent_s > 1e-4:
            share = f"{100 * spent_s / load_s:.2f} % of the load's {load_s:.2f} s"
            rows.append(Row(f"program {name}", f"{1e3 * spent_s:.1f} ms in {runs:,.0f} runs: {share}"))
    drain_s = recorder["drain_cpu_s"]
    return [*rows, Row("recorder, draining and writing", f"{1e3 * drain_s:.1f} ms: {100 * drain_s / load_s:.2f} %")]
