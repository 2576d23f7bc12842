"""A fleet of made-up traces: time and memory of `cvtrace fleet` on the cores of this machine, from 10 nodes to a thousand.

`python -m benchmarks fleet`; CVTRACE_BENCH_NODES=10,100 takes other numbers of nodes. Memory is that of all processes together.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.fleet_traces import write_fleet
from benchmarks.results import Row, Settings

NODES: Final = (10, 100, 1000)
EVENTS: Final = 100_000
"""Of each node."""
MOST_S: Final = 360.0
MOST_BYTES: Final = 8e9
MOST_GROWTH: Final = 1.2
"""Of the time per event, from the second number of nodes to the last."""
SAMPLE_S: Final = 0.2


@dataclass(frozen=True)
class Cost:
    """What a run took; `cpu_s` and `memory_bytes` are of all its processes."""

    wall_s: float
    cpu_s: float
    memory_bytes: int


def run(settings: Settings) -> list[Row]:
    """Report on fleets of growing size, the same traces the first time and the last."""
    numbers = [int(each) for each in os.environ.get("CVTRACE_BENCH_NODES", "").split(",") if each] or list(NODES)
    folder = settings.folder / "fleet"
    per_event_ns, rows = [], []
    try:
        for nodes in numbers:
            print(f"benchmark: a fleet of {nodes:,} nodes", file=sys.stderr)
            events = write_fleet(folder / str(nodes), nodes, EVENTS)
            cost = measured(folder / str(nodes), settings.folder / "fleet.json")
            per_event_ns.append(cost.wall_s / events * 1e9)
            rows += _rows(nodes, events, cost, per_event_ns[-1])
            shutil.rmtree(folder / str(nodes))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(per_event_ns) > 2:
        growth = per_event_ns[-1] / per_event_ns[1]
        measure = f"time per event of a fleet, {numbers[-1]:,} nodes against {numbers[1]:,}"
        rows.append(Row(measure, f"{growth:.2f} x", f"≤ {MOST_GROWTH} x", growth <= MOST_GROWTH))
    return rows


def _rows(nodes: int, events: int, cost: Cost, per_event_ns: float) -> list[Row]:
    measure = f"fleet of {nodes:,} nodes, {events:,} events"
    time_text = f"{cost.wall_s:.1f} s (CPU {cost.cpu_s:.1f} s), {per_event_ns:,.0f} ns per event"
    memory_text = f"{cost.memory_bytes / 1e6:,.0f} MB"
    if nodes < NODES[-1]:
        return [Row(measure, time_text), Row(f"{measure}, memory of all processes", memory_text)]
    return [
        Row(measure, time_text, f"≤ {MOST_S:.0f} s", cost.wall_s <= MOST_S),
        Row(
            f"{measure}, memory of all processes",
            memory_text,
            f"≤ {MOST_BYTES / 1e6:,.0f} MB",
            cost.memory_bytes <= MOST_BYTES,
        ),
    ]


def measured(traces: Path, output: Path) -> Cost:
    """Run `cvtrace fleet` on the traces, which has to succeed."""
    command = [sys.executable, "-m", "cvtrace", "fleet", str(traces), "--format", "json", "-o", str(output), "--force"]
    began_s, before = time.monotonic(), os.times()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak = _Peak(process.pid)
        code = process.wait()
    after = os.times()
    assert code == 0, f"cvtrace fleet ended with {code}"
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.monotonic() - began_s, cpu_s, peak.stop())


class _Peak:
    """Looks at the memory of a process and its descendants again and again: what they share counts once (PSS)."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._most = 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the most bytes that were seen."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            total = 0
            with suppress(psutil.Error):
                for each in (self._process, *self._process.children(recursive=True)):
                    with suppress(psutil.Error):
                        total += each.memory_full_info().pss
            self._most = max(self._most, total)
