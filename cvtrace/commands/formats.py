"""Which form is written, and that no option is passed over: what an option has no effect on refuses it, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

SUFFIXES: Final = {
    ".speedscope.json": ("speedscope",),
    ".json": ("json", "speedscope", "perfetto"),
    ".html": ("html",),
    ".htm": ("html",),
    ".txt": ("text", "folded", "openmetrics"),
    ".pftrace": ("perfetto",),
    ".perfetto-trace": ("perfetto",),
    ".folded": ("folded",),
    ".prom": ("openmetrics",),
    ".csv": ("csv",),
    ".parquet": ("parquet",),
    ".zip": ("csv", "parquet"),
}
"""Ending of a file's name -> the forms it may have; without --format it is the first."""
SEVERAL_FILES: Final = (".csv", ".parquet", ".zip")
"""Endings that alone do not say what to write."""


def is_set(context: click.Context, name: str) -> bool:
    """Tell whether the user gave an option, by the name of its parameter."""
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def wanted_form(context: click.Context, form: str, output: Path | None, *, show: bool, available: Sequence[str]) -> str:
    """Return the form asked for: by --format, by the ending of the output's name, or HTML if it is to be shown in the browser.

    Raises UsageError if they contradict each other.
    """
    ending = next((suffix for suffix in SUFFIXES if output is not None and output.name.lower().endswith(suffix)), None)
    if is_set(context, "form"):
        if ending is not None and form not in SUFFIXES[ending]:
            raise click.UsageError(
                f"{output} is the name of {_listed(ending)}, and --format is {form}: change one of the two"
            )
        return form
    if ending is None:
        return "html" if show else form
    implied = SUFFIXES[ending][0]
    if ending in SEVERAL_FILES and implied in available:
        raise click.UsageError(
            f"{output} may hold {_listed(ending)}, which are several files: give --format and name a folder or a .zip"
        )
    if implied not in available:
        raise click.UsageError(
            f"{output} is the name of {_listed(ending)}; this writes {', '.join(available)}: give --format or another name"
        )
    return implied


def _listed(ending: str) -> str:
    return " or ".join(SUFFIXES[ending])


def refuse_force_for_nothing(force: bool, output: Path | None, target: str) -> None:
    """Raise UsageError if --force is to replace something that has no name."""
    if force and (output is None or output == Path("-")):
        raise click.UsageError(f"--force replaces {target} named with -o: give -o too, or leave --force out")


def refuse_without(context: click.Context, name: str, option: str, met: bool, needed: str) -> None:
    """Raise UsageError if an option was given and what it needs is not there."""
    if is_set(context, name) and not met:
        raise click.UsageError(f"{option} has no effect without {needed}: leave it out, or add that")


def refuse_with(context: click.Context, name: str, option: str, met: bool, conflict: str) -> None:
    """Raise UsageError if an option was given beside another that leaves it without an effect."""
    if is_set(context, name) and met:
        raise click.UsageError(f"{option} has no effect with {conflict}: leave one of the two out")


def refuse_useless(context: click.Context, output: Path | None, *, force: bool, probes: str, no_summary: bool) -> None:
    """Raise UsageError for options of `run` and `attach` that would have no effect."""
    refuse_force_for_nothing(force, output, "the trace")
    refuse_with(context, "verbose", "--verbose", no_summary, "--no-summary")
    for name in ("buffer", "cost"):
        refuse_with(context, name, f"--{name}", probes in ("strace", "portable"), f"--probes {probes}")
