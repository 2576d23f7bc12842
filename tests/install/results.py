"""The table of docs/install.md that shows in which way cvtrace was installed on which distribution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "install.md"
TABLE: Final = re.compile(r"(<!-- ways -->\n)(.*?)(<!-- end of ways -->)", re.DOTALL)
TITLES: Final = {"debian-12": "Debian 12", "debian-13": "Debian 13", "ubuntu-24.04": "Ubuntu 24.04"}


def write_results(name: str, results: Mapping[str, tuple[int, float]]) -> None:
    """Fill the column of a distribution: way to install -> exit code and seconds."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        TABLE.sub(lambda match: match[1] + filled(match[2], name, results) + match[3], text), encoding="utf-8"
    )


def filled(table: str, name: str, results: Mapping[str, tuple[int, float]]) -> str:
    """Return the table with the column of a distribution; rows begin with the way. Raises KeyError for an unknown way."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.strip().splitlines()]
    column = rows[0].index(TITLES[name])
    for row in rows[2:]:
        exit_code, seconds = results[row[0]]
        row[column] = f"works ({seconds:.0f} s)" if exit_code == 0 else "fails"
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
