"""Stacks for speedscope.app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvtrace
from cvtrace.commands.formats.format import Settings, TextFormat
from cvtrace.commands.formats.turned import summed

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Speedscope(TextFormat):
    """Sampled profiles in speedscope's JSON."""

    name = "speedscope"
    endings = (".speedscope.json", ".json")
    options = ("stacks", "by")

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the JSON."""
        from cvtrace.analysis.report import speedscope

        name = " ".join(analysis.report.trace.target)
        return speedscope.render(summed(analysis, settings), settings.stacks, name, cvtrace.__version__)
