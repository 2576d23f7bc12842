"""What the summary says of findings and tensors: one function for each block, each returning lines of any length."""

from typing import Final

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.storage_schema import Tensor

TOP_TENSORS: Final = 3
TOP_FINDINGS: Final = 3
WORTH_A_LINE: Final = 0.02
"""Share of the time waited for all bytes of the model that the tensors named must have together."""


def tensors(report: Report) -> list[str]:
    """Return the tensors that generation waited for longest, or if it waited for none, those that the load did."""
    rows = [row for row in report.tensors if row.name]
    generation = any(row.generation_blocked_s for row in rows)
    total = sum(_waited_s(row, generation) for row in report.tensors)
    top = sorted(rows, key=lambda row: -_waited_s(row, generation))[:TOP_TENSORS]
    if not total or sum(_waited_s(row, generation) for row in top) < WORTH_A_LINE * total:
        return []
    names = ", ".join(_tensor_in_words(row, generation) for row in top if _waited_s(row, generation))
    return [f"Waited {'in generation' if generation else 'for tensors'} {seconds(total)}, most for: {names}."]


def _waited_s(row: Tensor, generation: bool) -> float:
    return row.generation_blocked_s if generation else row.blocked_s


def _tensor_in_words(row: Tensor, generation: bool) -> str:
    reads = row.generation_reads if generation else row.reads
    return (
        f"{row.name} {seconds(_waited_s(row, generation))} ({pluralize(reads, 'read')}, {size(row.size_bytes)} large)"
    )


def findings(report: Report) -> list[str]:
    """Return the first findings, each with its evidence and what to do."""
    lines = [f"{row.title[:1].upper()}{row.title[1:]}: {row.evidence}. Try: {row.advice}." for row in report.findings]
    further = len(lines) - TOP_FINDINGS
    return lines[:TOP_FINDINGS] + ([f"{pluralize(further, 'more finding')} in the JSON."] if further > 0 else [])
