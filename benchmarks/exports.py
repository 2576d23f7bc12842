"""Every form of the report: how long it takes to be written from a trace on disk, in how much memory, and how large it is.

JSON is what the analysis alone takes: what another form takes beyond is the writing of it.
"""

from __future__ import annotations

import shutil
import statistics
import sys

from benchmarks.big_trace import big_trace
from benchmarks.report_cost import report_cost
from benchmarks.results import Row, Settings
from benchmarks.synthetic_trace import write_to

SIZES = (100_000, 1_000_000)
FORMS = ("json", "html", "perfetto", "speedscope", "folded", "openmetrics", "csv", "parquet")


def run(settings: Settings) -> list[Row]:
    """Write traces of 0.1 and 1 million requests in every form, each in a process of its own."""
    rows = []
    for requests in SIZES:
        path = settings.folder / f"big-{requests}.trace"
        shutil.rmtree(path, ignore_errors=True)
        trace = big_trace(requests)
        events = len(trace.events)
        write_to(trace, path)
        del trace
        for form in FORMS:
            print(f"benchmark: {requests:,} requests as {form}", file=sys.stderr)
            repeats = settings.repeats if requests == min(SIZES) else 1  # half a minute each
            costs = [report_cost(path, form) for _ in range(repeats)]
            wall_s, cpu_s = statistics.median(c.wall_s for c in costs), statistics.median(c.cpu_s for c in costs)
            size, rss = costs[0].size_bytes, max(c.rss_bytes for c in costs)
            measure = f"{requests:,} requests ({events:,} events) from disk to {form}"
            cost = f"{wall_s:.1f} s (CPU {cpu_s:.1f} s), {rss / 1e6:,.0f} MB"
            rows.append(Row(measure, f"{cost}; {size / 1e6:,.2f} MB written"))
        shutil.rmtree(path)
    return rows
