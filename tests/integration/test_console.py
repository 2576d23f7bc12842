"""Progress of cvtrace is shown on a terminal, and not in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from tiny import tiny_mount

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_mount(tmp_path_factory.mktemp("tiny")) as (mounted, _):
        yield mounted


def on_a_terminal(command: list[str], cwd: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and all that it wrote there."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
    output, until_s = b"", time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # EIO: nobody has the other end any more
            break
        if not piece:
            break
        output += piece
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), output.decode()


def words(mount: Path, trace: str, *more: str) -> list[str]:
    options = ["--probes", "portable", "-o", trace, "--mount", str(mount)]
    return [sys.executable, *CVTRACE[1:], "run", *options, *more, "--", "/bin/echo", "hello"]


def test_progress_is_shown_on_a_terminal(mount: Path, tmp_path: Path) -> None:
    # WHEN a program is recorded on a terminal
    code, output = on_a_terminal(words(mount, "trace"), tmp_path)
    # THEN the begin of the recording is said before the program speaks, and the analysis while it lasts
    assert code == 0, output
    assert output.index("cvtrace: recording echo with the portable probe since ") < output.index("hello")
    assert "\rcvtrace: analysing the trace …\r\x1b[K" in output
    assert output.index("hello") < output.index("analysing") < output.index("More: cvtrace report trace")
    # AND so does a report
    code, output = on_a_terminal([sys.executable, *CVTRACE[1:], "report", "trace"], tmp_path)
    assert code == 0, output
    assert "\rcvtrace: analysing " in output
    assert output.rstrip().endswith("(-v for everything)")


def test_no_progress_is_written_to_a_pipe(mount: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        words(mount, "trace", "--no-summary"), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello\n", "")

    report = [sys.executable, *CVTRACE[1:], "report", "trace", "-v"]
    result = subprocess.run(report, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Full report:" in result.stdout


def test_everything_is_printed_with_v_and_30_lines_without(mount: Path, tmp_path: Path) -> None:
    short = subprocess.run(words(mount, "a"), cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    stderr = subprocess.run(words(mount, "b", "-v"), cwd=tmp_path, capture_output=True, text=True, check=True).stderr

    assert len(short.splitlines()) <= 31
    assert "Cache state: " in stderr
    assert "Cache state: " not in short


def test_a_watched_recording_without_a_terminal_says_that_nothing_is_drawn(mount: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        words(mount, "trace", "--no-summary", "--watch"), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.stderr == "cvtrace: --watch has no effect: stderr is not a terminal\n"
