"""Numbers of a run as OpenMetrics text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import Settings, TextFormat

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class OpenMetrics(TextFormat):
    """Metrics for Prometheus."""

    name = "openmetrics"
    endings = (".prom", ".txt")

    def render(self, analysis: Analysis, settings: Settings) -> str:
        """Return the metrics."""
        from cvtrace.analysis.report import openmetrics

        return openmetrics.render(analysis.report)
