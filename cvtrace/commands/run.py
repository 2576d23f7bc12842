"""`cvtrace run`: record a script or program, then print the summary."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrace.commands.console import say
from cvtrace.commands.recording import RecordingOptions, record_with, recording_options
from cvtrace.commands.warmup_first import warm_up

if TYPE_CHECKING:
    from cvtrace.probes.phases.own import OwnFunction


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Record a script or program, then print the summary.",
)
@click.option(
    "--python",
    metavar="PATH",
    help="Python for the script; default: that of the active environment, else cvtrace's own.",
)
@click.option("--user", metavar="NAME", help="Run the script as this user (root only); default: who called sudo.")
@click.option("--ort-profile", is_flag=True, help="Record the time of every operator with onnxruntime's own profiler.")
@click.option("--follow-daemons", is_flag=True, help="Continue until all processes that the script started have ended.")
@click.option(
    "--warmup",
    metavar="TRACE",
    type=click.Path(path_type=Path),
    help="Before the run, fetch the files that the run in TRACE used, or TRACE itself if it is a file or folder on CVMFS.",
)
@click.option(
    "--phases",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Functions of your own that mark phases, in TOML or JSON (docs/probes.md).",
)
@recording_options
@click.argument("arguments", metavar="SCRIPT [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    python: str | None,
    user: str | None,
    ort_profile: bool,
    follow_daemons: bool,
    warmup: Path | None,
    phases: Path | None,
    arguments: tuple[str, ...],
    recording: RecordingOptions,
) -> None:
    """Record SCRIPT (a .py, or any program after --) with its ARGS, then print the summary.

    The exit code is that of the script (128+n for signal n). cvtrace writes to stderr only. Under sudo the script runs
    as the user who called sudo, and the trace belongs to that user.
    """
    from cvtrace.tracer.folder import check_new
    from cvtrace.tracer.permission import check_may_run_as
    from cvtrace.tracer.run import record
    from cvtrace.tracer.target import NotStarted, find_command
    from cvtrace.tracer.user import calling_user, user_named

    caller = calling_user(os.environ)
    runs_as = user_named(user) if user else caller
    check_may_run_as(caller, runs_as)
    target = find_command(list(arguments), python, os.environ, runs_as, caller)
    if warmup is not None:
        check_new(recording.output, force=recording.force)
        warm_up(ctx, warmup, target.title)
    try:
        result = record_with(
            recording,
            caller,
            partial(record, target),
            own=() if phases is None else _own_functions(phases),
            ort_profile=ort_profile,
            follow_daemons=follow_daemons,
        )
    except NotStarted as error:
        say(str(error))
        ctx.exit(error.exit_code)
    ctx.exit(result.exit_code)


def _own_functions(path: Path) -> tuple[OwnFunction, ...]:
    """Return what the file of --phases declares. Raises BadParameter."""
    from cvtrace.probes.phases.own import BadPhases, read_own

    try:
        return read_own(path)
    except BadPhases as error:
        raise click.BadParameter(str(error), param_hint="--phases") from None
