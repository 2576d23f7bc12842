"""The runs as a table, and what links them with the marks of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvtrace.analysis.bench.schema import Bench
from cvtrace.analysis.report import bench as text
from cvtrace.analysis.report.html.tables import MOST, Column, Table
from cvtrace.analysis.report.names import printable


def links(states: Sequence[str]) -> dict[str, Any]:
    """Return what marks and rows are linked by: the state of a run stands where a report has a phase."""
    spans: dict[str, Any] = {"phase": [[]] * len(states), "token": [], "fetch": []}
    return {"phases": list(states), "files": [], "spans": spans, "heats": [], "fetches": {}}


def tables(bench: Bench) -> list[Table]:
    """Return the table of the runs, in the order in which they were made."""
    runs = bench.runs[:MOST]
    columns = [
        Column("run", "n", [run.order for run in runs]),
        Column("round", "n", [run.round + 1 for run in runs]),
        Column("state", "text", [run.state for run in runs]),
        Column("load", "s", [run.load_s for run in runs]),
        Column("first token", "s", [run.first_token_s for run in runs]),
        Column("tokens/s", "n", [None if run.tokens_per_s is None else round(run.tokens_per_s, 1) for run in runs]),
        Column("total", "s", [run.total_s for run in runs]),
        Column("reads", "n", [run.reads for run in runs]),
        Column("fetches", "n", [run.fetches for run in runs]),
        Column("fetched", "bytes", [run.bytes_fetched for run in runs]),
        Column("traced", "text", ["yes" if run.traced else "" for run in runs]),
        Column("left out because", "text", [printable(run.reason) for run in runs]),
    ]
    if bench.info.sweep:
        columns.insert(
            2, Column(bench.info.sweep.axis, "text", [text.value_of_sweep(bench, run.sweep_value) for run in runs])
        )
    if len(bench.info.variants) > 1:
        columns.insert(2, Column("variant", "text", [printable(run.variant) for run in runs]))
    by_state = {"phase": [bench.info.states.index(run.state) if run.state in bench.info.states else -1 for run in runs]}
    return [Table("runs", "All runs", tuple(columns), by_state, len(bench.runs))] if runs else []
