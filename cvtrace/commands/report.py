"""`cvtrace report`: a trace into text, JSON and other outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cvtrace.commands.analysis_options import analysis_options
from cvtrace.commands.arguments import TRACE
from cvtrace.commands.console import doing, say
from cvtrace.commands.formats import FORMATS
from cvtrace.commands.formats.choice import chosen_name, listed, names_with, refuse_unused_options
from cvtrace.commands.formats.format import Settings
from cvtrace.commands.outputs import destination, output_options, show_in_browser
from cvtrace.commands.refusals import is_set, refuse_force_for_nothing

if TYPE_CHECKING:
    from cvtrace.analysis.contract.report_options import ReportOptions

FOR_BROWSER: Final = [form.name for form in FORMATS.values() if not form.for_programs]
"""Outputs for people: the browser shows them."""
SEVERAL_FILES: Final = [form.name for form in FORMATS.values() if form.is_several_files]


@click.command(name="report")
@click.argument("trace", type=TRACE)
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the model's files; default: where the program opened them.",
)
@output_options(
    f"Write to this file; of {listed(SEVERAL_FILES, 'and')}, a folder or a .zip.  [default: the terminal; TRACE.html with --open]"
)
@click.option(
    "--stacks",
    type=click.Choice(("both", "on-cpu", "waiting")),
    default="both",
    show_default=True,
    help=f"Of {listed(names_with('stacks'), 'and')}.",
)
@click.option(
    "--by",
    type=click.Choice(("file", "line")),
    default="file",
    show_default=True,
    help=f"Of {listed(names_with('by'), 'and')}: stacks of files, or of lines of code (of a run with --stacks).",
)
@click.option(
    "--open", "show", is_flag=True, help="Open the report in the browser; as HTML unless --format says otherwise."
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help=f"Print everything, not only the summary ({listed(names_with('verbose'), 'and')}).",
)
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
    by: str,
    show: bool,
    verbose: bool,
    options: ReportOptions,
) -> None:
    """Write a report of TRACE: as text, HTML, JSON and others.

    The names of tensors come from the headers of the model's files, if these can still be read.

    A trace that was cut off is reported up to its end, and a message on stderr says where it ends.
    """
    chosen = FORMATS[chosen_name(context, form, output, show=show, choices=tuple(FORMATS))]
    if show and chosen.for_programs:
        raise click.UsageError(f"--open shows {', '.join(FOR_BROWSER)}: --format {chosen.name} is for other programs")
    if not show:
        refuse_force_for_nothing(force, output, "the file")
    refuse_unused_options(context, chosen)
    chosen.check_place(Settings(output, stacks, verbose, options.show_what_if, by))
    folder_of_trace = trace.resolve()
    output = destination(
        output, lambda: folder_of_trace.with_name(f"{folder_of_trace.name}.{chosen.name}"), force, show
    )
    settings = Settings(output, stacks, verbose, options.show_what_if, by)
    from cvtrace.analysis.storage.headers import headers_of
    from cvtrace.analysis.summary.assemble import full_analysis
    from cvtrace.tracer.store import read_trace
    from cvtrace.tracer.user import calling_user

    with doing("reading the trace"):
        recorded = read_trace(trace)
    with doing(f"analysing {len(recorded):,} events"):
        analysis = full_analysis(recorded, headers_of(recorded, calling_user(os.environ), model), options=options)
    chosen.write(analysis, settings)
    if is_set(context, "model") and not analysis.report.tensors:
        say(f"--model {model}: no tensors were found there for the files that the run read")
    if analysis.report.trace.damage:
        say(analysis.report.trace.damage)
    if show and output is not None:
        show_in_browser(output)
