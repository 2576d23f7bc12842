"""`cvtrace compare`: what changed from one run, or set of runs, to another."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrace.commands.outputs import STDOUT, refuse_existing, writing

if TYPE_CHECKING:
    from cvtrace.analysis import Report


@click.command(name="compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default=None,
    help="Write to this file.  [default: the terminal]",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def command(a: Path, b: Path, form: str, output: Path | None, force: bool) -> None:
    """Tell what changed from A to B, each a trace or a folder with traces of several runs.

    Class by class, phase by phase: times, tokens, reads, fetches, verdicts. Of several runs, medians, and where the difference
    lies with 95 % confidence; in brackets, if that may be none.
    """
    refuse_existing(output, force)
    from cvtrace.analysis.compare import compare
    from cvtrace.analysis.report import comparison

    found = compare(a, _reports(a), b, _reports(b))
    to_stdout = output is None or output == STDOUT
    width = max(shutil.get_terminal_size().columns, 80) if to_stdout and sys.stdout.isatty() else 80
    rendered = comparison.as_json(found) if form == "json" else comparison.render(found, width)
    encoding = (sys.stdout.encoding or "utf-8") if to_stdout else "utf-8"
    with writing(output) as stream:
        stream.write(rendered.encode(encoding, "replace"))


def _reports(path: Path) -> list[Report]:
    """Return the reports of the traces at a path, one after the other: only reports are kept."""
    from cvtrace.analysis import analyse
    from cvtrace.analysis.compare import traces_in
    from cvtrace.tracer.store import read_trace

    return [analyse(read_trace(each)) for each in traces_in(path)]
