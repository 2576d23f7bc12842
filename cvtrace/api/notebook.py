"""What a notebook shows of a run and of a comparison: HTML without scripts. Names from traces are text in it."""

from __future__ import annotations

from html import escape
from typing import Final

from cvtrace.analysis.bench import Bench
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import bench as bench_text
from cvtrace.analysis.report import text
from cvtrace.analysis.report.names import with_printable_texts

COLOURS: Final = {"YES": "#c62828", "NO": "#2e7d32", "INCONCLUSIVE": "#b26a00"}
WIDTH: Final = 100
WIDE: Final = 140
"""Columns of the table of an experiment."""


def trace_html(report: Report) -> str:
    """Return the summary, with the answer in colour."""
    lines = []
    for line in text.render(report, WIDTH).splitlines():
        match = text.ANSWERED.match(line)
        if match:
            question, reply = match.groups()
            colour = f'<b style="color:{COLOURS[reply]}">{reply}</b>'
            lines.append(f"<b>{escape(question)}</b>  {colour}{escape(line[match.end() :])}")
        else:
            lines.append(escape(line))
    return _block(lines)


def comparison_html(rendered: str) -> str:
    """Return what changed, as `cvtrace compare` prints it, with the first sentence in bold."""
    first, *others = rendered.splitlines()
    return _block([f"<b>{escape(first)}</b>", *map(escape, others)])


def bench_html(bench: Bench) -> str:
    """Return the table that `cvtrace bench` prints."""
    rendered = bench_text.render(with_printable_texts(bench), WIDE)
    return _block([escape(line) for line in rendered.splitlines()])


def _block(lines: list[str]) -> str:
    text_of_lines = "\n".join(lines)
    return f'<pre style="line-height:1.3;overflow-x:auto">{text_of_lines}</pre>'
