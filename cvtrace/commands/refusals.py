"""No option is passed over: what an option has no effect on refuses it, in one sentence."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource


def is_set(context: click.Context, name: str) -> bool:
    """Return whether the user gave an option, by the name of its parameter."""
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


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
