"""How long a long trace takes to be analysed, and in how much memory: `cvtrace report --format json` from its start to its end."""

from __future__ import annotations

import shutil
import statistics
import sys

from benchmarks.long_trace import write_long_trace
from benchmarks.report_cost import Cost, report_cost
from benchmarks.results import Row, Settings

SIZES = (100_000, 1_000_000, 10_000_000)
MOST_S = 20.0
MOST_BYTES = 2e9
MOST_GROWTH = 1.5
"""Of the CPU time per event, from the second size to the third against from the first to the second."""


def run(settings: Settings) -> list[Row]:
    """Report on traces of 0.1, 1 and 10 million events, each in a process of its own."""
    costs, counts = [], []
    for events in SIZES:
        trace = settings.folder / f"long-{events}.trace"
        print(f"benchmark: report on {events:,} events", file=sys.stderr)
        counts.append(write_long_trace(trace, events))
        costs.append([report_cost(trace, "json") for _ in range(settings.repeats)])
        shutil.rmtree(trace)
    rows = [row for events, measured in zip(SIZES, costs, strict=True) for row in _rows(events, measured)]
    small, middle, large = (statistics.median(cost.cpu_s for cost in measured) for measured in costs)
    first = (middle - small) / (counts[1] - counts[0])
    second = (large - middle) / (counts[2] - counts[1])
    measure = f"CPU per further event, beyond {SIZES[1]:,} against below"
    growth = f"{second * 1e9:,.0f} ns / {first * 1e9:,.0f} ns = {second / first:.2f} x"
    return [*rows, Row(measure, growth, f"≤ {MOST_GROWTH} x", second / first <= MOST_GROWTH)]


def _rows(events: int, measured: list[Cost]) -> list[Row]:
    wall_s, cpu_s = (statistics.median(column) for column in zip(*((c.wall_s, c.cpu_s) for c in measured), strict=True))
    rss_bytes = max(cost.rss_bytes for cost in measured)
    measure = f"report on {events:,} events to JSON"
    time_text, memory_text = f"{wall_s:.1f} s (CPU {cpu_s:.1f} s)", f"{rss_bytes / 1e6:,.0f} MB"
    if events != SIZES[-1]:
        return [Row(measure, time_text), Row(f"{measure}, memory (RSS)", memory_text)]
    return [
        Row(measure, time_text, f"≤ {MOST_S:.0f} s", wall_s <= MOST_S),
        Row(f"{measure}, memory (RSS)", memory_text, f"≤ {MOST_BYTES / 1e6:,.0f} MB", rss_bytes <= MOST_BYTES),
    ]
