"""Write docs/truth.md's table: run the tests that inject, and put the injected and the measured times between the marks of the page.

sudo .venv/bin/python tests/truth/table.py
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "truth.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
TESTS = ("test_target_classes.py", "test_cvmfs_classes.py", "test_mixed.py", "test_generation.py")


def main() -> None:
    """Run the tests, and write the table also if a test fails."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "pytest", "-q", *(str(FOLDER / test) for test in TESTS)]
        result = subprocess.run(command, env={**os.environ, "CVTRACE_TRUTH_TABLE": str(rows)}, check=False)
        lines = json.loads(rows.read_text())
    before, _, tail = PAGE.read_text().partition(BEGIN)
    _, _, after = tail.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{_table(lines)}\n{_machine()}\n{END}{after}")
    sys.exit(result.returncode)


def _table(lines: list[dict[str, Any]]) -> str:
    rows = ["| injected | class | injected time | cvtrace reports | difference |", "|---|---|---:|---:|---:|"]
    for line in lines:
        injected_s, found_s = line["injected_s"], line["found_s"]
        rows.append(
            f"| {line['delay']} | `{line['class_']}` | {injected_s:.3f} s | {found_s:.3f} s | {found_s / injected_s - 1:+.1%} |"
        )
    return "\n".join(rows)


def _machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"\nLinux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs, load {load:.0f} at the end of the run; "
        f"Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()
