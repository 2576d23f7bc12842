"""A fleet as text for a terminal: the answer first, at most some 40 lines."""

from typing import Final

from cvtrace.analysis.contract.fleet_report import FleetReport, SharedObject
from cvtrace.analysis.report.fleet import sentences
from cvtrace.analysis.report.lines import fitted, wrapped
from cvtrace.analysis.report.names import with_printable_texts

MOST_SLOW: Final = 5
MOST_FILES: Final = 3
MOST_SKIPPED: Final = 10
NAME: Final = 12
COLUMN: Final = 10
QUANTILES: Final = ("least", "p10", "median", "p90", "p99", "most")


def render(report: FleetReport, width: int = 80, *, verbose: bool = False) -> str:
    """Return the summary as lines of at most `width` columns; `verbose` lists all rows that JSON has."""
    report = with_printable_texts(report)
    most_slow, most_files, most_skipped = (
        (len(report.slowest), len(report.files), len(report.skipped))
        if verbose
        else (MOST_SLOW, MOST_FILES, MOST_SKIPPED)
    )
    lines = [fitted(sentences.title(report), width), ""]
    for question, answer in sentences.verdicts(report):
        lines += wrapped(f"{question}  {answer}", width)
    lines += ["", *_spreads(report), ""]
    lines += _block(
        "Slowest", [sentences.slow(row) for row in report.slowest[:most_slow]] or ["no node is slower"], width
    )
    lines += _block("Stragglers", sentences.stragglers(report), width)
    lines += _block("Failed", sentences.failed(report), width)
    lines += _block("The start", sentences.start(report), width)
    shared = sentences.shared(report)
    lines += _block(
        "Shared", [*shared, *(sentences.shared_file(row) for row in _shared_files(report)[:most_files])], width
    )
    lines += _block("Evictions", sentences.evicting(report), width)
    lines += _block("Clocks", sentences.clocks(report), width)
    lines += _block("Notes", list(report.notes), width)
    skipped = [f"{row.trace}: {row.reason}" for row in report.skipped[:most_skipped]]
    further = len(report.skipped) - len(skipped)
    lines += _block("Skipped", [*skipped, *([f"and {further:,} more: see -v"] if further else [])], width)
    return "".join(f"{line}\n" for line in lines)


def _shared_files(report: FleetReport) -> list[SharedObject]:
    return [row for row in report.files if row.nodes > 1]


def _spreads(report: FleetReport) -> list[str]:
    head = " " * NAME + "".join(f"{name:>{COLUMN}}" for name in QUANTILES) + f"{'nodes':>{COLUMN - 2}}"
    rows = [
        f"{sentences.FIGURES[each.name]:<{NAME}}"
        + "".join(f"{sentences.value(each, getattr(each, name)):>{COLUMN}}" for name in QUANTILES)
        + f"{each.nodes:>{COLUMN - 2},}"
        for each in report.spreads
    ]
    return [head, *rows]


def _block(name: str, texts: list[str], width: int) -> list[str]:
    """Return sentences beside the name of what they are about."""
    lines = []
    for number, text in enumerate(texts):
        first = f"{name if number == 0 else '':<{NAME}}"
        lines += wrapped(text, width, initial_indent=first, subsequent_indent=" " * (NAME + 2))
    return lines
