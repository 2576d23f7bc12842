"""The terminal and the pipes that a script of another user gets in place of root's serve it as well as root's did."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from shell import Shell, command, run
from throwaway import PYTHON, Somebody
from waiting import DEADLINE_S, wait_until

from cvtrace.tracer.relay import IDLE_S
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root

READS = "import os, sys; print(os.isatty(0), os.isatty(1), *os.get_terminal_size()); print('said', input())"


def on_terminal(ann: Somebody, mount: Path, *words: str, probes: str = "portable") -> Shell:
    return Shell(*command(ann, mount, *words, probes=probes))


def test_the_script_has_a_terminal_of_its_own_of_the_same_size(ann: Somebody, workdir: Path, mount: Path) -> None:
    shell = on_terminal(ann, mount, PYTHON, "-c", f"import time; time.sleep(0.2)\n{READS}")
    fcntl.ioctl(shell.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.kill(shell.pid, signal.SIGWINCH)
    before = shell.settings()
    shell.read_until("True True 77 33\r\n")
    wait_until(lambda: shell.settings() != before, "every key reaches the script's terminal")
    shell.type("hello\n")
    shell.read_until("said hello\r\n")
    wait_until(lambda: shell.settings() == before, "the terminal is as it was")
    assert shell.end() == 0


@pytest.mark.parametrize("probes", ["portable", "strace", "ebpf"])
def test_ctrl_c_ends_the_script(ann: Somebody, workdir: Path, mount: Path, probes: str) -> None:
    shell = on_terminal(ann, mount, "sh", "-c", "echo ready; exec sleep 60", probes=probes)
    shell.read_until("ready\r\n")
    shell.type("\x03")
    shell.read_until("^C")
    assert shell.end() == 130
    assert read_trace("trace").meta["end"] == "interrupted"


def test_ctrl_z_returns_to_the_shell_and_fg_continues_the_script(ann: Somebody, workdir: Path, mount: Path) -> None:
    if not Path("/bin/bash").exists():
        pytest.skip("needs a shell with job control")
    shell = Shell("bash", "--norc", "-i")
    shell.read_until("$ ")
    words = shlex.join(command(ann, mount, "sh", "-c", "echo ready; read line; echo said $line"))
    shell.type(f"cd {workdir}; {words}; echo code:$?\n")
    shell.read_until("ready\r\n")
    wait_until(shell.passes_every_key, "the script has the keyboard")
    shell.type("\x1a")
    shell.read_until("Stopped")
    shell.type("echo in the shell\n")
    shell.read_until("\nin the shell\r\n")
    shell.type("fg\n")
    shell.read_until("fg\r\n")
    wait_until(shell.passes_every_key, "the script has the keyboard again")
    shell.type("again\n")
    shell.read_until("said again\r\n")
    shell.read_until("$ ")
    shell.type("exit\n")
    assert shell.end() == 0
    assert read_trace("trace").damage is None


def test_lines_written_just_before_the_end_have_one_carriage_return(ann: Somebody, workdir: Path, mount: Path) -> None:
    for _ in range(3):
        shell = on_terminal(ann, mount, "sh", "-c", "seq 20000")
        shell.read_until("\n20000\r")
        assert shell.end() == 0
        assert "\r\r" not in shell.output
        assert shell.output.count("\r\n") >= 20_000


def test_pipes_are_relayed_completely_and_in_order(ann: Somebody, workdir: Path, mount: Path) -> None:
    data = os.urandom(3_000_000)
    result = subprocess.run(command(ann, mount, "cat"), input=data, capture_output=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == data
    result = run(ann, mount, "sh", "-c", "for i in 1 2 3; do echo out; echo err >&2; done", capture_output=False,
               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert result.stdout == "out\nerr\n" * 3
    closed = run(ann, mount, "sh", "-c", "yes | head -c 100000000; echo $?", stdin=subprocess.DEVNULL, capture_output=False,
                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    assert closed.returncode == 0, closed.stderr


def test_a_reader_that_closes_the_pipe_ends_the_script_with_a_broken_pipe(
    ann: Somebody, workdir: Path, mount: Path
) -> None:
    with subprocess.Popen(command(ann, mount, "yes"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGPIPE


def test_a_recorder_that_is_killed_leaves_the_script_running(ann: Somebody, workdir: Path, mount: Path) -> None:
    ann.owns(workdir)
    words = command(
        ann,
        mount,
        "sh",
        "-c",
        "echo ready; read line; echo said $line >said; while [ ! -e enough ]; do sleep 0.1; done; echo end >ended",
    )
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("on\n")
    process.stdin.flush()
    wait_until((workdir / "said").exists, "the script has read its line")
    process.kill()
    process.wait()
    (workdir / "enough").touch()
    wait_until((workdir / "ended").exists, "the script ends by itself")
    process.communicate()


def test_typing_is_echoed_while_output_is_piped(ann: Somebody, workdir: Path, mount: Path) -> None:
    """No attack: `cvtrace run --user … | cat` on a terminal."""
    words = shlex.join(command(ann, mount, PYTHON, "-c", READS.replace(", *os.get_terminal_size()", "")))
    shell = Shell("sh", "-c", f"{words} | cat")
    shell.type("hello\n")
    shell.read_until("said hello\r\n")
    assert "True False\r\n" in shell.output
    assert shell.end() == 0


def test_a_late_reader_gets_all_output(ann: Somebody, workdir: Path, mount: Path) -> None:
    """No attack: a pager reads what is left when its user comes to it, after the script has ended."""
    with subprocess.Popen(command(ann, mount, "head", "-c", "120000", "/dev/zero"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        wait_until(lambda: Path("trace/events.parquet").exists(), "the recording is finished")
        time.sleep(10 * IDLE_S)  # the patience with a script that may have more to say
        assert len(process.stdout.read()) == 120_000
        assert process.wait(DEADLINE_S) == 0
