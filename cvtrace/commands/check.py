"""`cvtrace check`: check a trace by expressions; for continuous integration."""

from __future__ import annotations

from pathlib import Path

import click

from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing, say
from cvtrace.probes.visible import printable


@click.command(name="check")
@click.argument("trace", type=TRACE)
@click.argument("expressions", metavar="EXPR...", nargs=-1, required=True)
def command(trace: Path, expressions: tuple[str, ...]) -> None:
    """Test TRACE against conditions such as 'decode.fuse_reads == 0' or 'load.wall_s < 2'.

    Prints each condition that is not met, with the actual value, and then exits with 1. Write the name of a phase of the script with _ for every character that is no letter and no digit.
    """
    from cvtrace.analysis import analyse
    from cvtrace.analysis.checks.expectations import BadExpression, check, parse, why_unknown
    from cvtrace.tracer.store import read_trace

    with doing("analysing the trace"):
        report = analyse(read_trace(trace))
    phase_names = [phase.name for phase in report.phases]
    try:
        expectations = [parse(expression, phase_names) for expression in expressions]
    except BadExpression as error:
        raise click.UsageError(str(error)) from None
    if report.trace.damage:
        say(report.trace.damage)
    outcomes = check(report, expectations)
    for outcome in outcomes:
        if not outcome.met:
            name = outcome.expectation.name
            actual = (
                f"{name} is {outcome.actual:.12g}"
                if isinstance(outcome.actual, float)
                else f"{name} is {outcome.actual}"
            )
            if outcome.actual is None:
                actual = why_unknown(report, name)
            click.echo(printable(f"failed: {outcome.expectation.text}  ({actual})"))
    if not all(outcome.met for outcome in outcomes):
        raise click.exceptions.Exit(1)
