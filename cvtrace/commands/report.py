"""`cvtrace report`: turn a trace into text, JSON and other forms."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

FORMATS: Final = ("text", "json")
LATER: Final = ("html", "perfetto", "speedscope", "folded", "parquet", "csv")


@click.command(name="report")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice((*FORMATS, *LATER)), default="text", show_default=True, help="What to write."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def command(trace: Path, form: str, output: Path | None) -> None:
    """Turn TRACE into a report."""
    if form not in FORMATS:
        raise click.UsageError(f"--format {form} is not yet in this version: {', '.join(FORMATS)}")
    from cvtrace.analysis import analyse
    from cvtrace.analysis.report import json, text
    from cvtrace.tracer.store import read_trace

    found = analyse(read_trace(trace))
    if form == "json":
        rendered = json.render(found)
    else:
        terminal = output is None and sys.stdout.isatty()
        width = max(shutil.get_terminal_size().columns, text.COLUMNS) if terminal else text.COLUMNS
        rendered = text.render(found, width, color=terminal and "NO_COLOR" not in os.environ)
    if output is None:
        click.echo(rendered, nl=False)
        return
    try:
        output.write_text(rendered, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror}") from None
