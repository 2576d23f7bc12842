"""Signals to a recording: the script gets its own, and the trace is finished, or readable if the recorder was killed."""

import os
import pty
import signal
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, RUNGS, options, script, start
from waiting import DEADLINE_S, wait_until

from cvtrace.probes.events import Kind
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


SLEEPS = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"


@pytest.mark.parametrize("probes", RUNGS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_reaches_the_script_and_leaves_a_finished_trace(workdir, mount, number, probes):
    # GIVEN a recording
    process = start(*options(mount, probes), script(SLEEPS))
    # WHEN the recorder is told to end
    process.send_signal(number)
    # THEN the script ended by that signal, and the trace is whole
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number
    assert read_trace("trace").damage is None, stderr
    assert read_trace("trace").meta["end"] == "signalled"


def test_a_script_that_handles_sigterm_may_continue(workdir, mount):
    name = script(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = start(*options(mount), name)
    process.terminate()
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 7
    assert read_trace("trace").meta["end"] == "exited"


def test_a_second_sigterm_leaves_the_script_alone(workdir, mount):
    # GIVEN a script that ignores SIGTERM
    name = script(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: open('asked', 'a').close())\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists('enough'): time.sleep(0.05)\n"
    )
    process = start(*options(mount), name)
    process.terminate()
    wait_until(Path("asked").exists, "the script is asked to end")
    # WHEN the recorder is told a second time
    process.terminate()
    wait_until(lambda: process.poll() is not None, "the recorder ends")
    # THEN it goes, with a finished trace, and the script goes on
    assert process.returncode == 143
    assert read_trace("trace").meta["end"] == "detached"
    os.kill(int(Path("pid").read_text()), 0)
    Path("enough").touch()
    process.communicate(timeout=DEADLINE_S)


def in_terminal(arguments: list[str]) -> tuple[int, int]:
    """Start a command as the foreground job of a new terminal; returns its pid and our end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(arguments[0], arguments)
    return pid, terminal


def read_until(terminal: int, text: str) -> str:
    output = ""
    while text not in output:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        output += part.decode()
    return output


@pytest.mark.parametrize("probes", RUNGS)
def test_ctrl_c_reaches_the_script_once_and_leaves_a_finished_trace(workdir, mount, probes):
    # GIVEN a script that counts its interrupts, on a terminal
    name = script(
        "import sys, time\n"
        "times = 0\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        print('ready', sys.stdin.isatty(), flush=True)\n"
        "        time.sleep(0.3 if times else 60)\n"
        "        break\n"
        "    except KeyboardInterrupt:\n"
        "        times += 1\n"
        "print('interrupts:', times, flush=True)\n"
        "sys.exit(4)\n"
    )
    pid, terminal = in_terminal([*CVTRACE, "run", *options(mount, probes), name])
    assert "ready True" in read_until(terminal, "ready True\r\n")
    # WHEN the user presses Ctrl-C
    os.write(terminal, b"\x03")
    # THEN the script gets one interrupt, as without us, and the trace is finished
    assert "interrupts: 1" in read_until(terminal, "interrupts: 1\r\n")
    read_until(terminal, "\0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    os.close(terminal)
    assert read_trace("trace").damage is None
    assert read_trace("trace").meta["end"] == "interrupted"


def test_ctrl_c_ends_a_script_that_does_not_handle_it(workdir, mount):
    pid, terminal = in_terminal([*CVTRACE, "run", *options(mount), "--", "sh", "-c", "echo ready; exec sleep 60"])
    read_until(terminal, "ready\r\n")
    os.write(terminal, b"\x03")
    read_until(terminal, "\0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(terminal)
    assert read_trace("trace").meta["end"] == "interrupted"


def test_sigint_without_a_terminal_is_passed_on(workdir, mount):
    # GIVEN a recording without a terminal
    process = start(*options(mount), script(SLEEPS), own_session=True)
    # WHEN only the recorder is interrupted THEN the script is, too
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in stderr


def test_a_stopped_job_continues(workdir, mount):
    # GIVEN a recording on a terminal, stopped by Ctrl-Z
    pid, terminal = in_terminal(
        [*CVTRACE, "run", *options(mount), "--", "sh", "-c", "echo ready; read line; echo $line"]
    )
    read_until(terminal, "ready\r\n")
    os.kill(pid, signal.SIGTSTP)  # a session leader's group is orphaned: the kernel ignores the key itself there
    os.kill(pid, signal.SIGSTOP)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    # WHEN it goes on THEN the script does, and ends as it would
    os.kill(pid, signal.SIGCONT)
    os.write(terminal, b"again\n")
    read_until(terminal, "\0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert read_trace("trace").damage is None


@pytest.mark.parametrize("probes", RUNGS)
def test_kill_of_the_recorder_leaves_a_readable_trace_and_the_script_running(workdir, mount, probes):
    # GIVEN a recording, of which the store has written the first events
    name = script(
        f"import os, time\nopen('pid', 'w').write(str(os.getpid()))\nopen('{mount}/model').read()\n"
        "print('ready', flush=True)\nwhile not os.path.exists('enough'): time.sleep(0.05)\n"
    )
    process = start(*options(mount, probes), name)
    if probes == "ebpf":
        wait_until(lambda: (read_trace("trace").events["kind"] == Kind.FUSE_SEND).any(), "events are on the disk")
    # WHEN the recorder is killed
    process.kill()
    process.wait()
    # THEN the trace says where it ends, what was seen is in it, and the script lives
    trace = read_trace("trace")
    assert trace.damage is not None
    assert "killed" in trace.damage
    assert trace.meta["mounts"][0]["counters_before"]
    if probes == "ebpf":
        assert (trace.events["kind"] == Kind.FUSE_SEND).any()
    os.kill(int(Path("pid").read_text()), 0)
    Path("enough").touch()
    process.communicate(timeout=DEADLINE_S)
