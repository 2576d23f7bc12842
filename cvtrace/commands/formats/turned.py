"""The stacks that folded and speedscope write: by file, or by line of code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from cvtrace.commands.formats.format import Settings

if TYPE_CHECKING:
    from cvtrace.analysis.storage.lines import Summed
    from cvtrace.analysis.summary.assemble import Analysis

BY: Final = ("file", "line")
NO_STACKS: Final = (
    "--by line: the trace has no stacks, so there are no lines of code: record it with cvtrace run --stacks"
)


def summed(analysis: Analysis, settings: Settings) -> Summed:
    """Return the time by stack: phase, thread, file and class, or with the frames of code before the file. Raises UsageError."""
    from cvtrace.analysis.storage.lines import lines
    from cvtrace.analysis.storage.stacks import stacks

    if settings.by == "file":
        return stacks(analysis.study, analysis.tables.tensors)
    by_line = lines(analysis.study, analysis.tables.tensors)
    if by_line is None:
        raise click.UsageError(NO_STACKS)
    return by_line
