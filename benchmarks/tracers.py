"""Runs a command untraced, under cvtrace and under strace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Traced:
    """What a run under cvtrace left: its output and the trace's meta data."""

    stdout: str
    stderr: str
    meta: dict[str, Any]
    trace: Path


def untraced(argv: Sequence[str]) -> str:
    """Run `argv`; return what it printed. Raises CalledProcessError."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def cvtrace(argv: Sequence[str], trace: Path, *options: str) -> Traced:
    """Run `argv` under `cvtrace run --probes ebpf`; the trace goes to `trace`, replacing an older one."""
    shutil.rmtree(trace, ignore_errors=True)
    command = [sys.executable, "-m", "cvtrace", "run", "--probes", "ebpf", "--no-summary", "-o", str(trace), *options]
    done = subprocess.run([*command, "--", *argv], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"benchmark: {' '.join(argv)} under cvtrace ended with {done.returncode}: {done.stderr.strip()}"
        )
    return Traced(done.stdout, done.stderr, json.loads((trace / "meta.json").read_text()), trace)


def strace(argv: Sequence[str], *options: str, log: Path) -> str:
    """Run `argv` under strace; return what it printed."""
    return untraced(["strace", "-f", "-o", str(log), *options, *argv])
