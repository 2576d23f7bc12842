"""The whole report as JSON: a stable contract for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import PREDICTIONS, Settings, TextFormat

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Json(TextFormat):
    """The report, field by field."""

    name = "json"
    endings = (".json",)
    options = PREDICTIONS
    for_programs = False

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the JSON, with escapes where the encoding has not all characters."""
        from cvtrace.analysis.report import json

        is_ascii_only = not self.encoding(settings).lower().startswith("utf")
        return json.render(analysis.report, ascii_only=is_ascii_only)
