"""Background processes that outlive the command that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cvtrace.lab.errors import LabError


def is_running(pid: int) -> bool:
    """Say whether any thread of a process runs; the first one may be a zombie while others still hold files."""
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)  # if it is a child of this process: let it go
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: with the pid, it names a process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def spawn(argv: list[str], log: Path, environment: dict[str, str]) -> int:
    """Start `argv` in a session of its own, with its output in `log`, and return its pid."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)


def stop(pid: int, description: str, timeout_s: float = 10.0) -> None:
    """End a process, by force if it does not go; raises LabError when it may not be ended or stays."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise LabError(
                f"{description} (pid {pid}) belongs to another user; end it as that user or as root"
            ) from error
        if wait_until(lambda: not is_running(pid), timeout_s):
            return
    raise LabError(f"{description} (pid {pid}) does not end")


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition and return whether it came true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True
