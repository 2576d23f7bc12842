"""A loop of one-byte reads: the worst case, every call recorded, none lost; and what the recorder itself takes for it."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.build import build
from benchmarks.results import Row, Settings, ratio
from benchmarks.tracers import Traced, available_tracers, cvtrace, last_json, untraced
from cvtrace.lab.stack import Options, temporary
from cvtrace.probes.events import Kind
from cvtrace.tracer.store import read_trace

CALLS = 2_000_000
CALLS_OTHERS = 20_000


def run(settings: Settings) -> list[Row]:
    """Measure ns per call untraced, under cvtrace and under other tools; count what was recorded and lost."""
    program = build("read_loop", settings.folder)
    data = settings.folder / "read_loop.data"
    data.write_bytes(bytes(CALLS))
    argv = [str(program), str(data), str(CALLS)]
    runs: list[Traced] = []
    lost_events: list[int] = []

    def traced(mount: Path) -> float:
        runs.append(cvtrace(argv, settings.folder / "read_loop.trace", "--mount", str(mount)))
        reads = int((read_trace(runs[-1].trace).events["kind"] == Kind.SYS_READ).sum())
        lost_events.append(sum(runs[-1].meta["lost"].values()) + max(0, CALLS - reads))
        return float(runs[-1].stdout)

    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:  # nothing is read from it
        cvtrace_ratio = ratio(settings.repeats, lambda: float(untraced(argv)), lambda: traced(stack.mountpoint))
    rows = [
        Row("one-byte reads, untraced", f"{cvtrace_ratio.plain:.0f} ns per call"),
        cvtrace_ratio.row("one-byte reads, cvtrace", 3),
    ]
    short = [str(program), str(data), str(CALLS_OTHERS)]
    for name, tool in available_tracers(lambda text: None).items():
        rows.append(
            ratio(1, lambda: float(untraced(short)), lambda tool=tool: float(last_json(tool(short, 0)))).row(  # type: ignore[misc]
                f"one-byte reads, {name}"
            )
        )
    per_event = statistics.median(run.meta["recorder"]["drain_cpu_s"] * 1e9 / run.meta["events"] for run in runs)
    memory = max(run.rss_bytes for run in runs) / 1e6
    return [
        *rows,
        Row(f"lost of {CALLS:,} reads", f"{max(lost_events):,}", "0", max(lost_events) == 0),
        Row("recorder CPU per event (drain and write)", f"{per_event:.0f} ns", "≤ 100 ns", per_event <= 100),
        Row("recorder's memory while it records (RSS)", f"{memory:.0f} MB", "≤ 200 MB", memory <= 200),
    ]
