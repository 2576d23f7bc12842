"""Everything that is known of a run, as text: the answer, its proof, a table of phases, the state of the caches, the agreement."""

import io
import textwrap
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cvtrace.analysis.contract.classes import GROUPS
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.analysis.contract.verdict_schema import GENERATION
from cvtrace.analysis.joins.phases import NAMES
from cvtrace.analysis.report import code_lines, details, failed, predicted, programs, sentences
from cvtrace.analysis.report.brief_answers import QUESTIONS
from cvtrace.analysis.report.client import client
from cvtrace.analysis.report.lines import NO_BREAK, TOGETHER
from cvtrace.analysis.report.names import printable

COLOURS: Final = {"yes": "bold red", "no": "bold green", "inconclusive": "bold yellow"}
MOST_ROWS: Final = 15
"""Of a table of imports or places."""
LONGEST_NAME: Final = 18
"""Of a phase that a script named."""
SOURCES: Final = ("from page / disk / network", "page/disk/network", "page/disk\n/network")
"""Headings of the column of where bytes came from: the first that there is room for."""
NOT_OBSERVED: Final = "n/a"
SHOWN_GROUPS: Final = tuple(group for group in GROUPS if group != "unattributed")
BLOCKS: Final = (
    sentences.times,
    details.tensors,
    sentences.caches,
    client,
    sentences.agreement,
    sentences.access_log,
    sentences.unobserved,
)
"""What follows the table of phases."""


def render(report: Report, width: int, color: bool = False, *, what_if: bool = False) -> str:
    """Return the text as lines of at most `width` columns, with ANSI colours and predictions if wanted."""
    out = io.StringIO()
    console = _console(out, width, color)
    for line in failed.sentences(report):
        _print(console, line)
    _print(console, sentences.title(report))
    console.print()
    question, reply = QUESTIONS[report.verdict.question], report.verdict.answer
    console.print(Text(f"{question}  ", style="bold").append(reply.upper(), style=COLOURS[reply]))
    for line in sentences.answer(report):
        _print(console, line, indent=2)
    _of_program(console, report, width)
    for line in code_lines.block(report, width, code_lines.MOST):
        console.print(Text(line), soft_wrap=True)
    if report.phases:
        console.print()
        tables = [_phases(report, sources) for sources in SOURCES]
        console.print(next((each for each in tables if _natural_width(console, each) <= width), tables[-1]))
    console.print()
    for line in details.findings(report):
        _print(console, f"→ {line}")
    if report.findings:
        console.print()
    for block in BLOCKS:
        for line in block(report):
            _print(console, line)
    if what_if:
        console.print()
        _predictions(console, report)
    console.print(Text(f"Full report: cvtrace report {printable(report.trace.path)} --open"), soft_wrap=True)
    return "".join(f"{line}\n" for line in _lines(out))


def _of_program(console: Console, report: Report, width: int) -> None:
    """Print which runs, imports and places a program waited for."""
    if report.verdict.question == GENERATION:
        return
    for label, sentence in [*(programs.runs(report)), *programs.imported(report)]:
        _print(console, f"{label}: {sentence}." if label else f"{sentence}.", indent=2)
    for block in programs.blocks(report, width, MOST_ROWS):
        console.print()
        for line in block:
            console.print(Text(line), soft_wrap=True)


def predictions(report: Report, width: int, color: bool) -> list[str]:
    """Return what the run would take if something were otherwise, as lines."""
    out = io.StringIO()
    _predictions(_console(out, width, color), report)
    return _lines(out)


def _console(out: io.StringIO, width: int, color: bool) -> Console:
    return Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,  # names of phases are not ours
        emoji=False,
        legacy_windows=False,
    )


def _lines(out: io.StringIO) -> list[str]:
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _predictions(console: Console, report: Report) -> None:
    if report.what_if is None:
        return
    console.print(predicted.table(report.what_if, report))
    console.print()
    for line in predicted.sentences(report.what_if):
        _print(console, line)


def _natural_width(console: Console, table: Table) -> int:
    """Return the columns a table takes where there is room for all of it."""
    return console.measure(table, options=console.options.update(max_width=1000)).maximum


def _print(console: Console, sentence: str, indent: int = 0) -> None:
    """Print a sentence; no line ends between a number and its unit."""
    margin = " " * indent
    lines = textwrap.wrap(
        TOGETHER.sub(NO_BREAK, printable(sentence)),
        console.width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(Text(line.replace(NO_BREAK, " ")), soft_wrap=True)


def _phases(report: Report, sources: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("phase", no_wrap=True, vertical="bottom")
    for name in ("wall", *SHOWN_GROUPS, "reads", sources, "fetched"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for row in report.phases:
        name = printable(row.name)
        name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        name = f"{name} ×{row.count:,}" if row.name == "decode" or (row.name not in NAMES and row.count > 1) else name
        table.add_row(name, seconds(row.wall_s), *_times(row), *_counts(row))
    return table


def _times(row: Phase) -> list[str]:
    if row.fuse_requests is None:
        return [NOT_OBSERVED] * len(SHOWN_GROUPS)
    return [seconds(getattr(row, f"{group}_s")) for group in SHOWN_GROUPS]


def _counts(row: Phase) -> list[str]:
    return [
        NOT_OBSERVED if row.fuse_reads is None else f"{row.fuse_reads:,}",
        NOT_OBSERVED if row.fuse_requests is None else _sources(row),
        NOT_OBSERVED if row.http_bytes is None else size(row.http_bytes),
    ]


def _sources(row: Phase) -> str:
    """Return where the bytes came from, in percent: page cache, client's disk cache, network."""
    parts = (row.page_cache_bytes, row.disk_bytes, row.network_bytes)
    total = sum(part or 0 for part in parts)
    if not total:
        return "–"
    return "/".join("–" if part is None else str(round(100 * part / total)) for part in parts) + " %"
