"""`cvtrace fleet`: the traces of many nodes and runs together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cvtrace.commands.console import counting, doing, say
from cvtrace.commands.formats.choice import chosen_name
from cvtrace.commands.installation import how_to_add
from cvtrace.commands.outputs import (
    STDOUT,
    destination,
    encoding_of,
    output_options,
    show_in_browser,
    unwritable,
    width_of,
    writing,
)
from cvtrace.commands.refusals import refuse_force_for_nothing, refuse_with

if TYPE_CHECKING:
    from cvtrace.analysis.fleet.fleet import Fleet

SOME_SKIPPED: Final = 4
"""Exit code if a trace could not be read: what could be read is reported."""
FORMATS: Final = ("text", "json", "html", "parquet")
MOST_NAMED: Final = 10
"""Skipped traces that are named on stderr."""


@click.command(name="fleet")
@click.argument("traces", metavar="TRACES...", nargs=-1, required=True, type=click.Path())
@click.option("--scheduler", metavar="ADDRESS", help="Work on this Dask cluster, such as tcp://10.0.0.1:8786.")
@click.option(
    "--workers",
    type=click.IntRange(1, 4096),
    help="Processes on this machine; 1 needs no Dask.  [default: one for each core; 1 for a few small traces]",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write the HTML report of each trace into this folder; the table of nodes links to them.",
)
@output_options("Write to this file; Parquet to a folder.  [default: the terminal; fleet.html with --open]")
@click.option("--open", "show", is_flag=True, help="Open the HTML page in the browser.")
@click.option("-v", "--verbose", is_flag=True, help="Print all rows, not only the first ones (text).")
@click.pass_context
def command(
    context: click.Context,
    traces: tuple[str, ...],
    scheduler: str | None,
    workers: int | None,
    form: str,
    reports: Path | None,
    output: Path | None,
    force: bool,
    show: bool,
    verbose: bool,
) -> None:
    """Report on many traces together: slow nodes and the reasons, the start, objects that many nodes fetched.

    TRACES are traces, folders with traces at any depth, and patterns in quotes. The cores of this machine or a Dask cluster analyse
    each trace in its place, and return only tables. A trace that cannot be read is named and skipped, and the exit code is 4 then.
    """
    refuse_with(context, "workers", "--workers", scheduler is not None, "--scheduler")
    form = chosen_name(context, form, output, show=show, choices=FORMATS)
    refuse_with(context, "verbose", "--verbose", form != "text", f"--format {form}")
    if form == "parquet" and output in (None, STDOUT):
        raise click.UsageError("--format parquet makes several files: name a folder with -o")
    if show and form != "html":
        raise click.UsageError(f"--open shows html: --format {form} is for other programs")
    if not show:
        refuse_force_for_nothing(force, output, "the file")
    output = destination(output, lambda: Path("fleet.html"), force, show)
    fleet = _fleet(traces, scheduler, workers, reports)
    if not fleet.report.nodes:
        for row in fleet.report.skipped[:MOST_NAMED]:
            say(f"{row.trace}: {row.reason}")
        say(f"none of the {len(fleet.report.skipped):,} traces can be read")
        context.exit(SOME_SKIPPED)
    _write(fleet, form, output, verbose, reports)
    if show and output is not None:
        show_in_browser(output, "fleet")
    if fleet.report.skipped:
        _tell_skipped(fleet, form, output)
        context.exit(SOME_SKIPPED)


def _fleet(traces: tuple[str, ...], scheduler: str | None, workers: int | None, reports: Path | None) -> Fleet:
    from cvtrace.analysis.fleet.cluster import ClusterUnusable, NoDask
    from cvtrace.analysis.fleet.fleet import TwiceThere, fleet_at
    from cvtrace.analysis.fleet.places import NoTraces, places_of

    try:
        with doing("looking for traces"):
            places = places_of(traces)
        with counting("cvtrace: analysing traces") as progress:
            return fleet_at(
                places, scheduler=scheduler, workers=workers, also=_writer_of_reports(reports), progress=progress
            )
    except NoDask as missing:
        raise click.UsageError(
            f"several workers need the Python package {missing}: {how_to_add('fleet')}; --workers 1 works without it"
        ) from None
    except (NoTraces, TwiceThere, ClusterUnusable) as error:
        raise click.UsageError(str(error)) from None


def _writer_of_reports(reports: Path | None) -> Callable[..., None] | None:
    """Return what writes the HTML report of a trace on the worker that has analysed it."""
    if reports is None:
        return None
    from functools import partial

    from cvtrace.analysis.report.fleet.single import write_report

    with unwritable(reports):
        reports.mkdir(parents=True, exist_ok=True)
    return partial(write_report, str(reports.resolve()))


def _write(fleet: Fleet, form: str, output: Path | None, verbose: bool, reports: Path | None) -> None:
    from cvtrace.analysis.report.fleet import tables

    if form == "parquet" and output is not None:
        with doing("writing the parquet"), unwritable(output), tables.folder(output) as opener:
            tables.write_parquet(fleet.part, opener)
        return
    with doing(f"writing the {form}"):
        text = _rendered(fleet, form, output, verbose, reports)
    with writing(output) as stream:
        stream.write(text.encode(encoding_of(output) if form == "text" else "utf-8", "replace"))


def _rendered(fleet: Fleet, form: str, output: Path | None, verbose: bool, reports: Path | None) -> str:
    if form == "json":
        from cvtrace.analysis.report.fleet.tables import as_json

        return as_json(fleet)
    if form == "html":
        from cvtrace.analysis.report.fleet.page import render as page

        place = Path() if output is None or output == STDOUT else output.parent
        return page(fleet, place.resolve(), None if reports is None else reports.resolve())
    from cvtrace.analysis.report.fleet.text import render

    return render(fleet.report, width_of(output), verbose=verbose)


def _tell_skipped(fleet: Fleet, form: str, output: Path | None) -> None:
    """Say on stderr what does not count, unless the text that was printed says it."""
    rows = fleet.report.skipped
    if form != "text" or output is not None:
        for row in rows[:MOST_NAMED]:
            say(f"skipped {row.trace}: {row.reason}")
    say(f"{len(rows):,} of {fleet.report.nodes + len(rows):,} traces skipped; the report is of the others")
