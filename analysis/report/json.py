"""The report as JSON: the contract for scripts. Fields are added, never renamed."""

import json

from cvtrace.analysis.contract.report_schema import Report


def render(report: Report, ascii_only: bool = False) -> str:
    """Return the report as JSON text, ending in a newline; `ascii_only` escapes all other characters."""
    return json.dumps(report.as_dict(), indent=1, ensure_ascii=ascii_only, allow_nan=False) + "\n"
