"""The report as JSON: the contract for scripts. Fields are added, never renamed."""

import json

from cvtrace.analysis.model import Report


def render(report: Report) -> str:
    """Return the report as JSON text, ending in a newline."""
    return json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
