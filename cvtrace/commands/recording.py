"""What `run` and `attach` have in common: their options, and what is done before and after a recording."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cvtrace.commands import job_names, tensor_names
from cvtrace.commands.console import NOTHING_TO_DRAW_ON, note, print_summary, progress, say
from cvtrace.commands.refusals import refuse_useless, refuse_with
from cvtrace.probes.ladder import CHOICES, Settings

if TYPE_CHECKING:
    from cvtrace.probes.phases.own import OwnFunction
    from cvtrace.tracer.options import Options, RecordingResult
    from cvtrace.tracer.user import User

_SIZE: Final = re.compile(r"(\d+)\s*([kmg]?)(i?)b?", re.IGNORECASE)
BUFFER_MIN_BYTES: Final = 64_000
BUFFER_MAX_BYTES: Final = 2_000_000_000
MAX_SIZE_MIN_BYTES: Final = 1_000_000

OPTIONS: Final = (
    click.option(
        "-o",
        "--output",
        metavar="DIR",
        type=click.Path(path_type=Path),
        callback=job_names.expanded,
        help="Folder of the trace; {job}, {task}, {rank} and {host} in it are those of the batch job.",
    ),
    click.option("--force", is_flag=True, help="Replace a trace that is there."),
    click.option(
        "--probes", type=click.Choice(CHOICES), default="auto", show_default=True, help="Probe to observe with."
    ),
    click.option(
        "--mount", "mounts", metavar="PATH", multiple=True, help="Observe this mount; default: all CVMFS mounts."
    ),
    click.option(
        "--for",
        "duration",
        metavar="TIME",
        help="Record for this long, such as 30s; the process continues. Default: until it ends.",
    ),
    click.option(
        "--max-size",
        metavar="SIZE",
        help="Keep at most this much on disk while recording, such as 500MB: the oldest events are dropped.",
    ),
    click.option("--buffer", metavar="SIZE", help="Size of the buffer for events (eBPF); default: 32MB."),
    click.option(
        "--cost", is_flag=True, help="Measure the cost of the BPF programs, and write it to the trace's meta.json."
    ),
    click.option("--stacks", is_flag=True, help="Sample the stacks of the threads, for the lines of code that waited."),
    click.option("--redact", is_flag=True, help="Hash arguments and names before they are written."),
    click.option("--keep-names", is_flag=True, help="Keep the names and offsets of the model's tensors in the trace."),
    click.option("--watch", is_flag=True, help="Show progress in the last row of the terminal."),
    click.option("-v", "--verbose", is_flag=True, help="Print everything, not only the summary."),
    click.option("--no-summary", is_flag=True, help="Print no summary at the end."),
)


@dataclass(frozen=True)
class RecordingOptions:
    """The values of OPTIONS."""

    output: Path | None
    force: bool
    probes: str
    mounts: tuple[str, ...]
    duration: str | None
    max_size: str | None
    buffer: str | None
    cost: bool
    stacks: bool
    redact: bool
    keep_names: bool
    watch: bool
    verbose: bool
    no_summary: bool

    def settings(self) -> Settings:
        """Return what concerns the probe. Raises BadParameter."""
        return Settings(parse_buffer_bytes(self.buffer) if self.buffer else None, self.cost)


FIELDS: Final = tuple(field.name for field in dataclasses.fields(RecordingOptions))


def recording_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and their values as `recording`; those that would have no effect are refused."""

    @functools.wraps(command)
    def with_recording(*args: Any, **values: Any) -> None:
        recording = RecordingOptions(**{name: values.pop(name) for name in FIELDS})
        context = click.get_current_context()
        refuse_useless(
            context,
            recording.output,
            force=recording.force,
            probes=recording.probes,
            no_summary=recording.no_summary,
        )
        refuse_with(context, "keep_names", "--keep-names", recording.redact, "--redact, which hashes names")
        command(*args, recording=recording, **values)

    decorated: Callable[..., None] = with_recording
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


def record_with(
    recording: RecordingOptions,
    owner: User,
    record: Callable[[Options], RecordingResult],
    own: tuple[OwnFunction, ...] = (),
    **of_verb: bool,
) -> RecordingResult:
    """Make a recording, then keep names and print the summary as was chosen; `own` are functions of the user's
    own, `of_verb` fields of Options that one verb has."""
    from cvtrace.lab.quantities import parse_duration_s
    from cvtrace.tracer.options import Options
    from cvtrace.tracer.watch import watching

    for_s = None if recording.duration is None else parse_duration_s(recording.duration)
    max_bytes = None if recording.max_size is None else _max_bytes(recording.max_size)
    with watching(recording.watch) as watch:
        if recording.watch and watch is None:
            say(NOTHING_TO_DRAW_ON)
        options = Options(
            recording.output,
            recording.force,
            recording.probes,
            recording.mounts,
            owner,
            say,
            progress(),
            replace(recording.settings(), own=own),
            recording.redact,
            watch,
            note(),
            for_s=for_s,
            max_bytes=max_bytes,
            stacks=recording.stacks,
            **of_verb,
        )
        result = record(options)
    if recording.keep_names:
        tensor_names.keep_names(result.path, owner)
    if not recording.no_summary:
        print_summary(result.path, owner, verbose=recording.verbose)
    return result


def parse_buffer_bytes(text: str) -> int:
    """Return the bytes in `text`: KB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024. Raises BadParameter."""
    size_bytes = _bytes_in(text, "--buffer")
    if not BUFFER_MIN_BYTES <= size_bytes <= BUFFER_MAX_BYTES:
        raise click.BadParameter(f"{text} is not between 64KB and 2GB", param_hint="--buffer")
    return size_bytes


def _max_bytes(text: str) -> int:
    size_bytes = _bytes_in(text, "--max-size")
    if size_bytes < MAX_SIZE_MIN_BYTES:
        raise click.BadParameter(f"{text} is less than 1MB, which is a second or less", param_hint="--max-size")
    return size_bytes


def _bytes_in(text: str, option: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"'{text}' is not a size such as 128MB", param_hint=option)
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base ** " kmg".index(match[2].lower() or " "))
