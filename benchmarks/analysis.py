"""How long a long trace takes to be analysed, and in how much memory: `cvtrace report --format json` from its start to its end."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.long_trace import write_long_trace
from benchmarks.rows import Row, Settings
from benchmarks.tracers import ENVIRONMENT

SIZES = (100_000, 1_000_000, 10_000_000)
MOST_S = 30.0
MOST_BYTES = 4e9
MOST_GROWTH = 1.5
"""Of the CPU time per event, from the second size to the third against from the first to the second."""


@dataclass(frozen=True)
class _Cost:
    """What one report took."""

    wall_s: float
    cpu_s: float
    rss_bytes: int


def run(settings: Settings) -> list[Row]:
    """Report on traces of 0.1, 1 and 10 million events, each in a process of its own."""
    costs, counts = [], []
    for events in SIZES:
        trace = settings.folder / f"long-{events}.trace"
        print(f"benchmark: report on {events:,} events", file=sys.stderr)
        counts.append(write_long_trace(trace, events))
        costs.append([_report(trace) for _ in range(settings.repeats)])
        shutil.rmtree(trace)
    rows = [row for events, measured in zip(SIZES, costs, strict=True) for row in _rows(events, measured)]
    small, middle, large = (statistics.median(cost.cpu_s for cost in measured) for measured in costs)
    first = (middle - small) / (counts[1] - counts[0])
    second = (large - middle) / (counts[2] - counts[1])
    what = f"CPU per further event, beyond {SIZES[1]:,} against below"
    growth = f"{second * 1e9:,.0f} ns / {first * 1e9:,.0f} ns = {second / first:.2f} x"
    return [*rows, Row(what, growth, f"≤ {MOST_GROWTH} x", second / first <= MOST_GROWTH)]


def _rows(events: int, measured: list[_Cost]) -> list[Row]:
    wall_s, cpu_s = (statistics.median(column) for column in zip(*((c.wall_s, c.cpu_s) for c in measured), strict=True))
    rss_bytes = max(cost.rss_bytes for cost in measured)
    what = f"report on {events:,} events to JSON"
    time_text, memory_text = f"{wall_s:.1f} s (CPU {cpu_s:.1f} s)", f"{rss_bytes / 1e6:,.0f} MB"
    if events != SIZES[-1]:
        return [Row(what, time_text), Row(f"{what}, memory (RSS)", memory_text)]
    return [
        Row(what, time_text, f"≤ {MOST_S:.0f} s", wall_s <= MOST_S),
        Row(f"{what}, memory (RSS)", memory_text, f"≤ {MOST_BYTES / 1e6:,.0f} MB", rss_bytes <= MOST_BYTES),
    ]


def _report(trace: Path) -> _Cost:
    """Run the command as a user would; the kernel counts its time and memory."""
    output = trace.with_suffix(".json")
    argv = [sys.executable, "-m", "cvtrace", "report", "--format", "json", str(trace), "-o", str(output)]
    began_s = time.monotonic()
    process = os.posix_spawn(sys.executable, argv, ENVIRONMENT)
    _, status, usage = os.wait4(process, 0)
    wall_s = time.monotonic() - began_s
    output.unlink(missing_ok=True)
    if status:
        raise SystemExit(f"benchmark: cvtrace report on {trace.name} ended with {os.waitstatus_to_exitcode(status)}")
    return _Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
