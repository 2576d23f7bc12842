"""A target of another user gets nothing of root's terminal, files, environment and keys."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from shell import CVTRACE, Shell, command, run
from throwaway import PYTHON, SECRET, Somebody, sudoers

from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root
INJECT = """
import fcntl, sys, termios
for stream in (0, 1, 2):
    for byte in b'touch planted\\n':
        try: fcntl.ioctl(stream, termios.TIOCSTI, bytes([byte]))
        except OSError: break
"""


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
        capture_output=True, text=True, check=False, timeout=120,
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
        assert f"sudo does not allow {ann.name} to run every program as {name}" in result.stderr
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
    assert f"sudo does not allow {ann.name} to run every command as root" in result.stderr
    assert not (workdir / "made").exists()
