"""The report as text: the summary (brief.py), or everything (full.py); in colour on a terminal."""

import os
import re
import shutil
import sys
from typing import Final

from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import full
from cvtrace.analysis.report.brief import brief
from cvtrace.analysis.report.names import with_printable_texts
from cvtrace.analysis.storage.headers import Headers
from cvtrace.analysis.summary.assemble import analyse
from cvtrace.tracer.store import Trace

COLUMNS: Final = 80
"""Width in a pipe, and the least in a terminal."""
COLOURS: Final = {"YES": "\x1b[1;31m", "NO": "\x1b[1;32m", "INCONCLUSIVE": "\x1b[1;33m"}
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
ANSWERED: Final = re.compile(r"^(.*\?)  (YES|NO|INCONCLUSIVE)\b")
HEADINGS: Final = re.compile(r"^(What to do|How was it loaded\?|From where\?|phase  .*)", re.MULTILINE)


def render(
    report: Report, width: int = COLUMNS, color: bool = False, *, what_if: bool = False, verbose: bool = False
) -> str:
    """Return the summary as lines of at most `width` columns, with ANSI colours and predictions if wanted.

    `verbose` has everything that is known of the run, in as many lines as that takes.
    """
    report = with_printable_texts(report)
    if verbose:
        return full.render(report, width, color, what_if=what_if)
    lines = brief(report, width)
    if color:
        lines = [_coloured(line) for line in lines]
    if what_if:
        lines += ["", *full.predictions(report, width, color)]
    return "".join(f"{line}\n" for line in lines)


def _coloured(line: str) -> str:
    match = ANSWERED.match(line)
    if match:
        question, reply = match.groups()
        return f"{BOLD}{question}{PLAIN}  {COLOURS[reply]}{reply}{PLAIN}{line[match.end() :]}"
    return HEADINGS.sub(lambda heading: f"{BOLD}{heading[0]}{PLAIN}", line)


def terminal_style(is_terminal: bool) -> tuple[int, bool]:
    """Return width and whether to colour: for a terminal, or for a pipe or file."""
    if not is_terminal:
        return COLUMNS, False
    return max(shutil.get_terminal_size().columns, COLUMNS), "NO_COLOR" not in os.environ


def summary(trace: Trace, headers: Headers | None = None, *, verbose: bool = False) -> str:
    """Return the summary of a trace, as wide and as colourful as stderr is; `headers` as for `analyse`."""
    width, color = terminal_style(sys.stderr.isatty())
    return render(analyse(trace, headers), width, color, verbose=verbose)
