"""`cvtrace run`: record a script or program, then print the summary."""

from __future__ import annotations

import os
from functools import partial

import click

from cvtrace.commands.console import say
from cvtrace.commands.recording import RecordingOptions, record_with, recording_options


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Record a script or program, then print the summary.",
)
@click.option(
    "--python", metavar="PATH", help="Interpreter for the script; default: of the active environment, or cvtrace's own."
)
@click.option("--user", metavar="NAME", help="Run the script as this user (root only); default: who called sudo.")
@click.option("--ort-profile", is_flag=True, help="Have onnxruntime tell the time of every operator.")
@click.option("--follow-daemons", is_flag=True, help="Record on until all that the script started has ended.")
@recording_options
@click.argument("arguments", metavar="SCRIPT [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    python: str | None,
    user: str | None,
    ort_profile: bool,
    follow_daemons: bool,
    arguments: tuple[str, ...],
    recording: RecordingOptions,
) -> None:
    """Record SCRIPT (a .py, or any program after --) with its ARGS, unchanged, then print the summary.

    The exit code is the script's own (128+n for signal n); cvtrace speaks on stderr only. Under sudo the script runs
    as the user who called it, and the trace is theirs.
    """
    from cvtrace.tracer.permission import check_may_run_as
    from cvtrace.tracer.run import record
    from cvtrace.tracer.target import NotStarted, find_command
    from cvtrace.tracer.user import user_named, who_asked

    caller = who_asked(os.environ)
    runs_as = user_named(user) if user else caller
    check_may_run_as(caller, runs_as)
    target = find_command(list(arguments), python, os.environ, runs_as, caller)
    try:
        result = record_with(
            recording,
            caller,
            partial(record, target),
            ort_profile=ort_profile,
            follow_daemons=follow_daemons,
        )
    except NotStarted as error:
        say(str(error))
        ctx.exit(error.exit_code)
    ctx.exit(result.exit_code)
