"""The outputs of `cvtrace report`, a class each; the choices of --format, its help, endings of files and refusals come from this table.

To add an output: a file beside this one with a class of `format.Format`, and a line in FORMATS. What draws an output lives in
`cvtrace.analysis.report` and is imported when it is written, so that `--help` stays quick.
"""

from __future__ import annotations

from typing import Final

from cvtrace.commands.formats.folded import Folded
from cvtrace.commands.formats.format import Format
from cvtrace.commands.formats.html import Html
from cvtrace.commands.formats.json import Json
from cvtrace.commands.formats.openmetrics import OpenMetrics
from cvtrace.commands.formats.perfetto import Perfetto
from cvtrace.commands.formats.speedscope import Speedscope
from cvtrace.commands.formats.tables import Csv, Parquet
from cvtrace.commands.formats.text import Text

_CLASSES: Final[tuple[type[Format], ...]] = (
    Text,
    Json,
    Html,
    Folded,
    Speedscope,
    OpenMetrics,
    Perfetto,
    Csv,
    Parquet,
)
FORMATS: Final[dict[str, Format]] = {form.name: form() for form in _CLASSES}
"""By name. The first one that has an ending is what a file with that ending gets without --format."""
