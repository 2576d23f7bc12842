"""Forms of the report for other programs: which there are, where each can go, and what writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import cvtrace
from cvtrace.commands.outputs import STDOUT, unwritable, writing

if TYPE_CHECKING:
    from cvtrace.analysis import Report
    from cvtrace.analysis.attribution.study import Study
    from cvtrace.analysis.storage.tables import Tables

TEXTS: Final = ("speedscope", "folded", "openmetrics")
TABLES: Final = ("csv", "parquet")
EXPORTS: Final = ("perfetto", *TEXTS, *TABLES)


def check_place(form: str, output: Path | None) -> None:
    """Raise UsageError if a form cannot go there."""
    to_stdout = output is None or output == STDOUT
    if form in TABLES and to_stdout:
        raise click.UsageError(f"--format {form} makes several files: name a folder or a .zip with -o")
    if form == "perfetto" and to_stdout and sys.stdout.isatty():
        raise click.UsageError("--format perfetto is not for a terminal: name a file with -o")


def export(
    study: Study, more: Tables, found: Report, form: str, stacks: str, output: Path | None, *, what_if: bool = False
) -> None:
    """Write one form, tables with predictions if asked `what_if`; raises UsageError if it cannot be written."""
    if form in TABLES and output is not None:
        _tables(study, more, found, form, output, what_if)
        return
    with writing(output) as stream:
        if form == "perfetto":
            from cvtrace.analysis.report import perfetto

            perfetto.write(study, more, found, stream)
        else:
            stream.write(_text(study, more, found, form, stacks).encode("utf-8", "replace"))


def _text(study: Study, more: Tables, found: Report, form: str, choice: str) -> str:
    from cvtrace.analysis.report import folded, openmetrics, speedscope
    from cvtrace.analysis.storage.stacks import stacks

    if form == "openmetrics":
        return openmetrics.render(found)
    if form == "folded":
        return folded.render(stacks(study, more.tensors), choice)
    return speedscope.render(stacks(study, more.tensors), choice, " ".join(found.trace.target), cvtrace.__version__)


def _tables(study: Study, more: Tables, found: Report, form: str, output: Path, what_if: bool) -> None:
    from cvtrace.analysis.report import tables

    if output.suffix == ".zip":
        with writing(output) as stream, tables.zipped(stream) as opener:
            tables.write(study, more, found, form, opener, what_if=what_if)
        return
    with unwritable(output), tables.folder(output, form) as opener:
        tables.write(study, more, found, form, opener, what_if=what_if)
