"""`cvtrace check`: check a trace by expressions; for continuous integration."""

from __future__ import annotations

from pathlib import Path

import click

from cvtrace.commands.console import doing, say
from cvtrace.probes.visible import printable


@click.command(name="check")
@click.argument("trace", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("expressions", metavar="EXPR...", nargs=-1, required=True)
def command(trace: Path, expressions: tuple[str, ...]) -> None:
    """Check TRACE by expressions such as 'decode.fuse_reads == 0' or 'load.wall_s < 2'.

    A phase that the script names is known by its name, with _ for what is no letter and no digit. Prints those that fail, with the actual value, and exits with 1 if there are any.
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
