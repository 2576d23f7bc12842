"""A running process that is to be recorded: found, described from /proc, and told when it ends."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes.command import SUDO
from cvtrace.probes.events import AT_FDCWD, EVENT, TEXT, TEXT_MAX, Events, Kind, Texts
from cvtrace.probes.probe import CannotObserve
from cvtrace.tracer.errors import WrongTarget

KERNEL_THREAD: Final = 0x00200000
"""PF_KTHREAD (linux/sched.h)."""
LONGEST_COMMAND: Final = 1 << 18
"""Bytes of a command line that are read: a process may say that it is as long as its memory (prctl(2), PR_SET_MM)."""


@dataclass(frozen=True)
class Process:
    """A running process; `started` (ticks since boot) tells it from a later one of that number."""

    pid: int
    started: int
    argv: tuple[str, ...]
    cwd: str
    user: str

    @property
    def title(self) -> str:
        """The name of the script, else of the program."""
        scripts = [word for word in self.argv if word.endswith(".py") and "\n" not in word]
        return Path(scripts[0] if scripts else self.argv[0]).name or "process"

    @property
    def is_alive(self) -> bool:
        """Whether this very process still exists and is not a zombie."""
        return _stat(self.pid) == (self.started, False)

    @contextlib.contextmanager
    def ending(self) -> Iterator[int | None]:
        """Give a descriptor that is readable when the process has ended, None where the kernel offers none."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # ended by now, an old kernel, or another system
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def children(self) -> int:
        """Return how many processes it has started that still run."""
        number = 0
        for task in _proc(self.pid, "task").glob("*/children"):
            with contextlib.suppress(OSError):
                number += len(task.read_text().split())
        return number

    def open_files(self, devices: tuple[int, ...], now_ns: int) -> tuple[Events, Texts]:
        """Return what it has open on `devices` (st_dev) as SYS_OPEN events of this moment: reads of them need a name."""
        files = []
        with contextlib.suppress(OSError):
            for link in _proc(self.pid, "fd").iterdir():
                with contextlib.suppress(OSError):
                    if link.stat().st_dev in devices:
                        files.append((int(link.name), os.fsencode(link.readlink())))
        events, texts = np.zeros(len(files), dtype=EVENT), np.zeros(len(files), dtype=TEXT)
        for each in (events, texts):
            each["ts"] = now_ns + np.arange(len(files))  # a text belongs to the event of that ts
            each["tid"], each["kind"] = self.pid, Kind.SYS_OPEN
        events["tgid"], events["a"] = self.pid, AT_FDCWD
        events["ret"] = [fd for fd, _ in files]
        texts["text"] = [path[:TEXT_MAX] for _, path in files]
        texts["size"] = [len(path) for _, path in files]
        return events, texts


def find_process(pid: int) -> Process:
    """Find a process that can be recorded. Raises WrongTarget, or CannotObserve if it is another user's."""
    proc = _proc(pid)
    known = _stat(pid)
    if known is None:
        raise WrongTarget(f"there is no process {pid}")
    started, ended = known
    if ended:
        raise WrongTarget(f"process {pid} has ended already")
    try:
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        name, group, uid = status["Name"], int(status["Tgid"]), int(status["Uid"].split()[1])
        with (proc / "cmdline").open("rb") as file:
            argv = tuple(os.fsdecode(word) for word in file.read(LONGEST_COMMAND).split(b"\0")[:-1])
        flags = int((proc / "stat").read_text(errors="replace").rpartition(")")[2].split()[6])
    except (OSError, KeyError, ValueError, IndexError):
        raise WrongTarget(f"there is no process {pid} any more") from None
    if flags & KERNEL_THREAD:
        raise WrongTarget(f"process {pid} ({name}) is a thread of the kernel: there is no program to record")
    if group != pid:
        raise WrongTarget(f"{pid} is a thread of process {group}: cvtrace attach {group}")
    if pid == os.getpid():
        raise WrongTarget(f"process {pid} is this recorder itself")
    user = _user_name(uid)
    try:
        cwd = str((proc / "cwd").readlink())
    except PermissionError:
        raise CannotObserve(f"process {pid} ({name}) belongs to {user}: run `{SUDO} attach {pid}`") from None
    except OSError:
        raise WrongTarget(f"process {pid} has ended already") from None
    return Process(pid, started, argv or (name,), cwd, user)


def _proc(pid: int, *parts: str) -> Path:
    return Path("/proc").joinpath(str(pid), *parts)


def _stat(pid: int) -> tuple[int, bool] | None:
    """Return when a process started, and whether it has ended and only waits for its parent; None if there is none."""
    try:
        fields = _proc(pid, "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0] in "ZX"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
