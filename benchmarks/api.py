"""The Python API on a long trace: opening it and its READs as a DataFrame, against the report of the same trace as JSON."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.long_trace import write_long_trace
from benchmarks.report_cost import command_cost, report_cost
from benchmarks.results import Row, Settings, ratio

EVENTS = 1_000_000
READS = "import sys, cvtrace; print(len(cvtrace.open(sys.argv[1]).reads))"
ALL = (
    "import sys, cvtrace; trace = cvtrace.open(sys.argv[1]); print(*(len(trace.table(name)) for name in trace.TABLES))"
)
IMPORT = "import cvtrace"
NOTHING = "pass"


def run(settings: Settings) -> list[Row]:
    """Measure in processes of their own, each beside a report."""
    trace = settings.folder / "api.trace"
    events = write_long_trace(trace, EVENTS)
    rows = []
    for code, what, most in (
        (READS, "open a trace and use its READs", 1.0),
        (ALL, "open a trace and use all tables", None),
    ):
        print(f"benchmark: {what}", file=sys.stderr)
        measured = ratio(
            settings.repeats, lambda: report_cost(trace, "json").cpu_s, lambda code=code: _cpu_s(code, trace)
        )
        rows.append(measured.row(f"{what} of {events:,} events, CPU time against the report as JSON", most))
    shutil.rmtree(trace)
    repeats = 4 * settings.repeats
    beside = ratio(repeats, lambda: _cpu_s(NOTHING, trace), lambda: _cpu_s(IMPORT, trace))
    rows.append(beside.row("`import cvtrace`, CPU time of the interpreter against one that imports nothing"))
    return rows


def _cpu_s(code: str, trace: Path) -> float:
    return command_cost([sys.executable, "-c", code, str(trace)]).cpu_s
