"""`cvtrace attach`: record a running process."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cvtrace.commands import tensor_names
from cvtrace.commands.console import NOTHING_TO_DRAW_ON, note, progress, say, tell_summary
from cvtrace.commands.formats import refuse_useless, refuse_with
from cvtrace.probes.ladder import CHOICES


@click.command(name="attach")
@click.argument("pid", type=click.IntRange(min=1))
@click.option(
    "--for", "duration", metavar="TIME", help="Record for so long, such as 30s; default: until it ends or Ctrl-C."
)
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the trace.")
@click.option("--force", is_flag=True, help="Replace a trace that is there.")
@click.option("--probes", type=click.Choice(CHOICES), default="auto", show_default=True, help="How to observe.")
@click.option("--mount", "mounts", metavar="PATH", multiple=True, help="Observe this mount; default: all of CVMFS.")
@click.option("--redact", is_flag=True, help="Hash the names of files and folders in the trace.")
@click.option("--keep-names", is_flag=True, help="Keep the names and places of the model's tensors in the trace.")
@click.option("--watch", is_flag=True, help="Show what happens in the last row of the terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Print everything, not only the summary of 30 lines.")
@click.option("--no-summary", is_flag=True, help="Print no summary at the end.")
@click.pass_context
def command(
    ctx: click.Context,
    pid: int,
    duration: str | None,
    output: Path | None,
    force: bool,
    probes: str,
    mounts: tuple[str, ...],
    redact: bool,
    keep_names: bool,
    watch: bool,
    verbose: bool,
    no_summary: bool,
) -> None:
    """Record the running process PID with its threads, and what it starts from now on; then print the summary.

    Ends with the process, after the time of --for, or with Ctrl-C, which ends the recording and not the process.
    """
    from cvtrace.lab.quantities import parse_duration_s
    from cvtrace.tracer.attach import attach
    from cvtrace.tracer.process import find_process
    from cvtrace.tracer.session import Options
    from cvtrace.tracer.user import who_asked
    from cvtrace.tracer.watch import watching

    refuse_useless(ctx, output, force=force, probes=probes, no_summary=no_summary)
    refuse_with(ctx, "keep_names", "--keep-names", redact, "--redact, which hashes names")

    for_s = None if duration is None else parse_duration_s(duration)
    process = find_process(pid)
    asked = who_asked(os.environ)
    with watching(watch) as shown:
        if watch and shown is None:
            say(NOTHING_TO_DRAW_ON)
        options = Options(
            output, force, probes, mounts, asked, say, progress(), redact=redact, watch=shown, note=note()
        )
        recording = attach(process, options, for_s)
    if keep_names:
        tensor_names.keep_names(recording.path, asked)
    if not no_summary:
        tell_summary(recording.path, asked, verbose=verbose)
