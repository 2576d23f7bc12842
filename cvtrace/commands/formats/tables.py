"""Every table of a run, a file each: CSV or Parquet, in a folder or in a zip file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvtrace.commands.formats.format import PREDICTIONS, Format, Settings
from cvtrace.commands.outputs import unwritable, writing

if TYPE_CHECKING:
    from cvtrace.analysis.summary.assemble import Analysis


class Csv(Format):
    """Tables as CSV."""

    name = "csv"
    endings = (".csv", ".zip")
    options = PREDICTIONS
    is_binary = is_several_files = True

    def write(self, analysis: Analysis, settings: Settings) -> None:
        """Write the tables into a folder, or into a zip file if the name ends like one."""
        from cvtrace.analysis.report import tables

        output = settings.output
        if output is None:
            self.check_place(settings)
        elif output.suffix == ".zip":
            with writing(output) as stream, tables.zipped(stream) as opener:
                tables.write(*analysis, self.name, opener, what_if=settings.what_if)
        else:
            with unwritable(output), tables.folder(output, self.name) as opener:
                tables.write(*analysis, self.name, opener, what_if=settings.what_if)


class Parquet(Csv):
    """Tables as Parquet, with unit and meaning of each column."""

    name = "parquet"
    endings = (".parquet", ".zip")
