"""Folded stacks, for flame graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import Settings, TextFormat
from cvtrace.commands.formats.turned import summed

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Folded(TextFormat):
    """One line for each stack."""

    name = "folded"
    endings = (".folded", ".txt")
    options = ("stacks", "by")

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the lines."""
        from cvtrace.analysis.report import folded

        return folded.render(summed(analysis, settings), settings.stacks)
