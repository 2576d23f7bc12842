"""`cvtrace run`: record a script or program, then print the summary."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

from cvtrace.commands import tensor_names
from cvtrace.commands.console import NOTHING_TO_DRAW_ON, note, progress, say, tell_summary
from cvtrace.commands.formats import refuse_useless, refuse_with
from cvtrace.probes.ladder import CHOICES, Settings

_SIZE: Final = re.compile(r"(\d+)\s*([kmg]?)(i?)b?", re.IGNORECASE)
BUFFER_MIN_BYTES: Final = 64_000
BUFFER_MAX_BYTES: Final = 2_000_000_000


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Record a script or program, then print the summary.",
)
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the trace.")
@click.option("--force", is_flag=True, help="Replace a trace that is there.")
@click.option("--probes", type=click.Choice(CHOICES), default="auto", show_default=True, help="How to observe.")
@click.option(
    "--python", metavar="PATH", help="Interpreter for the script; default: of the active environment, or cvtrace's own."
)
@click.option("--user", metavar="NAME", help="Run the script as this user (root only); default: who called sudo.")
@click.option("--mount", "mounts", metavar="PATH", multiple=True, help="Observe this mount; default: all of CVMFS.")
@click.option("--ort-profile", is_flag=True, help="Have onnxruntime tell the time of every operator.")
@click.option("--buffer", metavar="SIZE", help="Room for events that wait to be written (eBPF); default: 32MB.")
@click.option("--cost", is_flag=True, help="Measure what the recording costs in the kernel, for the trace's meta.json.")
@click.option("--redact", is_flag=True, help="Hash the names of files and folders in the trace.")
@click.option("--keep-names", is_flag=True, help="Keep the names and places of the model's tensors in the trace.")
@click.option("--follow-daemons", is_flag=True, help="Record on until all that the script started has ended.")
@click.option("--watch", is_flag=True, help="Show what happens in the last row of the terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Print everything, not only the summary of 30 lines.")
@click.option("--no-summary", is_flag=True, help="Print no summary at the end.")
@click.argument("arguments", metavar="SCRIPT [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    output: Path | None,
    force: bool,
    probes: str,
    python: str | None,
    user: str | None,
    mounts: tuple[str, ...],
    ort_profile: bool,
    buffer: str | None,
    cost: bool,
    redact: bool,
    keep_names: bool,
    follow_daemons: bool,
    watch: bool,
    verbose: bool,
    no_summary: bool,
    arguments: tuple[str, ...],
) -> None:
    """Record SCRIPT (a .py, or any program after --) with its ARGS, unchanged, then print the summary.

    The exit code is the script's own (128+n for signal n); cvtrace speaks on stderr only. Under sudo the script runs
    as the user who called it, and the trace is theirs.
    """
    from cvtrace.tracer.permission import check_may_run_as
    from cvtrace.tracer.session import Options, record
    from cvtrace.tracer.target import NotStarted, find_command
    from cvtrace.tracer.user import user_named, who_asked
    from cvtrace.tracer.watch import watching

    refuse_useless(ctx, output, force=force, probes=probes, no_summary=no_summary)
    refuse_with(ctx, "keep_names", "--keep-names", redact, "--redact, which hashes names")

    asked = who_asked(os.environ)
    runs_as = user_named(user) if user else asked
    check_may_run_as(asked, runs_as)
    found = find_command(list(arguments), python, os.environ, runs_as, asked)
    settings = Settings(parse_buffer_bytes(buffer) if buffer else None, cost)
    with watching(watch) as shown:
        if watch and shown is None:
            say(NOTHING_TO_DRAW_ON)
        options = Options(
            output,
            force,
            probes,
            mounts,
            asked,
            say,
            progress(),
            ort_profile,
            settings,
            redact,
            shown,
            note(),
            follow_daemons,
        )
        try:
            recording = record(found, options)
        except NotStarted as error:
            say(str(error))
            ctx.exit(error.exit_code)
    if keep_names:
        tensor_names.keep_names(recording.path, asked)
    if not no_summary:
        tell_summary(recording.path, asked, verbose=verbose)
    ctx.exit(recording.exit_code)


def parse_buffer_bytes(text: str) -> int:
    """Return the bytes in `text`: KB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024. Raises BadParameter."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"'{text}' is not a size such as 128MB", param_hint="--buffer")
    base = 1024 if match[3] else 1000
    size_bytes: int = int(match[1]) * base ** " kmg".index(match[2].lower() or " ")
    if not BUFFER_MIN_BYTES <= size_bytes <= BUFFER_MAX_BYTES:
        raise click.BadParameter(f"{text} is not between 64KB and 2GB", param_hint="--buffer")
    return size_bytes
