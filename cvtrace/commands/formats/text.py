"""The summary for people, or with --verbose everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import PREDICTIONS, Settings, TextFormat

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Text(TextFormat):
    """Lines for a terminal, in colour if that shows colours."""

    name = "text"
    endings = (".txt",)
    options = ("verbose", *PREDICTIONS)
    for_programs = False

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the summary."""
        from cvtrace.analysis.report import text

        width, color = text.terminal_style(settings.to_terminal)
        return text.render(analysis.report, width, color, what_if=settings.what_if, verbose=settings.verbose)
