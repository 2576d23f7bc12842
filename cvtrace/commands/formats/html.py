"""The report as one page, offline, with linked pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import PREDICTIONS, Settings, TextFormat

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Html(TextFormat):
    """A page for the browser."""

    name = "html"
    endings = (".html", ".htm")
    options = PREDICTIONS
    for_programs = False

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the page."""
        from cvtrace.analysis.report import html

        return html.render(*analysis)
