"""The HTML report of one trace of a fleet, written on the worker that has analysed it."""

import hashlib
import os
from pathlib import Path

from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import Analysis
from cvtrace.tracer.safe_open import open_folder, replacing


def write_report(folder: str, analysis: Analysis, path: str) -> None:
    """Write the report of the trace at `path` into a folder that is there. Raises OSError."""
    text = html.render(*analysis)
    place = open_folder(folder)
    try:
        with replacing(place, report_name(path)) as stream:
            stream.write(text.encode("utf-8", "replace"))
    finally:
        os.close(place)


def report_name(path: str) -> str:
    """Return the name of the report of a trace: that of its folder, and what tells folders of the same name apart."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return f"{Path(path).name}-{digest}.html"
