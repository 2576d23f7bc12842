"""Expectations of a report, such as `decode.fuse_reads == 0`: parsed, never evaluated as code."""

import difflib
import operator
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.report_schema import Phase, Report
from cvtrace.analysis.contract.verdict_schema import ANSWERS
from cvtrace.analysis.joins.phases import NAMES

Value = float | str

EXPRESSION: Final = re.compile(r"^\s*(\w[\w.]*)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*$")
BASELINE: Final = "baseline"
OF_BASELINE: Final = re.compile(r"^(?:(?P<factor>[\d.eE+-]+)\s*\*\s*)?baseline$")
OPERATORS: Final[dict[str, Callable[[Value, Value], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
WORDS: Final = {
    "verdict": ANSWERS,
    "cache_state": ("cold", "warm", "hot", "mixed", "none"),
    "agreement": ("yes", "no", "unknown"),
    "hits_cvmfs": ANSWERS,
    "phase.cache_state": ("cold", "warm-disk", "warm-memory", "warm", "hot", "mixed", "none"),
}
"""Names whose value is a word, and the words."""
PHASE_WORDS: Final = {"hits_cvmfs": "hits_cvmfs", "cache_state": "phase.cache_state"}
"""Columns of phases that are words -> the entry of WORDS."""
NUMBERS: Final = tuple(
    each.name for each in fields(Phase) if each.name not in ("name", "classes", "start_s", *PHASE_WORDS)
)
VERDICT: Final = ("tokens", "fuse_requests", "fuse_reads", "fuse_read_bytes", "http_fetches", "http_bytes", "blocked_s")
TRACE: Final = ("lost", "events", "duration_s", "exit_code")
SUGGESTED: Final = 2
"""Names that may be meant, at most."""
TOKEN_TIMES: Final = ("median_s", "p99_s", "max_s")


class BadExpression(Exception):
    """An expression that cannot be understood; the message says why and what is known."""


@dataclass(frozen=True)
class Expectation:
    """One parsed expression."""

    text: str
    name: str
    comparison: str
    expected: Value
    factor: float | None = None
    """Of `baseline`, where the value is a multiple of what the baseline has."""


@dataclass(frozen=True)
class Outcome:
    """Whether an expectation is met, and what the report says. `actual` is None if the trace does not have it."""

    expectation: Expectation
    met: bool
    actual: Value | None


def spelt(phase: str) -> str:
    """Return how a phase that a script names is written in an expression: `warm up` as `warm_up`."""
    return re.sub(r"\W", "_", phase)


def known_names(phase_names: Iterable[str] = ()) -> str:
    """Return what may stand on the left, for people; `named` are the phases of the script's own."""
    phases = ", ".join(dict.fromkeys((*NAMES, *map(spelt, phase_names))))
    return (
        f"verdict, cache_state, agreement, verdict.<{'|'.join((*VERDICT, 'tokens_affected'))}>, "
        f"trace.<{'|'.join(TRACE)}>, decode.<{'|'.join(TOKEN_TIMES)}>, "
        f"for each of {phases} and total: .<{'|'.join(NUMBERS)}>, .<{'|'.join(LABELS)}> (seconds), "
        f"and for each but total: .<{'|'.join(PHASE_WORDS)}>"
    )


def parse(text: str, phase_names: Iterable[str] = ()) -> Expectation:
    """Read one expression; `named` are the phases that the script names. Raises BadExpression."""
    phases = {*NAMES, *map(spelt, phase_names)}
    match = EXPRESSION.match(text)
    if not match:
        raise BadExpression(f"cannot read '{text}': write NAME ==|!=|<|<=|>|>= VALUE, e.g. 'decode.fuse_reads == 0'")
    name, comparison, value = match.groups()
    if not _is_known(name, phases):
        raise BadExpression(
            f"unknown name '{name}' in '{text}'{_meant(name, phases)}; known are: {known_names(phase_names)}"
        )
    tail = name.partition(".")[2]
    words = WORDS.get(PHASE_WORDS.get(tail, name))
    if words:
        word = value.strip("'\"").lower()
        if comparison not in ("==", "!=") or word not in (*words, BASELINE):
            raise BadExpression(f"'{name}' in '{text}' is one of {', '.join(words)}: compare it by == or !=")
        return Expectation(text, name, comparison, word, 1.0 if word == BASELINE else None)
    return Expectation(text, name, comparison, *right_side(value, text))


def right_side(value: str, text: str) -> tuple[float, float | None]:
    """Read a number, or `baseline`, or a multiple of it; return the number, and the factor. Raises BadExpression."""
    match = OF_BASELINE.match(value)
    try:
        if match:
            return 0.0, float(match["factor"] or 1)
        return float(value.replace(",", "").replace("_", "")), None
    except ValueError:
        raise BadExpression(
            f"'{value}' in '{text}' is not a number, and not a multiple of the baseline such as '1.1 * baseline'"
        ) from None


def _meant(name: str, phases: Collection[str]) -> str:
    """Return a question for the known names that are most like this one."""
    tails = (*NUMBERS, *LABELS)
    names = [word for word in WORDS if word not in PHASE_WORDS.values()]
    names += [f"verdict.{tail}" for tail in (*VERDICT, "tokens_affected")]
    names += [f"trace.{tail}" for tail in TRACE] + [f"decode.{tail}" for tail in TOKEN_TIMES]
    names += [f"{phase}.{tail}" for phase in sorted(phases) for tail in (*tails, *PHASE_WORDS)]
    names += [f"total.{tail}" for tail in tails]
    head, _, tail = name.lower().partition(".")
    ending = [each for each in names if tail and each.startswith(f"{head}.") and each.endswith(tail)]
    suggestions = list(
        dict.fromkeys([*ending, *difflib.get_close_matches(name.lower(), names, n=SUGGESTED, cutoff=0.7)])
    )
    return f": did you mean {' or '.join(suggestions[:SUGGESTED])}?" if suggestions else ""


def _is_known(name: str, phases: Collection[str]) -> bool:
    head, _, tail = name.partition(".")
    if name in WORDS:
        return name not in PHASE_WORDS.values()
    if head == "verdict":
        return tail in (*VERDICT, "tokens_affected")
    if head == "trace":
        return tail in TRACE
    if head == "total":
        return tail in NUMBERS or tail in LABELS
    if head == "decode" and tail in TOKEN_TIMES:
        return True
    return head in phases and (tail in NUMBERS or tail in LABELS or tail in PHASE_WORDS)


def check(report: Report, expectations: list[Expectation], baseline: Report | None = None) -> list[Outcome]:
    """Hold a report against expectations. What the trace does not have (a phase that did not occur, a count that was not observed) meets none."""
    outcomes = []
    for each in expectations:
        actual, expected = value_of(report, each.name), expected_of(each, baseline)
        met = actual is not None and expected is not None and OPERATORS[each.comparison](actual, expected)
        outcomes.append(Outcome(each, met, actual))
    return outcomes


def expected_of(expectation: Expectation, baseline: Report | None) -> Value | None:
    """Return what is expected, which the baseline may say; None if it has no such value."""
    if expectation.factor is None:
        return expectation.expected
    value = None if baseline is None else value_of(baseline, expectation.name)
    return value if value is None or isinstance(value, str) else expectation.factor * value


def value_of(report: Report, name: str) -> Value | None:
    """Return what a known name stands for in a report, None if the trace does not have it or could not observe it."""
    head, _, tail = name.partition(".")
    if name == "verdict":
        return report.verdict.generation_hits_cvmfs
    if name == "cache_state":
        return report.cache_state
    if name == "agreement":
        answers = {each.agree for each in report.checks}
        return "no" if False in answers else ("yes" if answers == {True} else "unknown")
    if head == "verdict":
        value = getattr(report.verdict, tail)
        return None if value is None else float(len(value) if tail == "tokens_affected" else value)
    if head == "trace":
        trace_value = getattr(report.trace, tail)
        return None if trace_value is None else float(trace_value)
    rows = [row for row in report.phases if head in ("total", spelt(row.name))]
    if not rows:
        return None
    if tail in TOKEN_TIMES:
        return _token_time(report, tail)
    if tail in PHASE_WORDS:
        word: str | None = getattr(rows[0], tail)
        return word
    values = [row.classes.get(tail, 0.0) if tail in LABELS else getattr(row, tail) for row in rows]
    return None if None in values else float(sum(values))


def why_unknown(report: Report, name: str) -> str:
    """Return why `value_of` knows nothing of a name."""
    head = name.partition(".")[0]
    if head in NAMES and all(row.name != head for row in report.phases):
        return f"this trace has no {head}"
    return f"{name} was not observed"


def _token_time(report: Report, name: str) -> float | None:
    if not report.tokens:
        return None
    share = {"median_s": 50, "p99_s": 99, "max_s": 100}[name]
    return float(np.percentile([token.wall_s for token in report.tokens], share))
