"""The summary: at most 30 lines at 80 columns, the answer first, what to do last, and nothing that is zero or agrees.

`cvtrace report -v` has everything (full.py).
"""

import re
import shlex
from typing import Final

from rich.cells import cell_len

from cvtrace.analysis.contract.quantities import pluralize, seconds
from cvtrace.analysis.contract.report_schema import Finding, Report
from cvtrace.analysis.contract.verdict_schema import GENERATION, INCONCLUSIVE
from cvtrace.analysis.report import brief_answers as answers
from cvtrace.analysis.report import code_lines, failed, programs, sentences
from cvtrace.analysis.report.brief_table import table
from cvtrace.analysis.report.lines import GAP, wrapped
from cvtrace.analysis.report.names import printable

LINES: Final = 30
QUESTION: Final = 20
"""Cells of a question that is answered in the same line."""
MOST_ROWS: Final = 12
FEWEST_ROWS: Final = 3
TOP: Final = 3
"""Findings that are told."""
EACH: Final = 2
"""Lines of an answer, and of a finding."""
FAILED: Final = 6
"""Lines of what failed."""
REASON: Final = 4
"""Lines of why there is no answer."""
SHOWN_ABOVE: Final = frozenset({"cut_off"})
"""Findings that the first lines have told already."""
PLAIN: Final = re.compile(r"[\w./:@%+=,-]+", re.ASCII)
"""A path that a shell takes as it is."""
COMMAND_LINES: Final = 3


def brief(report: Report, width: int) -> list[str]:
    """Return the summary as at most LINES lines of at most `width` cells."""
    head = [*_head(report, width), *_of_program(report, width), *_of_code(report, width)]
    closing = _report_command(report, width)
    advice = _advice(report, width)
    rows: list[str] = []
    while True:
        room = LINES - len(head) - len(closing) - sum(len(block) + 1 for block in (advice,) if block)
        rows = table(report, width, min(room - 1, MOST_ROWS))
        if len(rows) >= min(FEWEST_ROWS, len(report.phases)) or not advice:
            break
        advice = _advice(report, width, most=_number_of_findings(advice) - 1)
    blocks = [head, rows, advice]
    lines = [line for block in blocks if block for line in [*block, ""]]
    return [*lines[: LINES - len(closing)], *closing]


def _head(report: Report, width: int) -> list[str]:
    lines = [line for sentence in failed.sentences(report) for line in wrapped(sentence, width, most=EACH)][:FAILED]
    lines += wrapped(answers.title(report, width), width, most=EACH)
    for sentence in answers.trouble(report):
        lines += wrapped(sentence, width, most=EACH)
    question, reply = answers.headline(report)
    lines += ["", *wrapped(f"{question}  {reply}", width, subsequent_indent="  ", most=EACH)]
    generation_lines = answers.generation(report)
    room = max((len(label) for label, _ in generation_lines), default=0) + len(GAP)
    for label, text in generation_lines:
        most = REASON if report.verdict.answer == INCONCLUSIVE else EACH
        lines += wrapped(
            text, width, initial_indent=f"  {label:<{room}}", subsequent_indent=" " * (2 + room), most=most
        )
    load_lines = [*answers.load(report), *answers.prefetched(report)]
    lines += [""] if load_lines else []
    for label, text in load_lines:
        lines += wrapped(
            text, width, initial_indent=f"{label:<{QUESTION}}", subsequent_indent=" " * QUESTION, most=EACH
        )
    for sentence in (*sentences.operators(report), *sentences.access_log(report)):  # what was asked for by an option
        lines += wrapped(sentence, width, most=EACH)
    return lines


def _of_program(report: Report, width: int) -> list[str]:
    """Return which imports and files a program waited for."""
    if report.verdict.question == GENERATION:
        return []
    return [line for block in programs.blocks(report, width) for line in ["", *block]]


def _of_code(report: Report, width: int) -> list[str]:
    """Return which lines of code waited longest."""
    block = code_lines.block(report, width)
    return ["", *block] if block else []


def _advice(report: Report, width: int, most: int = TOP) -> list[str]:
    """Return what to do, the most useful first."""
    findings = sorted((each for each in report.findings if each.id not in SHOWN_ABOVE), key=_usefulness)
    if not findings or most <= 0:
        return []
    further = len(findings) - most
    note = f" ({pluralize(further, 'more finding')}: -v)" if further > 0 else ""
    lines = [f"What to do{note}"]
    for number, finding in enumerate(findings[:most], 1):
        lines += _finding_lines(finding, number, width)
    return lines


def _number_of_findings(advice: list[str]) -> int:
    return sum(line[2:3].isdigit() for line in advice)


def _usefulness(finding: Finding) -> tuple[bool, float]:
    """Order findings: what makes the run or its recording wrong, then what saves most."""
    wrong = finding.severity == "high" and finding.saves_s is None
    return not wrong, -(finding.saves_s or 0.0)


def _finding_lines(finding: Finding, number: int, width: int) -> list[str]:
    """Return a finding in EACH lines: with its title if there is room for that, with its saving in any case."""
    saves = f" (saves up to {seconds(finding.saves_s)})" if finding.saves_s else ""
    indent = " " * 5
    for text in (f"{finding.title}: {finding.advice}", finding.advice):
        lines = wrapped(
            f"{text[:1].upper()}{text[1:]}{saves}", width, initial_indent=f"  {number}. ", subsequent_indent=indent
        )
        if len(lines) <= EACH:
            return lines
    words = text[: EACH * width].split(" ")
    while len(lines) > EACH and words:  # the saving is not what is cut
        words.pop()
        lines = wrapped(f"{' '.join(words)} …{saves}", width, initial_indent=f"  {number}. ", subsequent_indent=indent)
    return lines


def _report_command(report: Report, width: int) -> list[str]:
    """Return the command that shows everything, in one line, or cut so that a shell puts it together again."""
    path, hint = printable(report.trace.path), "    (-v for everything)"
    line = f"More: cvtrace report {path if PLAIN.fullmatch(path) else shlex.quote(path)} --open"
    if cell_len(line) + len(hint) <= width:
        return [line + hint]
    if cell_len(line) <= width:
        return [line]
    pieces = [line[start : start + width - 1] for start in range(0, len(line), width - 1)]
    if PLAIN.fullmatch(path) and len(pieces) <= COMMAND_LINES:
        return [*(f"{piece}\\" for piece in pieces[:-1]), pieces[-1]]
    return ["More: cvtrace report TRACE --open" + hint]
