"""A trace for ui.perfetto.dev."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import Format, Settings
from cvtrace.commands.outputs import writing

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Perfetto(Format):
    """Tracks of threads, requests and fetches, as protobuf."""

    name = "perfetto"
    endings = (".pftrace", ".perfetto-trace", ".json")
    is_binary = True

    def write(self, analysis: Analysis, settings: Settings) -> None:
        """Write it while it is made: it may be large."""
        from cvtrace.analysis.report import perfetto

        with writing(settings.output) as stream:
            perfetto.write(*analysis, stream)
