"""Which output is written: by --format, by the ending of the file's name, or HTML for the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cvtrace.commands.formats import FORMATS
from cvtrace.commands.formats.format import Format
from cvtrace.commands.refusals import is_set, refuse_without


def chosen_name(context: click.Context, name: str, output: Path | None, *, show: bool, choices: Sequence[str]) -> str:
    """Return the name of the output: by --format, by the ending of the file's name, or HTML if it is to be shown in the browser.

    Raises UsageError if they contradict each other, or if the ending is that of an output that is not among the choices.
    """
    ending = _ending(output)
    names = [form.name for form in FORMATS.values() if ending in form.endings]
    holds = " or ".join(names)
    if is_set(context, "form"):
        if ending is not None and name not in names:
            raise click.UsageError(f"{output} is the name of {holds}, and --format is {name}: change one of the two")
        return name
    if ending is None:
        return "html" if show else name
    if names[0] not in choices:
        raise click.UsageError(
            f"{output} is the name of {holds}; this writes {', '.join(choices)}: give --format or another name"
        )
    if FORMATS[names[0]].is_several_files:
        raise click.UsageError(
            f"{output} may hold {holds}, which are several files: give --format and name a folder or a .zip"
        )
    return names[0]


def _ending(output: Path | None) -> str | None:
    """Return the ending that says what a file holds, the longest one if there are several."""
    endings = {ending for form in FORMATS.values() for ending in form.endings}
    fitting = [ending for ending in endings if output is not None and output.name.lower().endswith(ending)]
    return max(fitting, key=len, default=None)


def refuse_unused_options(context: click.Context, chosen: Format) -> None:
    """Raise UsageError for an option that other outputs use and this one does not."""
    for option in dict.fromkeys(option for form in FORMATS.values() for option in form.options):
        users = f"--format {listed(names_with(option), 'or')}"
        refuse_without(context, option, f"--{option.replace('_', '-')}", option in chosen.options, users)


def names_with(option: str) -> list[str]:
    """Return the names of the outputs that use an option."""
    return [form.name for form in FORMATS.values() if option in form.options]


def listed(names: Sequence[str], word: str) -> str:
    """Return names as a list in words: `a, b or c`."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)
