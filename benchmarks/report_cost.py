"""What `cvtrace report` takes, from its start to its end, as the kernel counts it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.tracers import ENVIRONMENT

USAGE = Path(__file__).with_name("usage.py")


@dataclass(frozen=True)
class Cost:
    """What one report took, and how large it is."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    size_bytes: int


def report_cost(trace: Path, form: str) -> Cost:
    """Run the command as a user would. What it wrote is measured and removed."""
    output = trace.with_suffix(f".{form}")
    argv = [sys.executable, "-m", "cvtrace", "report", "--format", form, str(trace), "-o", str(output)]
    took = command_cost(argv)
    parts = list(output.iterdir()) if output.is_dir() else [output]
    size = sum(part.stat().st_size for part in parts)
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    return replace(took, size_bytes=size)


def command_cost(argv: Sequence[str]) -> Cost:
    """Run a command; what it takes, as the kernel counts it."""
    result = subprocess.run(
        [sys.executable, str(USAGE), *argv], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    usage = json.loads(result.stdout.splitlines()[-1])
    if usage["status"]:
        raise SystemExit(f"benchmark: {' '.join(argv)} ended with {usage['status']}: {result.stderr[-200:]}")
    return Cost(*usage["took"], size_bytes=0)
