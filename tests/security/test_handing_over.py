"""What a target of another user gets of what root has: nothing but a terminal and pipes of its own."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from throwaway import PYTHON, SECRET, Somebody, sudoers
from waiting import DEADLINE_S, wait_until

from cvtrace.tracer.relay import IDLE_S
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root
CVTRACE = [sys.executable, "-m", "cvtrace"]
INJECT = """
import fcntl, sys, termios
for stream in (0, 1, 2):
    for byte in b'touch planted\\n':
        try: fcntl.ioctl(stream, termios.TIOCSTI, bytes([byte]))
        except OSError: break
"""


def command(user: Somebody, mount: Path, *words: str, probes: str = "portable") -> list[str]:
    options = ["-o", "trace", "--force", "--no-summary", "--probes", probes, "--mount", str(mount)]
    return [*CVTRACE, "run", "--user", user.name, *options, "--", *words]


def run(user: Somebody, mount: Path, *words: str, **popen: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(user, mount, *words), **{"capture_output": True, "text": True, "timeout": 60, "check": False, **popen}
    )


class Shell:
    """A terminal on which a program of root's runs as the foreground job."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None, user: Somebody | None = None) -> None:
        """Start it, as `user` on the user's terminal; the shell's prompt and its line editing are plain."""
        self.output = ""
        self.passed = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if user is not None:
                os.fchown(0, user.uid, -1)
                os.setgroups([])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
            os.execvpe(argv[0], list(argv), {**os.environ, "PS1": "$ ", "TERM": "dumb", **(env or {})})

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, text: str) -> str:
        """Read until a text comes after what was waited for last; return what came up to its end."""
        begin, deadline_s = self.passed, time.monotonic() + DEADLINE_S
        while text not in self.output[begin:]:
            assert time.monotonic() < deadline_s, repr(self.output[begin:])
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.output += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # nobody has the terminal any more
                    assert text in self.output[begin:], self.output
        self.passed = self.output.index(text, begin) + len(text)
        return self.output[begin : self.passed]

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.fd)[:4]

    def passes_every_key(self) -> bool:
        """Tell whether Ctrl-C and Ctrl-Z reach a program as bytes: cvtrace relays them to the script's terminal."""
        return not termios.tcgetattr(self.fd)[3] & termios.ISIG

    def end(self) -> int:
        """Read what comes until it ends; return its exit code."""
        while select.select([self.fd], [], [], DEADLINE_S)[0]:
            try:
                self.output += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


def test_nothing_can_be_typed_into_roots_terminal(ann: Somebody, workdir: Path, mount: Path) -> None:
    """TIOCSTI on the inherited terminal put a command into root's shell, which ran it as root."""
    (workdir / "inject.py").write_text(INJECT)
    shell = Shell("sh", "-i")
    shell.read_until("$ ")
    shell.type(f"cd {workdir}; {shlex.join(command(ann, mount, PYTHON, 'inject.py'))}; echo done:$?\n")
    shell.read_until("done:0")
    shell.type("echo still here\n")
    shell.read_until("still here\r\n$ ")
    assert not (workdir / "planted").exists()
    assert "planted: not found" not in shell.output
    shell.type("exit\n")
    assert shell.end() == 0


def test_a_shell_that_sudo_started_does_not_share_its_terminal(ann: Somebody, workdir: Path, mount: Path) -> None:
    """With SUDO_UID in the environment of root's shell (sudo -s), the script was the caller's and the terminal root's."""
    ann.owns(workdir)
    (workdir / "inject.py").write_text(INJECT)
    words = [*CVTRACE, "run", "-o", "trace", "--no-summary", "--probes", "portable", "--mount", str(mount)]
    words += ["--", "sh", "-c", f"{PYTHON} inject.py; env"]
    shell = Shell("sh", "-i", env={**ann.under_sudo, "TOKEN": SECRET})
    shell.read_until("$ ")
    shell.type(f"cd {workdir}; {shlex.join(words)} 5<>/dev/null; echo done:$?\n")
    output = shell.read_until("done:0")
    assert SECRET not in output
    assert f"USER={ann.name}" in output
    shell.type("echo still here\n")
    shell.read_until("still here\r\n$ ")
    assert not (workdir / "planted").exists()
    shell.type("exit\n")
    assert shell.end() == 0


def test_what_root_has_open_is_not_handed_over(ann: Somebody, workdir: Path, mount: Path, secret: Path) -> None:
    """A descriptor of a file of mode 0600, opened by root's shell for something else, was there to be read."""
    fd = os.open(secret, os.O_RDWR)
    os.set_inheritable(fd, True)
    try:
        looks = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2 and os.path.exists(f'/proc/self/fd/{n}')]); print([os.fstat(n).st_mode & 0o170000 for n in (0, 1, 2)])"
        result = run(ann, mount, PYTHON, "-c", looks, pass_fds=[fd], stdin=subprocess.DEVNULL)
    finally:
        os.close(fd)
    assert result.returncode == 0, result.stderr
    names, modes = result.stdout.splitlines()
    assert [name for name in ast.literal_eval(names) if not name.endswith("/marks")] == []  # the import hook's own
    assert modes == "[8192, 4096, 4096]"  # /dev/null, and pipes


def test_output_to_a_file_of_root_can_only_be_written(ann: Somebody, workdir: Path, mount: Path, secret: Path) -> None:
    """stdout redirected to a file of root's could be read, cut and locked by the script, which may only say something."""
    attacks = (
        "import os, sys\n"
        "for attack in (lambda: os.ftruncate(1, 0), lambda: os.lseek(1, 0, 0), lambda: os.pread(1, 100, 0),\n"
        "               lambda: open('/proc/self/fd/1', 'rb').read(100)):\n"
        "    try: print('got', attack(), file=sys.stderr)\n"
        "    except OSError: pass\n"
        "print('said')\n"
    )
    attacks = attacks.replace(
        "open('/proc/self/fd/1', 'rb').read(100)",
        "os.read(os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK), 100)",
    )
    with secret.open("r+") as file:
        file.seek(0, 2)
        result = run(ann, mount, PYTHON, "-c", attacks, capture_output=False, stdout=file, stderr=subprocess.PIPE)
    assert result.returncode == 0, result.stderr
    assert "got" not in result.stderr
    assert secret.read_text() == f"{SECRET}said\n"


def test_the_environment_is_that_of_a_login(ann: Somebody, workdir: Path, mount: Path) -> None:
    """Root's environment was the script's: tokens, agents' sockets, LD_LIBRARY_PATH."""
    secrets = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "SSH_AUTH_SOCK": "/root/agent",
        "PYTHONPATH": "/root",
        "LANG": "C.UTF-8",
    }
    result = run(ann, mount, "env", env={**os.environ, **secrets, "TERM": "xterm"})
    assert result.returncode == 0, result.stderr
    environment = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert SECRET not in result.stdout
    assert "/root" not in result.stdout
    assert {name: environment[name] for name in ("HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG")} == {
        "HOME": str(ann.home), "USER": ann.name, "LOGNAME": ann.name, "SHELL": "/bin/sh", "TERM": "xterm", "LANG": "C.UTF-8",
    }  # fmt: skip
    assert {name for name in environment if not name.startswith(("CVTRACE_", "LC_"))} <= {
        *(
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "TERM",
            "LANG",
            "PATH",
            "PYTHONPATH",
            "COLORTERM",
            "TZ",
            "LANGUAGE",
            "PWD",
            "_",
        ),
    }


def test_the_script_has_its_own_session_and_no_terminal_where_there_is_none(
    ann: Somebody, workdir: Path, mount: Path
) -> None:
    """The script was in root's session: it could open /dev/tty, and signal what belongs to root's job."""
    looks = (
        "import os\nprint(os.getsid(0) != int(os.sys.argv[1]), os.getpgrp() == os.getpid())\n"
        "try: os.open('/dev/tty', os.O_RDWR); print('a terminal')\nexcept OSError: print('none')\n"
    )
    result = run(ann, mount, PYTHON, "-c", looks, str(os.getsid(0)))
    assert result.stdout == "True True\nnone\n", result.stderr


def test_a_key_in_roots_session_keyring_is_out_of_reach(ann: Somebody, workdir: Path, mount: Path) -> None:
    """Whoever has a session keyring may read its keys, whatever user it is by now."""
    import ctypes
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("the numbers of the system calls are those of x86_64")
    program = (
        "import ctypes, os, subprocess, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.syscall(250, 1, None)\n"
        "key = libc.syscall(248, b'user', b'cvtrace-test', b's3cret', 6, -3)\n"
        "print(key, flush=True)\n"
        "sys.exit(subprocess.run(sys.argv[1:] + [str(key)]).returncode)\n"
    )
    reads = (
        "import ctypes, sys; libc = ctypes.CDLL(None); found = ctypes.create_string_buffer(32)\n"
        "print(libc.syscall(250, 11, int(sys.argv[1]), found, 32))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *command(ann, mount, PYTHON, "-c", reads)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    key, read = result.stdout.splitlines()
    if int(key) < 0:
        pytest.skip(f"this kernel keeps no keys: {os.strerror(ctypes.get_errno())}")
    assert read == "-1", result.stderr


def test_a_folder_below_a_closed_one_gives_no_access(ann: Somebody, workdir: Path, mount: Path) -> None:
    """The working folder of root's was the script's: what is in it could be read though the way to it is closed."""
    inside = workdir / "closed" / "open"
    inside.mkdir(parents=True)
    (workdir / "closed").chmod(0o700)
    result = run(ann, mount, "cat", "file", cwd=inside)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{ann.name} may not enter {inside}: change to a folder" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_sudo_for_cvtrace_alone_runs_nothing_as_somebody_else(
    ann: Somebody, ben: Somebody, workdir: Path, mount: Path
) -> None:
    """`sudo cvtrace run --user root` was a shell of root's for whoever may call cvtrace through sudo."""
    ann.owns(workdir)
    for name in ("root", ben.name):
        words = [*CVTRACE, "run", "--user", name, "--mount", str(mount), "--", "id"]
        result = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, **ann.under_sudo}
        )
        assert (result.returncode, result.stdout) == (2, "")
        assert f"{ann.name} may not run every program as {name}" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    # AND who may do that anyway is not held up
    with sudoers(f"{ann.name} ALL=({ben.name}) NOPASSWD: ALL"):
        result = subprocess.run(
            command(ben, mount, "id", "-u"), capture_output=True, text=True, check=False,
            env={**os.environ, **ann.under_sudo},
        )  # fmt: skip
        assert result.stdout == f"{ben.uid}\n", result.stderr


def test_an_interpreter_of_the_caller_runs_as_the_caller(ann: Somebody, workdir: Path, mount: Path) -> None:
    """No attack succeeded here: what is executed to find the library has no right, descriptor or session of root's."""
    ann.owns(workdir)
    evil = ann.home / "python-asked"
    evil.write_text(
        f"#!{PYTHON}\nimport os\n"
        "files = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in range(3, 300)]\n"
        "files = [name for name in files if not name.startswith('/proc/')]\n"
        "caps = [line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap') and 'Bnd' not in line]\n"
        f"open({str(ann.home / 'asked')!r}, 'a').write(f'{{os.getresuid()}} {{set(caps)}} {{files}} "
        "{os.getsid(0)}\\n')\n"
    )
    evil.chmod(0o755)
    ann.owns(evil)
    words = [*CVTRACE, "run", "--python", str(evil), "-o", "trace", "--no-summary", "--mount", str(mount), "script.py"]
    (workdir / "script.py").write_text("")
    fd = os.open("/etc/shadow", os.O_RDONLY)
    os.set_inheritable(fd, True)
    result = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **ann.under_sudo}, pass_fds=[fd]
    )
    os.close(fd)
    assert result.returncode == 0, result.stderr
    lines = (ann.home / "asked").read_text().splitlines()
    assert len(lines) == 2  # to find the library, and as the script's interpreter
    for line in lines:
        assert line.startswith(f"({ann.uid}, {ann.uid}, {ann.uid}) {{'0000000000000000'}} ")
        assert "shadow" not in line
        assert line.split()[-1] != str(os.getsid(0))
    # AND doctor, which tries the interpreter, does it the same way
    (ann.home / "asked").unlink()
    subprocess.run(
        [*CVTRACE, "doctor", "--python", str(evil), "--mount", str(mount)],
        capture_output=True, check=False, env={**os.environ, **ann.under_sudo},
    )  # fmt: skip
    assert {line.split(")")[0] for line in (ann.home / "asked").read_text().splitlines()} == {
        f"({ann.uid}, {ann.uid}, {ann.uid}"
    }


def test_a_strace_on_the_callers_path_is_not_run_as_root(ann: Somebody, workdir: Path, mount: Path) -> None:
    """Where sudo leaves PATH alone, root executed the first `strace` on it."""
    ann.owns(workdir)
    evil = ann.home / "bin" / "strace"
    evil.parent.mkdir(exist_ok=True)
    evil.write_text(f"#!/bin/sh\nid -u >>{ann.home}/traced\nexit 1\n")
    evil.chmod(0o755)
    ann.owns(evil, evil.parent)
    path = f"{evil.parent}:{os.environ['PATH']}"
    words = [*CVTRACE, "run", "--probes", "strace", "-o", "trace", "--no-summary", "--mount", str(mount), "--", "true"]
    environ = {**os.environ, **ann.under_sudo, "PATH": path}
    result = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    assert result.returncode == 0, result.stderr
    assert not (ann.home / "traced").exists()


# No attacks: a terminal of its own serves as well as root's did.

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
    result = subprocess.run(command(ann, mount, "cat"), input=data, capture_output=True, check=False, timeout=60)
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


# No attacks: under sudo, what the caller had is still the caller's.


@pytest.mark.parametrize("own_pty", [False, True], ids=["", "use_pty"])
def test_under_sudo_the_script_keeps_terminal_environment_and_keys(
    ann: Somebody, workdir: Path, mount: Path, own_pty: bool
) -> None:
    ann.owns(workdir)
    looks = (
        "import os, sys; print(os.isatty(0), os.environ['MINE'], os.environ['HOME'], os.getuid(), flush=True)\n"
        "print(sorted(os.path.realpath(f'/proc/self/fd/{fd}').split('/')[-1] for fd in range(3, 99) if os.path.exists(f'/proc/self/fd/{fd}')))\n"
        "print(os.getsid(0) == os.getsid(os.getppid()), os.getpgrp() == os.getpgid(os.getppid()))\n"
        "print('said', input(), flush=True)\nimport time; time.sleep(60)\n"
    )
    (workdir / "script.py").write_text(looks)
    words = [*CVTRACE, "run", "-o", "trace", "--no-summary", "--probes", "portable", "--mount", str(mount)]
    line = f"{ann.name} ALL=(root) NOPASSWD: ALL\nDefaults:{ann.name} {'' if own_pty else '!'}use_pty"
    with sudoers(line):
        shell = Shell(
            "sudo", "-n", *words, "--python", PYTHON, "script.py", env={**ann.environ, "MINE": "kept"}, user=ann
        )
        shell.read_until(f"True kept {ann.home} {ann.uid}\r\n")
        shell.read_until("True True\r\n")
        shell.type("hello\n")
        shell.read_until("said hello\r\n")
        shell.type("\x03")
        assert shell.end() == 130, shell.output
    assert read_trace("trace").meta["end"] == "interrupted"


def test_the_lab_is_refused_to_users_whose_sudo_rule_is_for_cvtrace_only(
    ann: Somebody, workdir: Path, mount: Path
) -> None:
    """`sudo cvtrace lab mount` put a file system over any folder, and `lab model` wrote anywhere."""
    words = [*CVTRACE, "lab", "model", str(workdir / "made"), "--size", "1MB"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **ann.under_sudo})
    assert result.returncode == 2
    assert f"{ann.name} may not do everything as root" in result.stderr
    assert not (workdir / "made").exists()


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
