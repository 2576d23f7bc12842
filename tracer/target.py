"""The user's script or program: found, started unchanged, waited for.

It keeps stdin, stdout, stderr, terminal, process group, working directory and limits, and the files it was given; under sudo it
is the caller's, with the caller's environment. Where another user's process must not have what this one has, it is started
`apart`: in a session of its own, with streams that are relayed and the environment of a login. It waits before its exec until
the probes know its number.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import resource
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.tracer.errors import WrongTarget
from cvtrace.tracer.monitor import Monitor, monitored
from cvtrace.tracer.origin import called_directly, caller_environment, environment_apart, new_keyring
from cvtrace.tracer.relay import Relay
from cvtrace.tracer.user import User, acting_as, switch_user

OPEN_FILES: Final = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else "/dev/fd"
"""Folder with a name for each open descriptor; macOS has it in /dev only."""


class NotStarted(Exception):
    """The exec failed. `exit_code` is what a shell would give: 127 not found, 126 not executable."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Command:
    """A command line ready to start."""

    argv: tuple[str, ...]
    executable: str
    """Path of what argv[0] names."""
    environ: Mapping[str, str]
    user: User
    title: str
    """Name of the script or program, for the name of the trace."""
    python: str | None
    """The interpreter that runs it, if it is Python."""
    is_apart: bool = False
    """Whether it must not have the terminal, environment and open files of this process."""


def find_command(
    arguments: list[str], python: str | None, environ: Mapping[str, str], user: User, caller: User | None = None
) -> Command:
    """Find what is to run: a .py by the interpreter `python` or that of the active environment, else a program.

    `caller` is who called, if that is not the user of this process. Raises WrongTarget with one sentence, before anything is
    started.
    """
    if not arguments:
        raise WrongTarget("nothing to run: cvtrace run SCRIPT [ARGS…], or cvtrace run -- PROGRAM [ARGS…]")
    is_apart = user.is_other and (caller is None or caller.uid != user.uid or not called_directly(user))
    environ = environment_apart(environ, user, caller) if is_apart else caller_environment(environ, user)
    script = arguments[0]
    with acting_as(user):
        if is_apart:
            _check_folder(user)
        if not script.endswith(".py"):
            program = _program(script, environ)
            interpreter = _interpreter_of(program, python, environ)
            return Command(tuple(arguments), program, environ, user, _title(arguments), interpreter, is_apart)
        _check_script(script)
        interpreter = find_interpreter(python, environ)
    return Command((interpreter, *arguments), interpreter, environ, user, Path(script).name, interpreter, is_apart)


def _check_folder(user: User) -> None:
    """A working folder is as good as an open file: what is in it can be reached though the way to it is closed."""
    folder = os.getcwd()  # noqa: PTH109
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116
    except OSError:
        raise WrongTarget(
            f"{user.name} may not enter {folder}: change to a folder that {user.name} may enter"
        ) from None


def _check_script(script: str) -> None:
    path = Path(script)
    if not path.exists():
        raise WrongTarget(f"there is no script {script}")
    if path.is_dir():
        raise WrongTarget(f"{script} is a folder, not a script")
    try:
        path.open("rb").close()
    except OSError as error:
        raise WrongTarget(f"cannot read {script}: {os.strerror(error.errno or 0)}") from None


def _interpreter_of(program: str, python: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the Python that `program` is or, as a wrapper, will run; the latter only the user can know."""
    if python is not None:
        return find_interpreter(python, environ)
    return program if Path(program).name.startswith("python") else None


def _title(arguments: list[str]) -> str:
    """Return the name of the script that a program is given, else of the program: `sh -c … python qa.py` is qa.py."""
    scripts = [argument for argument in arguments if argument.endswith(".py") and "\n" not in argument]
    return Path(scripts[0] if scripts else arguments[0]).name


def find_interpreter(python: str | None, environ: Mapping[str, str]) -> str:
    """Return `python`, or the interpreter of the active environment, or our own if it runs models, or the one on PATH.

    Raises WrongTarget if there is none.
    """
    if python is not None:
        interpreter = shutil.which(python, path=environ.get("PATH"))
        if interpreter is None:
            raise WrongTarget(f"there is no Python interpreter at {python}: give the path of one with --python")
        return interpreter
    for prefix in (environ.get("VIRTUAL_ENV"), environ.get("CONDA_PREFIX")):
        if prefix and os.access(of_environment := f"{prefix}/bin/python", os.X_OK):
            return of_environment
    if runs_models() and os.access(sys.executable, os.X_OK, effective_ids=True):  # by who asked
        return sys.executable
    interpreter = shutil.which("python3", path=environ.get("PATH"))
    if interpreter is None:
        raise WrongTarget("there is no python3 on PATH: name the interpreter with --python")
    return interpreter


def runs_models() -> bool:
    """Return whether cvtrace itself lies in a virtual environment with GenAI, as after `pip install` beside it."""
    return sys.prefix != sys.base_prefix and importlib.util.find_spec("onnxruntime_genai") is not None


def _program(name: str, environ: Mapping[str, str]) -> str:
    program = shutil.which(name, path=environ.get("PATH"))
    if program is not None:
        return program
    if Path(name).is_dir():
        raise WrongTarget(f"{name} is a folder, not a program")
    if "/" not in name and Path(name).exists():
        raise WrongTarget(f"there is no program {name} on PATH; for the file in this folder write ./{name}")
    if Path(name).exists():
        raise WrongTarget(f"{name} is not executable: make it so with chmod +x, or name its interpreter before it")
    raise WrongTarget(f"there is no script or program {name}")


class Inheritance:
    """What this process was given and the target is to have: open files, limits, ignored signals.

    Taken before the probes change limits and open files of their own.
    """

    def __init__(self) -> None:
        self.files = [int(name) for name in os.listdir(OPEN_FILES) if _is_inheritable(int(name))]  # noqa: PTH208
        limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
        self.limits = [(limit, resource.getrlimit(limit)) for limit in set(limits)]
        self.streams = (0 in self.files, 1 in self.files, 2 in self.files)
        self.ignored = [number for number in (*_FATAL, *_STOPPING) if signal.getsignal(number) is signal.SIG_IGN]


MOST_OF_REASON: Final = 1000
"""Bytes that tell why a target did not start; less than a pipe takes at once."""
_FATAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_STOPPING: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
TO_THE_JOB: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)
"""What a terminal, or the shell on it, sends to a whole job."""
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the descriptor of the listing itself
        return False


class Target:
    """A started process. `exit_code` is None while it lives, then its exit code, 128+n for signal n."""

    def __init__(
        self, pid: int, go: int, failure: int, command: Command, argv: list[str], monitor: Monitor | None = None
    ) -> None:
        self.pid = pid
        self.monitor = monitor
        """Its parent, if it has a session of its own."""
        self.exit_code: int | None = None
        self.signal: int | None = None
        self._go = go
        self._failure = failure
        self._argv = argv
        self._command = command

    def release(self) -> None:
        """Let it exec. Raises NotStarted if that fails."""
        os.write(self._go, b"g")
        os.close(self._go)
        self._go = -1
        data = os.read(self._failure, MOST_OF_REASON)
        os.close(self._failure)
        self._failure = -1
        if not data:  # closed by the exec
            return
        self._reap()
        number, reason = int.from_bytes(data[:4], "little"), data[4:].decode(errors="replace")
        code = 127 if number in (errno.ENOENT, errno.ENOTDIR) else 126
        raise NotStarted(f"cannot run {self._argv[0]}: {reason}", code)

    def discard(self) -> None:
        """End it if it has not been released: the recording could not begin."""
        if self._go >= 0:
            os.close(self._go)
            os.close(self._failure)
            self._go = self._failure = -1
            self._reap()

    def _reap(self) -> None:
        if self.monitor is None:
            os.waitpid(self.pid, 0)
        else:
            self.monitor.reap()
        self.exit_code = 127

    def poll(self) -> bool:
        """Return whether it has ended, and take note of how."""
        if self.exit_code is not None:
            return True
        status = self._status()
        if status is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        self.signal = -code if code < 0 else None
        self.exit_code = 128 - code if code < 0 else code
        return True

    def _status(self) -> int | None:
        if self.monitor is not None:
            return self.monitor.take()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None

    def take_stop(self) -> bool:
        """Return whether it was stopped from its own terminal since the last call."""
        stopped = self.monitor is not None and self.monitor.stopped
        if self.monitor is not None:
            self.monitor.stopped = False
        return stopped

    def send(self, number: int) -> None:
        """Send it a signal, if it still lives; with the whole of its job those that a terminal would send."""
        if self.exit_code is not None:
            return
        if self.monitor is not None and number in TO_THE_JOB:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)


def start_target(
    command: Command,
    argv: list[str],
    environ: Mapping[str, str],
    inheritance: Inheritance,
    relay: Relay | None = None,
) -> Target:
    """Fork the process that will exec `argv` (the command, or what a probe wraps it in) when it is released.

    With `relay` it is a grandchild, in a session of its own, with the relay's streams.
    """
    go_reading, go = os.pipe()
    failure, failure_writing = os.pipe()

    def become_target() -> None:
        os.close(go)
        _exec_target(command, argv, environ, inheritance, go_reading, failure_writing)

    monitor = None
    if relay is not None:
        try:
            monitor = monitored(relay, become_target)
        except OSError as error:
            raise NotStarted(f"cannot run {argv[0]}: it gets no session of its own ({error})", 126) from None
        pid = monitor.target
    else:
        pid = os.fork()
        if pid == 0:
            become_target()
    os.close(go_reading)
    os.close(failure_writing)
    return Target(pid, go, failure, command, argv, monitor)


def _exec_target(
    command: Command, argv: list[str], environ: Mapping[str, str], inheritance: Inheritance, go: int, failure: int
) -> None:
    """Turn this forked child into the target; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        if os.read(go, 1) != b"g":  # the recorder gave up, or died
            os._exit(127)
        _restore(inheritance, failure, is_apart=command.is_apart)
        if command.is_apart:
            folder = os.getcwd()  # noqa: PTH109
            switch_user(command.user)
            new_keyring()
            os.chdir(folder)  # by its name, as that user
        elif command.user.is_other:
            switch_user(command.user)
        wrapped = argv != list(command.argv)
        executable = shutil.which(argv[0], path=command.environ.get("PATH")) if wrapped else command.executable
        os.execve(executable or argv[0], argv, environ)
    except BaseException as error:  # the parent takes silence for a start
        number = error.errno if isinstance(error, OSError) and error.errno else 0
        reason = os.strerror(number) if number else f"{type(error).__name__}: {error}"
        os.write(failure, (number.to_bytes(4, "little") + reason.encode(errors="replace"))[:MOST_OF_REASON])
    finally:
        os._exit(126)


def _restore(inheritance: Inheritance, keep: int, *, is_apart: bool) -> None:
    for number in (*_FATAL, *_IGNORED_BY_PYTHON, *_STOPPING, signal.SIGCHLD):
        ignored = number in inheritance.ignored
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    for limit, values in inheritance.limits:
        resource.setrlimit(limit, values)
    keep_open = {keep, *((0, 1, 2) if is_apart else inheritance.files)}
    for name in os.listdir(OPEN_FILES):  # noqa: PTH208
        if int(name) not in keep_open:
            try:
                os.close(int(name))
            except OSError:
                continue
