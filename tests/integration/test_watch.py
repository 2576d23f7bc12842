"""`cvtrace run --watch` on a terminal: the target's output stays as it is, the last row is ours while it runs, and no longer."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest
from cvtrace_run import CVTRACE
from waiting import DEADLINE_S

ROWS, COLUMNS = 8, 220
PRINTS_AND_READS = """
import sys, time
for number in range(20):
    print("line", number, flush=True)
    time.sleep(0.1)
sys.stdout.write("no line feed at the end")
"""
READS = """
import os, sys, time
for number in range(25):
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.read(descriptor, 100_000)
    os.close(descriptor)
    time.sleep(0.1)
"""


class Terminal:
    """What a terminal of ROWS x COLUMNS shows of a program, from its start to its end."""

    def __init__(self, argv: list[str], stdout: Path | None = None) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000)
        self.screens: list[list[str]] = []
        stream = pyte.ByteStream(self.screen)
        pid, fd = pty.fork()
        if pid == 0:
            fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            if stdout is not None:
                os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
            os.environ["TERM"] = "xterm"
            os.execv(argv[0], argv)
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            if select.select([fd], [], [], 1)[0]:
                try:
                    data = os.read(fd, 65536)
                except OSError:  # EIO: the other end was closed
                    break
                stream.feed(data)
                self.screens.append([line.rstrip() for line in self.screen.display])
        os.close(fd)
        self.exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @property
    def lines(self) -> list[str]:
        """Everything that was ever printed, with what has scrolled away."""
        scrolled = ["".join(row[column].data for column in range(COLUMNS)).rstrip() for row in self.screen.history.top]
        return [line for line in [*scrolled, *self.screens[-1]] if line]

    @property
    def of_the_target(self) -> list[str]:
        """Of these, what is no sentence of cvtrace's."""
        return [line for line in self.lines if not line.startswith("cvtrace: ")]


def command(trace: Path, *words: str, probes: str = "portable") -> list[str]:
    return [*CVTRACE, "run", "--watch", "--no-summary", "--probes", probes, "-o", str(trace), *words]


pytestmark = pytest.mark.root


def test_watch_keeps_the_targets_lines_and_clears_the_last_row_at_the_end(mount: Path, tmp_path: Path) -> None:
    # WHEN a script prints more lines than the terminal has rows
    words = ["--mount", str(mount), "--", sys.executable, "-c", PRINTS_AND_READS]
    terminal = Terminal(command(tmp_path / "trace", *words))

    # THEN the line was in the last row, and only there
    assert terminal.exit_code == 0
    while_running = [rows for rows in terminal.screens if any(row.startswith("cvtrace ") for row in rows)]
    assert while_running
    for rows in while_running:
        assert rows[-1].startswith("cvtrace ")
        assert not any(row.startswith("cvtrace ") for row in rows[:-1])
    # AND at the end all that the script printed is there, and nothing of the line
    assert terminal.of_the_target == [*(f"line {number}" for number in range(20)), "no line feed at the end"]
    assert terminal.screen.margins in (None, pyte.screens.Margins(0, ROWS - 1))


def test_stdout_is_unchanged(mount: Path, tmp_path: Path) -> None:
    words = ["--mount", str(mount), "--", sys.executable, "-c", PRINTS_AND_READS]

    terminal = Terminal(command(tmp_path / "trace", *words), stdout=tmp_path / "out")

    assert (tmp_path / "out").read_text() == "".join(f"line {number}\n" for number in range(20)) + (
        "no line feed at the end"
    )
    assert any("cvtrace" in rows[-1] for rows in terminal.screens)
    assert terminal.of_the_target == []


def test_watch_in_a_pipe_says_that_nothing_is_shown(mount: Path, tmp_path: Path) -> None:
    words = ["--mount", str(mount), "--", sys.executable, "-c", PRINTS_AND_READS]

    result = subprocess.run(command(tmp_path / "trace", *words), capture_output=True, check=True)

    assert result.stdout.startswith(b"line 0\n")
    (line,) = result.stderr.splitlines()
    assert line.startswith(b"cvtrace: --watch has no effect")


def test_watch_counts_reads_while_they_happen(mount: Path, tmp_path: Path) -> None:
    words = ["--mount", str(mount), "--", sys.executable, "-c", READS, str(mount / "model")]

    terminal = Terminal(command(tmp_path / "trace", *words, probes="ebpf"))

    matches = [re.search(r" ([\d,]+) reads/s(?: \(([\d,]+)\))? .* 0 lost$", rows[-1]) for rows in terminal.screens]
    sums = [int(match[2].replace(",", "")) for match in matches if match and match[2]]
    assert sums
    assert sums == sorted(sums)
    assert sums[-1] > 0
