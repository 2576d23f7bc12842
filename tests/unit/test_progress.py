"""The bar of the finishing of a long trace."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

PROGRAM = """
import time
from cvtrace.commands import console
console.SLOW_S = 0.05
show = console.progress()
if show is None:
    print("silent")
else:
    show(0, 1000)
    time.sleep(0.1)
    for done in (500, 1000):
        show(done, 1000)
"""


def test_a_long_finishing_shows_a_bar_on_a_terminal_and_clears_it() -> None:
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=follower, env=environ) as process:
        os.close(follower)
        output = b""
        while True:
            try:
                data = os.read(leader, 65536)
            except OSError:  # the other end was closed
                break
            if not data:
                break
            output += data
    os.close(leader)
    assert process.returncode == 0, output
    assert b"cvtrace: finishing the trace" in output
    assert b"50%" in output
    assert output.rstrip(b"\r\n\x1b[?25h").endswith(b"\x1b[2K"), output  # the last thing done is to clear the line


def test_no_progress_bar_is_written_to_a_pipe() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("silent\n", "")


def test_a_closed_stderr_ends_the_progress_bar_quietly() -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stderr=follower, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(follower)
        os.close(leader)
    assert process.returncode == 0
