"""`cvtrace run` as a user types it: the script is unchanged, bad input is refused in one sentence, the trace is whole.

Most tests take the rung `portable`, which is quick; what they hold is the same on every rung.
"""

import contextlib
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvtrace.probes.events import Kind
from cvtrace.tracer.store import Trace, read_trace

DEADLINE_S = 30.0
NOBODY = 65534
CVTRACE = [sys.executable, "-m", "cvtrace"]
RUNGS = ["portable", "strace", "ebpf"]
pytestmark = pytest.mark.root


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def tiny_mount(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Mount one file with a process that looks like cvmfs2."""
    mount, workspace = folder / "cvmfs mount", folder / "workspace"
    mount.mkdir()
    workspace.mkdir()
    program = [sys.executable, Path(__file__).with_name("tiny_mount.py"), mount, workspace, "tiny.test.org"]
    daemon = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: mount.is_mount() and (workspace / "cvmfs_io.tiny.test.org").exists())
        yield mount, daemon
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", mount], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        daemon.wait()


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mount")
    open_to_all(folder)
    with tiny_mount(folder) as (path, _):
        yield path


def open_to_all(folder: Path) -> None:
    """Let other users into a temporary folder of pytest."""
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    open_to_all(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return tmp_path


def options(mount: Path, probes: str = "portable") -> list[str]:
    return ["-o", "trace", "--probes", probes, "--mount", str(mount), "--no-summary"]


def run(
    mount: Path, *arguments: str, probes: str = "portable", stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CVTRACE, "run", *options(mount, probes), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environ},
        check=False,
    )


def script(text: str) -> str:
    Path("script.py").write_text(text)
    return "script.py"


def trace_of(done: subprocess.CompletedProcess[str]) -> Trace:
    trace = read_trace("trace")
    assert trace.damage is None, done.stderr
    return trace


# The script is unchanged


def test_arguments_input_and_output_pass_through(here, mount):
    # GIVEN a script that shows what it was given
    name = script("import sys\nprint(sys.argv, sys.stdin.read())\nprint('err', file=sys.stderr)\n")
    # WHEN it is run with options of its own and input in a pipe
    done = run(mount, name, "-m", "x", "--force", "-o", "y", stdin="hello")
    # THEN stdout holds its output only, and its stderr comes through
    assert done.stdout == "['script.py', '-m', 'x', '--force', '-o', 'y'] hello\n"
    assert "err\n" in done.stderr
    assert trace_of(done).meta["target"]["argv"][1:] == ["script.py", "-m", "x", "--force", "-o", "y"]


@pytest.mark.parametrize(
    "body, code, end",
    [
        ("pass", 0, "exited"),
        ("import sys; sys.exit(3)", 3, "exited"),
        ("raise ValueError('broken')", 1, "exited"),
        ("import os; os.kill(os.getpid(), 9)", 137, "signalled"),
        ("import os; os.kill(os.getpid(), 11)", 139, "signalled"),
    ],
)
def test_the_exit_code_is_the_scripts(here, mount, body, code, end):
    done = run(mount, script(body))
    assert done.returncode == code, done.stderr
    trace = trace_of(done)
    assert (trace.meta["target"]["exit_code"], trace.meta["end"]) == (code, end)


@pytest.mark.parametrize("probes", ["strace", "ebpf"])
@pytest.mark.parametrize("body, code", [("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_scripts_on_every_rung(here, mount, body, code, probes):
    assert run(mount, script(body), probes=probes).returncode == code


def test_a_program_is_run_after_two_dashes(here, mount):
    done = run(mount, "--", "sh", "-c", "echo $0; exit 5", "name")
    assert (done.returncode, done.stdout) == (5, "name\n")


def test_the_program_keeps_the_name_it_is_called_by(here, mount):
    done = run(mount, "--", "sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline")
    assert done.stdout.startswith("sh -c")


def test_the_interpreter_is_that_of_the_active_environment(here, mount):
    # GIVEN an environment that is active
    (here / "env" / "bin").mkdir(parents=True)
    (here / "env" / "bin" / "python").symlink_to("/usr/bin/env")
    done = run(mount, script(""), VIRTUAL_ENV=str(here / "env"))
    # THEN its python gets the script (env finds no program called so and says 127)
    assert trace_of(done).meta["target"]["argv"][0] == str(here / "env" / "bin" / "python")
    # WHEN an interpreter is named THEN that one does
    done = run(mount, "--force", "--python", sys.executable, script("import sys; print(sys.executable)"))
    assert done.stdout.strip() == sys.executable


@pytest.mark.parametrize("probes", RUNGS)
def test_the_script_has_no_more_open_files_than_without_us(here, mount, probes):
    # GIVEN a script that lists its open files, and a file that its caller left open for it
    name = script("import os\nprint(sorted(int(f) for f in os.listdir('/proc/self/fd')))")
    with Path("left-open").open("w") as given:
        os.set_inheritable(given.fileno(), True)
        command = [*CVTRACE, "run", *options(mount, probes), name]
        # WHEN it runs with and without us THEN it sees the same
        traced = subprocess.run(command, pass_fds=[given.fileno()], stdout=subprocess.PIPE, check=True)
        plain = subprocess.run(["python3", name], pass_fds=[given.fileno()], stdout=subprocess.PIPE, check=True)
    assert traced.stdout == plain.stdout


@pytest.mark.parametrize("probes", RUNGS)
def test_limits_and_signals_are_those_without_us(here, mount, probes):
    name = script(
        "import resource, signal\n"
        "print([resource.getrlimit(n) for n in range(16)])\n"
        "status = open('/proc/self/status').read().splitlines()\n"
        "print([line for line in status if line.startswith(('SigB', 'SigI', 'SigC', 'Cap', 'Groups', 'NoNew'))])\n"
    )
    plain = subprocess.run(["python3", name], capture_output=True, text=True, check=True)
    assert run(mount, name, probes=probes).stdout == plain.stdout


def test_the_end_of_the_script_is_noticed_at_once(here, mount):
    # GIVEN a script that prints when it ends, on the clock of events
    done = run(mount, script("import time; print(time.monotonic_ns())"))
    # THEN the recording ends soon after (half a second: the interpreter has to finish, the machine may be busy)
    assert trace_of(done).meta["clock"]["end_ns"] - int(done.stdout) < 0.5e9


# Signals


def start(mount: Path, *arguments: str, probes: str = "portable") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CVTRACE, "run", *options(mount, probes), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SLEEPS = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("probes", RUNGS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_reaches_the_script_and_leaves_a_finished_trace(here, mount, number, probes):
    # GIVEN a recording
    process = start(mount, script(SLEEPS), probes=probes)
    ready(process)
    # WHEN the recorder is told to end
    process.send_signal(number)
    # THEN the script ended by that signal, and the trace is whole
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number
    assert read_trace("trace").damage is None, stderr
    assert read_trace("trace").meta["end"] == "signalled"


def test_a_script_that_handles_sigterm_has_its_way(here, mount):
    name = script(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    process = start(mount, name)
    ready(process)
    process.terminate()
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 7
    assert read_trace("trace").meta["end"] == "exited"


def test_a_second_sigterm_leaves_the_script_alone(here, mount):
    # GIVEN a script that ignores SIGTERM
    name = script(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: open('asked', 'a').close())\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists('enough'): time.sleep(0.05)\n"
    )
    process = start(mount, name)
    ready(process)
    process.terminate()
    wait_for(Path("asked").exists)
    # WHEN the recorder is told a second time
    process.terminate()
    wait_for(lambda: process.poll() is not None)
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
    seen = ""
    while text not in seen:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        seen += part.decode()
    return seen


@pytest.mark.parametrize("probes", RUNGS)
def test_ctrl_c_reaches_the_script_once_and_leaves_a_finished_trace(here, mount, probes):
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


def test_ctrl_c_ends_a_script_that_does_not_handle_it(here, mount):
    pid, terminal = in_terminal([*CVTRACE, "run", *options(mount), "--", "sh", "-c", "echo ready; exec sleep 60"])
    read_until(terminal, "ready\r\n")
    os.write(terminal, b"\x03")
    read_until(terminal, "\0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(terminal)
    assert read_trace("trace").meta["end"] == "interrupted"


def test_sigint_without_a_terminal_is_passed_on(here, mount):
    # GIVEN a recording without a terminal
    process = subprocess.Popen(
        [*CVTRACE, "run", *options(mount), script(SLEEPS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ready(process)
    # WHEN only the recorder is interrupted THEN the script is, too
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in stderr


def test_a_stopped_job_goes_on(here, mount):
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
def test_kill_of_the_recorder_leaves_a_readable_trace_and_the_script_running(here, mount, probes):
    # GIVEN a recording that has run for longer than the store holds events back
    name = script(
        f"import os, time\nopen('pid', 'w').write(str(os.getpid()))\nopen('{mount}/model').read()\ntime.sleep(0.7)\n"
        "print('ready', flush=True)\nwhile not os.path.exists('enough'): time.sleep(0.05)\n"
    )
    process = start(mount, name, probes=probes)
    ready(process)
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


# Users


def test_under_sudo_script_and_trace_are_the_callers(here, mount):
    # GIVEN a folder of nobody's, and sudo called by nobody
    os.chown(here, NOBODY, NOBODY)
    name = script(
        "import os\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "print(os.environ['HOME'], os.environ['USER'], os.environ['LOGNAME'], 'SUDO_UID' in os.environ)\n"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm', 'CapInh'))])\n"
    )
    # WHEN it is recorded
    done = run(mount, name, SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY), SUDO_USER="nobody")
    # THEN it ran as nobody, without privileges, and the trace is nobody's
    users, names, capabilities = done.stdout.splitlines()
    assert users == f"{(NOBODY,) * 3} {(NOBODY,) * 3} [{NOBODY}]"
    assert names == "/nonexistent nobody nobody False"
    assert capabilities == "['0000000000000000', '0000000000000000', '0000000000000000']"
    assert trace_of(done).meta["target"]["user"] == "nobody"
    owners = {path.stat().st_uid for path in (here / "trace", *(here / "trace").iterdir())}
    assert owners == {NOBODY}


def test_under_sudo_the_environment_is_what_sudo_was_called_with(here, mount):
    # GIVEN a process called sudo that nobody started in an active environment, and that cleans the environment
    os.chown(here, NOBODY, NOBODY)
    (here / "env" / "bin").mkdir(parents=True)
    (here / "env" / "bin" / "python").symlink_to("/usr/bin/python3")
    shutil.copy("/bin/sh", here / "sudo")
    name = script(
        "import os, sys\nprint(sys.argv[0], os.environ['VIRTUAL_ENV'], os.environ['USER'], os.environ['GIVEN'])"
    )
    cleaned = f"env -i PATH=/bin HOME=/root USER=root GIVEN=1 SUDO_UID={NOBODY} SUDO_GID={NOBODY}"
    command = shlex.join([*CVTRACE, "run", *options(mount), name])
    # WHEN it runs the recorder
    done = subprocess.run(
        [here / "sudo", "-c", f"{cleaned} {command}; exit $?"],
        env={"USER": "nobody", "HOME": "/nonexistent", "VIRTUAL_ENV": str(here / "env"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    # THEN the script has nobody's environment, and what sudo was told to add
    assert done.stdout == f"script.py {here}/env nobody 1\n", done.stderr
    assert trace_of(done).meta["target"]["argv"][0] == f"{here}/env/bin/python"


def test_a_closed_stderr_does_not_end_the_recording(here, mount):
    # GIVEN nobody who reads what the recorder says
    reading, writing = os.pipe()
    os.close(reading)
    command = [*CVTRACE, "run", "-o", "trace", "--probes", "portable", "--mount", str(mount), script("print('done')")]
    # WHEN it has something to say THEN script and trace are not concerned
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert read_trace("trace").damage is None


def test_user_runs_the_script_as_somebody_else(here, mount):
    done = run(mount, "--user", "nobody", script("import os; print(os.getuid())"))
    assert done.stdout == f"{NOBODY}\n"


def test_under_sudo_a_trace_cannot_be_put_where_the_caller_may_not(here, mount):
    # GIVEN a folder of root's THEN the caller's permissions count
    done = run(mount, script(""), SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY))
    assert (done.returncode, done.stderr) == (
        2,
        "cvtrace: cannot create trace: Permission denied; choose another folder with -o DIR\n",
    )


def test_without_a_place_for_temporary_files_the_way_out_is_said(here, mount, tmp_path):
    # GIVEN a folder for temporary files that is closed to the caller
    os.chown(here, NOBODY, NOBODY)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # WHEN
    asked_by = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
    done = run(mount, script("print('ran')"), probes="strace", TMPDIR=str(closed), **asked_by)
    # THEN one sentence, nothing has run, and nothing is left
    assert (done.returncode, done.stdout) == (3, "")
    assert "set TMPDIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(here.glob("cvtrace-*"))


def as_nobody(mount: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run as nobody, who may read everything: the interpreter of the tests may be in a closed home folder."""
    to = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = [*to, *may_read, *CVTRACE, "run", "--mount", str(mount), "--no-summary", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_without_root_the_portable_rung_is_taken_and_said(here, mount):
    os.chown(here, NOBODY, NOBODY)
    done = as_nobody(mount, "-o", "trace", script("print('done')"))
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "sudo cvtrace run" in done.stderr
    trace = trace_of(done)
    assert trace.meta["probe"] == "portable"
    assert trace.meta["mounts"][0]["counters_after"] == {"nopen": 7}
    assert any("sudo cvtrace run" in sentence for sentence in trace.meta["missing"])


def test_ebpf_without_root_cannot_observe(here, mount):
    os.chown(here, NOBODY, NOBODY)
    done = as_nobody(mount, "-o", "trace", "--probes", "ebpf", script("print('never')"))
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"cvtrace: eBPF needs root: run `sudo cvtrace run .*\n", done.stderr)
    assert not Path("trace").exists()


# Bad input: one sentence, before anything starts


def refused(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("ran").exists()


RAN = "open('ran', 'w')"


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "nothing to run"),
        (["missing.py"], "there is no script missing.py"),
        (["folder.py"], "is a folder"),
        (["--", "no-such-program"], "there is no script or program no-such-program"),
        (["--", "./script.py.txt"], "not executable"),
        (["--", "script.py.txt"], "write ./script.py.txt"),
        (["--python", "/no/python", "script.py"], "no interpreter /no/python"),
        (["--user", "no-such-user", "script.py"], "no user no-such-user"),
    ],
)
def test_a_wrong_target_is_refused(here, mount, arguments, says):
    script(RAN)
    Path("folder.py").mkdir()
    Path("script.py.txt").write_text(RAN)
    refused(run(mount, *arguments), 2, says)
    assert not Path("trace").exists()


def test_an_existing_output_is_refused(here, mount):
    Path("trace").mkdir()
    refused(run(mount, script(RAN)), 2, "trace is already there")


def test_force_does_not_replace_what_is_no_trace(here, mount):
    Path("trace").mkdir()
    Path("trace/thesis.txt").write_text("years of work")
    refused(run(mount, "--force", script(RAN)), 2, "is not a trace")
    assert Path("trace/thesis.txt").read_text() == "years of work"


def test_an_unwritable_output_is_refused(here, mount):
    refused(run(mount, "-o", "missing/trace", script(RAN)), 2, "cannot create missing/trace")
    refused(run(mount, "-o", "/proc/trace", script(RAN)), 2, "cannot create /proc/trace")


def test_a_mount_that_is_none_cannot_be_observed(here, mount):
    refused(run(here, script(RAN)), 3, "is not on a CVMFS mount")
    assert not Path("trace").exists()


def test_without_any_mount_the_way_out_is_named(here):
    # GIVEN a mount namespace without CVMFS
    hide = 'umount -l -a -t fuse; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", hide, "sh", *CVTRACE, "run", script(RAN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused(done, 3, "no CVMFS mount found")
    assert "cvtrace lab up" in done.stderr
    assert [path.name for path in here.iterdir()] == ["script.py"]


def test_a_program_that_cannot_be_executed_is_said(here, mount):
    # GIVEN an executable in no known format
    Path("program").write_bytes(b"\x7fELF nonsense")
    Path("program").chmod(0o755)
    done = run(mount, "--", "./program")
    assert done.returncode == 126
    assert done.stderr == "cvtrace: cannot run ./program: Exec format error\n"
    assert not Path("trace").exists()


# The mount


def test_what_the_client_counted_is_in_the_trace(here, mount):
    done = run(mount, script(f"open('{mount}/model').read()"), probes="ebpf")
    described = trace_of(done).meta["mounts"][0]
    assert described["fqrn"] == "tiny.test.org"
    assert described["version"] == "2.12.0"
    assert described["workspace"] == str(mount.with_name("workspace"))
    assert described["error"] is None
    opened = [described[when]["cvmfs.n_fs_open"] for when in ("counters_before", "counters_after")]
    assert opened[1] == opened[0] + 1


def test_a_daemon_that_dies_is_said_and_the_trace_goes_on(here):
    # GIVEN a script that does something else long after its mount died
    with tiny_mount(here) as (path, daemon):
        name = script(
            "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('enough'): time.sleep(0.05)\n"
        )
        process = start(path, name, probes="ebpf")
        ready(process)
        # WHEN the daemon dies
        daemon.kill()
        daemon.wait()
        assert process.stderr is not None
        told = process.stderr.readline()
        Path("enough").touch()
        _, rest = process.communicate(timeout=DEADLINE_S)
    # THEN that is said once, and the trace knows when
    assert re.match(rf"cvtrace: cvmfs2 \(pid {daemon.pid}\) of .* exited while it was traced, at \d+\.\d s", told)
    assert rest == ""
    assert process.returncode == 0
    described = read_trace("trace").meta["mounts"][0]
    assert read_trace("trace").meta["clock"]["start_ns"] < described["daemon_ended_ns"]


@pytest.mark.parametrize("probes", RUNGS)
def test_a_daemon_that_hangs_does_not_hang_the_recorder(here, probes):
    with tiny_mount(here) as (path, daemon):
        # GIVEN a daemon that answers nothing any more
        daemon.send_signal(signal.SIGSTOP)
        # WHEN a script is recorded that does not touch the mount
        done = run(path, script("print('done')"), probes=probes)
    # THEN it runs, and one sentence says what is wrong
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "does not answer" in read_trace("trace").meta["mounts"][0]["error"]


def test_two_recordings_in_one_second_get_two_folders(here, mount):
    command = [*CVTRACE, "run", "--probes", "portable", "--mount", str(mount), "--no-summary", script("")]
    recordings = [subprocess.Popen(command) for _ in range(3)]
    assert [recording.wait(DEADLINE_S) for recording in recordings] == [0, 0, 0]
    assert len(list(here.glob("cvtrace-script-*/events.parquet"))) == 3
