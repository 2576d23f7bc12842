"""What the text report says about what if: a table of predictions, and what they assume."""

from typing import Final

from rich.table import Table

from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.whatif_schema import Prediction, WhatIf

COLUMNS: Final = ("load", "prefill", "decode")
UNKNOWN: Final = "?"


def table(what_if: WhatIf, report: Report) -> Table:
    """Return one row per prediction: the run, and the phases one waits for."""
    first, *body = rows(what_if, report)
    head = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    head.add_column(first[0], vertical="bottom")
    for name in first[1:]:
        head.add_column(name.replace("error in ", "error in\n"), justify="right", no_wrap=True, vertical="bottom")
    for row in body:
        head.add_row(*row)
    return head


def rows(what_if: WhatIf, report: Report) -> list[list[str]]:
    """Return the cells of the table, the heading first."""
    phases = [name for name in COLUMNS if any(row.name == name for row in report.phases)]
    walls = {row.name: row.wall_s for row in report.phases}
    rows_of_table = [
        ["what if", "run", *phases, "error in the lab"],
        ["as it was", seconds(sum(walls.values())), *(seconds(walls[name]) for name in phases), ""],
    ]
    for each in what_if.predictions:
        after = {row.name: row.predicted_s for row in each.phases}
        cells = [each.wall_s, *(after.get(name) for name in phases)]
        error = "" if each.lab_error is None else f"±{100 * each.lab_error:.0f} %"
        rows_of_table.append([each.what, *(UNKNOWN if cell is None else seconds(cell) for cell in cells), error])
    return rows_of_table


def sentences(what_if: WhatIf) -> list[str]:
    """Return what the predictions rest on."""
    link = []
    if what_if.rtt_s is not None:
        link.append(f"round trip {seconds(what_if.rtt_s)} ({what_if.rtt_from})")
    if what_if.bytes_per_s is not None:
        link.append(f"bandwidth at least {size(what_if.bytes_per_s)}/s")
    lines = [f"The network in this run: {', '.join(link)}."] if link else []
    reasons = dict.fromkeys(each.reason for each in what_if.predictions if each.reason)
    lines += [f"No prediction: {reason}." for reason in reasons]
    return lines + [line for each in what_if.predictions for line in _assumed(each)]


def _assumed(prediction: Prediction) -> list[str]:
    if prediction.reason or not prediction.assumptions:
        return []
    return [f"{prediction.what[0].upper()}{prediction.what[1:]}: {'; '.join(prediction.assumptions)}."]
