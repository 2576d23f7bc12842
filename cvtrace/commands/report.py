"""`cvtrace report`: turn a trace into text, JSON and other forms."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cvtrace.commands.analysis_options import analysis_options
from cvtrace.commands.console import doing, say
from cvtrace.commands.exports import EXPORTS, check_place, export
from cvtrace.commands.formats import is_set, refuse_force_for_nothing, refuse_without, wanted_form
from cvtrace.commands.outputs import (
    STDOUT,
    destination,
    encoding_of,
    output_options,
    show_in_browser,
    writing,
)

if TYPE_CHECKING:
    from cvtrace.analysis import Report
    from cvtrace.analysis.attribution.study import Study
    from cvtrace.analysis.contract.report_options import ReportOptions
    from cvtrace.analysis.storage.tables import Tables

FORMATS: Final = ("text", "json", "html")
STACKS: Final = ("folded", "speedscope")
PICTURES: Final = ("perfetto", "speedscope", "folded", "openmetrics")
"""Forms that have neither predictions nor what others counted."""
NO_PICTURE: Final = "--format text, html, json, csv or parquet"


@click.command(name="report")
@click.argument("trace", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice((*FORMATS, *EXPORTS)),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Look for the model's files here; default: where the target opened them.",
)
@output_options(
    "Write to this file; of csv and parquet, a folder or a .zip.  [default: the terminal; TRACE.html with --open]"
)
@click.option(
    "--stacks",
    type=click.Choice(("both", "on-cpu", "waiting")),
    default="both",
    show_default=True,
    help="Of folded and speedscope.",
)
@click.option("--open", "show", is_flag=True, help="Open the report (of HTML, if not told otherwise) in the browser.")
@click.option("-v", "--verbose", is_flag=True, help="Print everything, not only the summary of 30 lines (text).")
@analysis_options
@click.pass_context
def command(
    context: click.Context,
    trace: Path,
    form: str,
    model: Path | None,
    output: Path | None,
    force: bool,
    stacks: str,
    show: bool,
    verbose: bool,
    options: ReportOptions,
) -> None:
    """Turn TRACE into a report.

    The names of tensors come from the headers of the model's files, as far as they can still be read.

    A trace that was cut off is reported as far as it goes; where it ends is said on stderr, too.
    """
    form = wanted_form(context, form, output, show=show, available=(*FORMATS, *EXPORTS))
    if show and form in EXPORTS:
        raise click.UsageError(f"--open shows {', '.join(FORMATS)}: --format {form} is for other programs")
    if not show:
        refuse_force_for_nothing(force, output, "the file")
    refuse_without(context, "stacks", "--stacks", form in STACKS, f"--format {' or '.join(STACKS)}")
    refuse_without(context, "verbose", "--verbose", form == "text", "--format text")
    for name in ("what_if", "rtt", "parallel", "scale"):
        refuse_without(context, name, f"--{name.replace('_', '-')}", form not in PICTURES, NO_PICTURE)
    refuse_without(context, "access_log", "--access-log", form not in PICTURES, NO_PICTURE)
    if form in EXPORTS:
        check_place(form, output)
    output = destination(output, lambda: trace.resolve().with_name(f"{trace.resolve().name}.{form}"), force, show)
    from cvtrace.analysis.storage.headers import headers_of
    from cvtrace.analysis.summary.assemble import full_analysis
    from cvtrace.tracer.store import read_trace
    from cvtrace.tracer.user import who_asked

    with doing("reading the trace"):
        recorded = read_trace(trace)
    with doing(f"analysing {len(recorded.events):,} events"):
        study, tables, found = full_analysis(
            recorded, headers_of(recorded, who_asked(os.environ), model), options=options
        )
    if form in EXPORTS:
        export(study, tables, found, form, stacks, output, what_if=options.show_what_if)
    else:
        encoding = encoding_of(output)
        terminal = (output is None or output == STDOUT) and sys.stdout.isatty()
        with doing(f"writing the {form}"):
            rendered = _rendered(
                study, tables, found, form, encoding, terminal=terminal, options=options, verbose=verbose
            )
        with writing(output) as stream:
            stream.write(rendered.encode(encoding, "replace"))
    if is_set(context, "model") and not found.tensors:
        say(f"--model {model}: no tensors were found there for the files that the run read")
    if found.trace.damage:
        say(found.trace.damage)
    if show and output is not None:
        show_in_browser(output)


def _rendered(
    study: Study,
    tables: Tables,
    found: Report,
    form: str,
    encoding: str,
    *,
    terminal: bool,
    options: ReportOptions,
    verbose: bool,
) -> str:
    if form == "html":
        from cvtrace.analysis.report import html

        return html.render(study, tables, found)
    from cvtrace.analysis.report import json, text

    if form == "json":
        return json.render(found, ascii_only=not encoding.lower().startswith("utf"))
    width = max(shutil.get_terminal_size().columns, text.COLUMNS) if terminal else text.COLUMNS
    color = terminal and "NO_COLOR" not in os.environ
    return text.render(found, width, color, what_if=options.show_what_if, verbose=verbose)
