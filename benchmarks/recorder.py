"""What one waits for: until the target starts, after it ended, and for a long trace to be finished."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Row, Settings
from benchmarks.tracers import ENVIRONMENT
from cvtrace.lab.stack import Options, temporary
from cvtrace.probes.events import EVENT, Events, Kind, no_texts
from cvtrace.tracer.store import TraceWriter

EVENTS = 10_000_000
PART = 100_000


def run(settings: Settings) -> list[Row]:
    """Measure the start, the end, and the finishing of a trace."""
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        waits = [_start_and_end(settings.folder / "short.trace", stack.mountpoint) for _ in range(settings.repeats + 1)]
        attached = [_attached(settings.folder / "short.trace", stack.mountpoint) for _ in range(settings.repeats)]
    begin_s, attach_s = (statistics.median(column) for column in zip(*attached, strict=True))
    start_s, end_s = (statistics.median(column) for column in zip(*waits[1:], strict=True))  # the first warms its files
    finish_s, event_bytes = _finish(settings.folder / "long.trace")
    return [
        Row("from the command to the target's start", f"{start_s:.2f} s", "≤ 1 s", start_s <= 1),
        Row("from the target's end to the command's", f"{end_s:.2f} s", "≤ 1 s", end_s <= 1),
        Row("from `attach` to the begin of the recording", f"{begin_s:.2f} s", "≤ 1 s", begin_s <= 1),
        Row("`attach --for 0.1s`, in all", f"{attach_s:.2f} s"),
        Row(f"{EVENTS:,} events finished into Parquet", f"{finish_s:.1f} s", "≤ 20 s", finish_s <= 20),
        Row("bytes per event on disk", f"{event_bytes:.1f}", "≤ 16", event_bytes <= 16),
    ]


def _start_and_end(trace: Path, mount: Path) -> tuple[float, float]:
    """Record a program that prints the time of the system's clock since boot, to 10 ms."""
    shutil.rmtree(trace, ignore_errors=True)
    command = [sys.executable, "-m", "cvtrace", "run", "--probes", "ebpf", "--no-summary", "-o", str(trace)]
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    result = subprocess.run(
        [*command, "--mount", str(mount), "--", "cat", "/proc/uptime"],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    after_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    at_s = float(result.stdout.split()[0])
    return at_s - before_s, after_s - at_s


def _attached(trace: Path, mount: Path) -> tuple[float, float]:
    """Attach to a process that sleeps; return the seconds until the recording began, and until the command had ended."""
    shutil.rmtree(trace, ignore_errors=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        command = [sys.executable, "-m", "cvtrace", "attach", str(process.pid), "--for", "0.1s", "--no-summary"]
        before_s = time.monotonic()
        subprocess.run(
            [*command, "--probes", "ebpf", "-o", str(trace), "--mount", str(mount)],
            check=True,
            capture_output=True,
            env=ENVIRONMENT,
        )
        after_s = time.monotonic()
        process.kill()
    began_s = json.loads((trace / "meta.json").read_text())["clock"]["start_ns"] / 1e9
    return began_s - before_s, after_s - before_s


def _finish(path: Path) -> tuple[float, float]:
    """Finish a trace of many events whose fields look as in a load; return the seconds, and bytes per event."""
    shutil.rmtree(path, ignore_errors=True)
    writer = TraceWriter(path, {})
    random = np.random.default_rng(7)
    now_ns = 10**12
    for _ in range(EVENTS // PART):
        events = _events(random, now_ns)
        now_ns = int(events["ts"].max())
        writer.write(events, no_texts())
    began_s = time.monotonic()
    writer.finish()
    took_s = time.monotonic() - began_s
    size = (path / "events.parquet").stat().st_size
    shutil.rmtree(path)
    return took_s, size / EVENTS


def _events(random: np.random.Generator, after_ns: int) -> Events:
    """Return reads of a few threads at steps of some µs, drained from two CPUs one after the other."""
    events = np.zeros(PART, dtype=EVENT)
    events["ts"] = after_ns + np.cumsum(random.integers(200, 5000, PART))
    events["dur"] = random.integers(150, 3000, PART)
    events["tgid"] = 4711
    events["tid"] = 4711 + random.integers(0, 4, PART)
    events["kind"] = random.choice([Kind.SYS_READ, Kind.PAGE_READ, Kind.FUSE_SEND], PART, p=[0.5, 0.4, 0.1])
    events["cpu"] = random.integers(0, 2, PART)
    events["ret"] = 4096
    events["a"] = 7
    events["b"] = np.arange(PART) * 4096
    events["c"] = 4096
    return events
