"""cvtrace as a user types it, for tests; mostly `cvtrace run` of a script in the current folder, into `trace` there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cvtrace.tracer.store import Trace, read_trace

CVTRACE = [sys.executable, "-m", "cvtrace"]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "phi3-qa.py"
RUNGS = ["portable", "strace", "ebpf"]
WAITS = "print('ready', flush=True)\ninput()\n"
"""A script, or its end, that says that it is ready and goes on when it is given a line."""


def cvtrace(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run cvtrace, which has to succeed."""
    return succeed([*CVTRACE, *words], **environ)


def succeed(command: Sequence[str | Path], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command, which has to succeed."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **environ},
    )
    assert result.returncode == 0, result.stderr
    return result


def example(model: Path, tokens: int, *more: str) -> list[str]:
    """Return the command line that asks the model for so many tokens."""
    words = ["-m", str(model), "-e", "cpu", "-g", "-p", "the rain in spain", "--tokens", str(tokens)]
    return [sys.executable, str(EXAMPLE), *words, *more]


def options(mount: Path, probes: str = "portable") -> list[str]:
    return ["-o", "trace", "--probes", probes, "--mount", str(mount), "--no-summary"]


def script(text: str) -> str:
    """Write the script; return its name."""
    Path("script.py").write_text(text)
    return "script.py"


def run(
    mount: Path, *arguments: str, probes: str = "portable", stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Record a target to its end."""
    return subprocess.run(
        [*CVTRACE, "run", *options(mount, probes), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environ},
        check=False,
    )


def trace_of(result: subprocess.CompletedProcess[str]) -> Trace:
    """Return the trace, which is whole."""
    trace = read_trace("trace")
    assert trace.damage is None, result.stderr
    return trace


def start(
    *arguments: str, stdin: int | None = None, own_session: bool = False, **environ: str
) -> subprocess.Popen[str]:
    """Begin a recording; return once the target says that it is ready."""
    process = subprocess.Popen(
        [*CVTRACE, "run", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=own_session,
        env={**os.environ, **environ},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def start_script(mount: Path, text: str, probes: str, *more: str, **environ: str) -> subprocess.Popen[str]:
    """Begin to record a script that says that it is ready, and that can be given lines."""
    options = ["-o", "trace", "--probes", probes, "--mount", str(mount)]
    return start(*options, *more, script(text), stdin=subprocess.PIPE, **environ)
