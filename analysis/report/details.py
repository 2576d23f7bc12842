"""What the summary says of findings and tensors: one function for each block, each returning lines of any length."""

from typing import Final

from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.contract.report_schema import Report, Tensor

TOP_TENSORS: Final = 3
TOP_FINDINGS: Final = 3
WORTH_A_LINE: Final = 0.02
"""Share of the time waited for all bytes of the model that the tensors named must have together."""


def tensors(report: Report) -> list[str]:
    """Return the tensors that generation waited for longest, or if it waited for none, those that the load did."""
    named = [row for row in report.tensors if row.name]
    generation = any(row.generation_blocked_s for row in named)
    total = sum(_waited(row, generation) for row in report.tensors)
    top = sorted(named, key=lambda row: -_waited(row, generation))[:TOP_TENSORS]
    if not total or sum(_waited(row, generation) for row in top) < WORTH_A_LINE * total:
        return []
    told = ", ".join(_told(row, generation) for row in top if _waited(row, generation))
    return [f"Waited {'in generation' if generation else 'for tensors'} {seconds(total)}, most for: {told}."]


def _waited(row: Tensor, generation: bool) -> float:
    return row.generation_blocked_s if generation else row.blocked_s


def _told(row: Tensor, generation: bool) -> str:
    reads = row.generation_reads if generation else row.reads
    return f"{row.name} {seconds(_waited(row, generation))} ({pluralize(reads, 'read')}, {size(row.size_bytes)} large)"


def findings(report: Report) -> list[str]:
    """Return the first findings, each with its evidence and what to do."""
    lines = [f"{row.title[:1].upper()}{row.title[1:]}: {row.evidence}. Try: {row.advice}." for row in report.findings]
    more = len(lines) - TOP_FINDINGS
    return lines[:TOP_FINDINGS] + ([f"{pluralize(more, 'more finding')} in the JSON."] if more > 0 else [])
