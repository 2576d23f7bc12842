"""What is said of the lines of code that waited (`--stacks`)."""

from collections.abc import Sequence
from typing import Final

from cvtrace.analysis.contract.quantities import seconds
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.stack_schema import CodeLine
from cvtrace.analysis.report.lines import columns, fitted

TOP: Final = 3
"""Lines that the summary names."""
MOST: Final = 20
"""Lines of the full report."""
PLACE: Final = 44
FUNCTION: Final = 24
HARDLY_S: Final = 0.001


def block(report: Report, width: int, most: int = TOP) -> list[str]:
    """Return the lines that waited longest, as a table, and how much time no sample explains."""
    stacks = report.stacks
    if stacks is None:
        return []
    rows = _chosen(report)[:most]
    if not rows:
        return ["No line of code is known to have waited: there are no samples."] if stacks.waited_s else []
    head = ["line that waited", "function", "for CVMFS", "in all"]
    cells = [
        [where(row, PLACE), fitted(row.function, FUNCTION), *map(_time, (row.blocked_s, row.waited_s))] for row in rows
    ]
    if stacks.unsampled_s >= HARDLY_S:
        cells.append(["(no sample)", "", *map(_time, (stacks.unsampled_blocked_s, stacks.unsampled_s))])
    return columns([head, *cells], width)


def _chosen(report: Report) -> Sequence[CodeLine]:
    """Return the lines that waited for CVMFS; if none did, those that waited for anything."""
    return [row for row in report.lines if row.blocked_s >= HARDLY_S] or report.lines


def where(row: CodeLine, most: int) -> str:
    """Return file and line in so many cells, the end of the path rather than its begin."""
    file = row.file or row.library or "?"
    number = f":{row.line}" if row.line else ""
    parts = file.split("/")
    while len(parts) > 1 and len("/".join(parts)) + len(number) > most:
        parts.pop(0)
    return fitted("/".join(parts), most - len(number)) + number


def _time(value_s: float) -> str:
    return seconds(value_s) if value_s else "–"
