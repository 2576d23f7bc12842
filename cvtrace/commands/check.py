"""`cvtrace check`: check a trace or a bench folder by expressions; for continuous integration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing, say
from cvtrace.commands.outputs import STDOUT, unwritable, writing
from cvtrace.commands.refusals import refuse_without
from cvtrace.probes.visible import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvtrace.analysis.bench import Bench
    from cvtrace.analysis.checks.bench_expectations import BenchExpectation
    from cvtrace.analysis.checks.expectations import Expectation
    from cvtrace.analysis.contract.report_schema import Report
    from cvtrace.analysis.report.junit import Case

PERCENT: Final = 5.0


@click.command(name="check")
@click.argument("trace", type=TRACE)
@click.argument("expressions", metavar="[EXPR]...", nargs=-1)
@click.option(
    "--against",
    metavar="BASELINE",
    type=TRACE,
    help="Another trace or bench folder, which conditions call baseline. Of bench folders, without EXPR: no figure is worse than there.",
)
@click.option(
    "--tolerance",
    metavar="PERCENT",
    type=click.FloatRange(min=0, max=1000),
    default=PERCENT,
    show_default=True,
    help="With --against and without EXPR: how much worse a figure may be.",
)
@click.option(
    "--junit", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="Write JUnit XML."
)
@click.pass_context
def command(
    context: click.Context,
    trace: Path,
    expressions: tuple[str, ...],
    against: Path | None,
    tolerance: float,
    junit: Path | None,
) -> None:
    """Test TRACE, which may be a bench folder, against conditions such as 'decode.fuse_reads == 0', 'load.wall_s < 2' or, of a bench, 'cold.load_s < 3'.

    Prints each condition that is not met, with the actual value, and then exits with 1. In names of phases of the script, write _ for every character that is not a letter or a digit.
    """
    refuse_without(
        context, "tolerance", "--tolerance", against is not None and not expressions, "--against and no EXPR"
    )
    if not expressions and against is None:
        raise click.UsageError("nothing to test: write conditions such as 'load.wall_s < 2', or --against BASELINE")
    _refuse_other_file(junit)
    from cvtrace.analysis.bench import is_bench
    from cvtrace.tracer.errors import TraceError

    properties: dict[str, str] = {}
    try:
        if is_bench(trace):
            cases = _cases_of_bench(trace, expressions, against, tolerance / 100, properties)
        else:
            cases = _cases_of_trace(trace, expressions, against, properties)
    except TraceError as error:
        _write_junit(junit, trace, [_unreadable(error)], properties)
        raise
    _write_junit(junit, trace, cases, properties)
    for case in cases:
        if case.failure is not None:
            _print_failure(case, to_stderr=junit == STDOUT)
    if any(case.failure is not None for case in cases):
        raise click.exceptions.Exit(1)
    if sys.stderr.isatty():
        say("the condition is met" if len(cases) == 1 else f"all {len(cases)} conditions are met")


def _refuse_missing_baseline(expectations: Sequence[Expectation | BenchExpectation], against: Path | None) -> None:
    if against is None and any(each.factor is not None for each in expectations):
        raise click.UsageError("a condition names the baseline: name its trace or bench folder with --against")


def _print_failure(case: Case, *, to_stderr: bool) -> None:
    click.echo(printable(f"failed: {case.name}  ({case.failure})"), err=to_stderr)


def _unreadable(error: Exception) -> Case:
    from cvtrace.analysis.report.junit import Case

    return Case("the folder can be read", error=str(error))


def _cases_of_trace(
    trace: Path, expressions: tuple[str, ...], against: Path | None, properties: dict[str, str]
) -> list[Case]:
    from cvtrace.analysis.bench import is_bench
    from cvtrace.analysis.checks.expectations import BadExpression, check, parse
    from cvtrace.analysis.report.junit import Case

    report = _report(trace)
    if against is not None and is_bench(against):
        raise click.UsageError(f"{trace} is a trace and {against} a bench folder: compare two of a kind")
    if not expressions:
        raise click.UsageError(
            "one trace cannot tell a change from noise: write conditions such as 'load.wall_s <= 1.2 * baseline'"
        )
    phase_names = [phase.name for phase in report.phases]
    try:
        expectations = [parse(expression, phase_names) for expression in expressions]
    except BadExpression as error:
        raise click.UsageError(str(error)) from None
    _refuse_missing_baseline(expectations, against)
    baseline = None if against is None else _report(against)
    properties |= {"target": " ".join(report.trace.target), "host": report.trace.host, "started": report.trace.started}
    for each in (report, baseline):
        if each is not None and each.trace.damage:
            say(each.trace.damage)
    outcomes = check(report, expectations, baseline)
    return [
        Case(outcome.expectation.text, None if outcome.met else _reason(report, outcome, baseline))
        for outcome in outcomes
    ]


def _report(trace: Path) -> Report:
    from cvtrace.analysis import analyse
    from cvtrace.tracer.store import read_trace

    with doing("analysing the trace"):
        return analyse(read_trace(trace))


def _reason(report: Report, outcome: Any, baseline: Report | None) -> str:
    """Return what the trace has instead of what is expected."""
    from cvtrace.analysis.checks.expectations import value_of, why_unknown

    name = outcome.expectation.name
    if outcome.actual is None:
        return why_unknown(report, name)
    text = f"{name} is {_in_words(outcome.actual)}"
    if outcome.expectation.factor is None or baseline is None:
        return text
    base = value_of(baseline, name)
    return f"{text}; of the baseline, {why_unknown(baseline, name) if base is None else f'it is {_in_words(base)}'}"


def _in_words(value: float | str) -> str:
    return f"{value:.12g}" if isinstance(value, float) else value


def _cases_of_bench(
    path: Path, expressions: tuple[str, ...], against: Path | None, tolerance: float, properties: dict[str, str]
) -> list[Case]:
    from cvtrace.analysis.bench import is_bench, read_bench
    from cvtrace.analysis.checks.bench_expectations import check_bench, parse_for_bench
    from cvtrace.analysis.checks.expectations import BadExpression
    from cvtrace.analysis.report.junit import Case

    bench = read_bench(path)
    properties |= {"host": bench.info.host, "created": bench.info.created, "command": " ".join(bench.info.command)}
    if against is not None and not is_bench(against):
        from cvtrace.tracer.store import read_trace

        read_trace(against)  # raises TraceError if it is no trace either
        raise click.UsageError(f"{path} is a bench folder and {against} a trace: compare two of a kind")
    baseline = None if against is None else read_bench(against)
    if baseline is not None and not expressions:
        return _against(bench, baseline, tolerance)
    try:
        expectations = [parse_for_bench(expression, bench) for expression in expressions]
    except BadExpression as error:
        raise click.UsageError(str(error)) from None
    _refuse_missing_baseline(expectations, against)
    outcomes = check_bench(bench, expectations, baseline)
    return [Case(outcome.text, None if outcome.met else outcome.reason) for outcome in outcomes]


def _against(bench: Bench, baseline: Bench, tolerance: float) -> list[Case]:
    """Return a case for each figure that the bench and its baseline have."""
    from cvtrace.analysis.comparison.experiments import compare_benches, judge
    from cvtrace.analysis.report.bench_comparison import sentence
    from cvtrace.analysis.report.junit import Case

    comparison = compare_benches(baseline, bench)
    for note in comparison.notes:
        say(f"note: {printable(note)}")
    cases = [Case(each.text, None if each.met else sentence(each.change)) for each in judge(comparison, tolerance)]
    return cases or [Case("the baseline has figures to compare with", "the two folders have no state in common")]


def _refuse_other_file(junit: Path | None) -> None:
    """Raise UsageError if there is a file that an earlier check did not write: CI writes the same file again and again."""
    if junit is None or junit == STDOUT or not os.path.isfile(junit):  # noqa: PTH113 - false also where it may not be looked at
        return
    with unwritable(junit), junit.open("rb") as stream:
        is_from_check = b"<testsuites" in stream.read(200)
    if not is_from_check:
        raise click.UsageError(f"{junit} is already there and is no JUnit XML: choose another name")


def _write_junit(junit: Path | None, subject: Path, cases: list[Case], properties: dict[str, str]) -> None:
    if junit is None:
        return
    from cvtrace.analysis.report.junit import render

    with writing(junit) as stream:
        stream.write(render(str(subject), cases, properties))
