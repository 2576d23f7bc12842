"""Traces of ten million events and more: finished into Parquet, and reported, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.report_cost import USAGE, report_cost
from benchmarks.results import Row, Settings
from benchmarks.tracers import ENVIRONMENT
from cvtrace.tracer.room import available_bytes

SIZES: Final = (10_000_000, 30_000_000, 100_000_000)
BYTES_PER_EVENT: Final = 100
"""What a report takes at most, for the decision whether this machine can make it."""
MOST_S, MOST_BYTES = 200.0, 4e9
"""Of the largest one."""


def run(settings: Settings) -> list[Row]:
    """Write each trace and report on it; what the machine has no memory for is named as not measured."""
    rows = []
    for events in SIZES:
        trace = settings.folder / f"large-{events}.trace"
        print(f"benchmark: {events:,} events", file=sys.stderr)
        rows.append(_written(trace, events))
        needed = events * BYTES_PER_EVENT
        if needed > (available_bytes() or needed):
            rows.append(Row(f"report on {events:,} events to JSON", f"not measured: needs {needed / 1e9:.0f} GB"))
        else:
            rows.append(_reported(trace, events))
        shutil.rmtree(trace)
    return rows


def _written(trace: Path, events: int) -> Row:
    argv = [sys.executable, str(USAGE), sys.executable, "-m", "benchmarks.long_trace", str(trace), str(events)]
    result = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, check=True)
    wall_s, _, rss_bytes = json.loads(result.stdout)["took"]
    cost = f"{wall_s:.1f} s, {rss_bytes / 1e6:,.0f} MB"
    return Row(f"{events:,} events made, written and finished into Parquet", cost)


def _reported(trace: Path, events: int) -> Row:
    cost = report_cost(trace, "json")
    measured = f"{cost.wall_s:.1f} s (CPU {cost.cpu_s:.1f} s), {cost.rss_bytes / 1e6:,.0f} MB"
    measure = f"report on {events:,} events to JSON"
    if events != max(SIZES):
        return Row(measure, measured)
    met = cost.wall_s <= MOST_S and cost.rss_bytes <= MOST_BYTES
    return Row(measure, measured, f"≤ {MOST_S:.0f} s, ≤ {MOST_BYTES / 1e6:,.0f} MB", met)
