"""Compiles the small programs of the benchmarks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def build(name: str, folder: Path) -> Path:
    """Compile benchmarks/NAME.c. Raises SystemExit without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit(f"benchmark: {name} needs a C compiler: apt install gcc")
    program = folder / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name(f"{name}.c"))], check=True)
    return program
