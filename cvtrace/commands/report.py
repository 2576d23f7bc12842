"""`cvtrace report`: turn a trace into text, JSON and other forms."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from cvtrace.analysis import Report

FORMATS: Final = ("text", "json")
LATER: Final = ("html", "perfetto", "speedscope", "folded", "parquet", "csv")
STDOUT: Final = Path("-")


@click.command(name="report")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice((*FORMATS, *LATER)), default="text", show_default=True, help="What to write."
)
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Look for the model's files here; default: where the target opened them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=STDOUT,
    help="Write to this file, replacing what is there.",
)
def command(trace: Path, form: str, model: Path | None, output: Path) -> None:
    """Turn TRACE into a report.

    The names of tensors come from the headers of the model's files, as far as they can still be read.

    A trace that was cut off is reported as far as it goes; where it ends is said on stderr, too.
    """
    if form not in FORMATS:
        raise click.UsageError(f"--format {form} is not yet in this version: {', '.join(FORMATS)}")
    from cvtrace.analysis import analyse
    from cvtrace.analysis.headers import headers_of
    from cvtrace.tracer.store import read_trace
    from cvtrace.tracer.user import who_asked

    recorded = read_trace(trace)
    found = analyse(recorded, headers_of(recorded, who_asked(os.environ), model))
    to_stdout = output == STDOUT
    encoding = (sys.stdout.encoding or "utf-8") if to_stdout else "utf-8"
    rendered = _rendered(found, form, encoding, terminal=to_stdout and sys.stdout.isatty())
    if to_stdout:
        click.echo(rendered.encode(encoding, "replace").decode(encoding), nl=False)
    else:
        try:
            output.write_text(rendered, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"cannot write {output}: {error.strerror}") from None
    if found.trace.damage:
        click.echo(f"cvtrace: {found.trace.damage}", err=True)


def _rendered(found: Report, form: str, encoding: str, *, terminal: bool) -> str:
    from cvtrace.analysis.report import json, text

    if form == "json":
        return json.render(found, ascii_only=not encoding.lower().startswith("utf"))
    width = max(shutil.get_terminal_size().columns, text.COLUMNS) if terminal else text.COLUMNS
    return text.render(found, width, color=terminal and "NO_COLOR" not in os.environ)
