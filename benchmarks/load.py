"""A cold load and 16 tokens of a GenAI model in the lab: untraced, under cvtrace, under strace."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, Settings, paired
from benchmarks.tracers import cvtrace, untraced
from cvtrace.lab.stack import Options, Stack, temporary, wipe_client_cache

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "phi3-qa.py"
SIZE_BYTES = 200_000_000
LOAD = re.compile(r"Load time: ([\d.]+)s")


def run(settings: Settings) -> list[Row]:
    """Measure the load time that the script itself prints, each run on an empty client cache."""
    with temporary(Options(size_bytes=SIZE_BYTES, client="lab")) as stack:
        return _measure(settings, stack)


def _measure(settings: Settings, stack: Stack) -> list[Row]:
    argv = [sys.executable, str(SCRIPT), "-m", str(stack.model), "-e", "cpu", "-g", "-p", "a muon", "--tokens", "16"]
    kept = [stack]

    def cold(measure: Callable[[], str]) -> Callable[[], float]:
        def once() -> float:
            kept[0] = wipe_client_cache(kept[0])
            printed = LOAD.search(measure())
            assert printed is not None
            return float(printed[1])

        return once

    def under_cvtrace() -> str:
        mount = str(stack.mountpoint)
        return cvtrace(argv, settings.folder / "load.trace", "--python", sys.executable, "--mount", mount).stdout

    def under_strace() -> str:
        null = ["-f", "-o", "/dev/null"]
        daemon = subprocess.Popen(["strace", *null, "-p", str(kept[0].client_pid)], stderr=subprocess.PIPE)
        try:
            _wait_for_tracer(kept[0].client_pid)
            return untraced(["strace", *null, *argv])
        finally:
            daemon.terminate()
            daemon.wait()

    untraced(argv)  # the interpreter's and the library's own files are read once
    plain, cv = paired(settings.repeats, cold(lambda: untraced(argv)), cold(under_cvtrace))
    (st,) = paired(max(1, settings.repeats // 2), cold(under_strace))
    megabytes = SIZE_BYTES // 1_000_000
    return [
        Row(f"cold load of {megabytes} MB, untraced", f"{plain:.2f} s", "", None),
        Row(
            f"cold load of {megabytes} MB under cvtrace",
            f"{cv:.2f} s, {cv / plain:.3f} x",
            "< 1.05 x",
            cv / plain < 1.05,
        ),
        Row(f"cold load of {megabytes} MB under strace", f"{st:.2f} s, {st / plain:.1f} x", "", None),
    ]


def _wait_for_tracer(pid: int) -> None:
    """Wait until somebody traces every thread of `pid`. Raises TimeoutError after 10 s."""
    deadline_s = time.monotonic() + 10
    while any("TracerPid:\t0\n" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"strace does not attach to {pid}")
        time.sleep(0.01)
