"""The processes of the CVMFS client: which one serves a mount, where it works, whether it still lives."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMAND: Final = "cvmfs2"
CACHE_MANAGER: Final = b"__cachemgr__"
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process of the client. `started` (ticks since boot) tells it from a later one of that number."""

    pid: int
    started: int
    workspace: str | None
    """Its working directory, the cache, where relative paths start. None if not readable."""
    client: str
    """`cvmfs2`, or `cvtrace-lab` for the lab's client, which is a Python program of that process name."""

    @property
    def is_alive(self) -> bool:
        """Whether this very process still exists and is not a zombie."""
        return _started(self.pid) == self.started


def find_daemon(pid: int | None, mountpoint: str, fqrn: str) -> Process | None:
    """Return the daemon that serves a mount: the cvmfs2 that calls itself `pid` (its `user.pid`), else by search.

    A daemon in another PID namespace calls itself by its number there, which here may be that of a stranger, or of the
    daemon of another repository: so its command line has to name this one. The watchdog has the daemon's command line; it
    is told apart by not having /dev/fuse open, or where that cannot be seen by having a single thread.
    """
    candidates = [candidate for candidate in _client_pids() if _may_serve(candidate, mountpoint, fqrn)]
    own = [candidate for candidate in candidates if pid is not None and _own_pid(candidate) == pid]
    if len(own) == 1:
        return _process(own[0])
    serving = [candidate for candidate in candidates if _has_fuse_open(candidate)]
    chosen = serving or [candidate for candidate in candidates if _threads(candidate) > 1]
    return _process(chosen[0]) if len(chosen) == 1 else None


def _may_serve(pid: int, mountpoint: str, fqrn: str) -> bool:
    """Return whether a client's command line names the mount; one that cannot be read may."""
    arguments = _arguments(pid)
    if CACHE_MANAGER in arguments:
        return False
    line = b"\0".join(arguments)
    names = (re.escape(os.fsencode(name)) for name in (mountpoint, fqrn) if name)
    return not line or any(re.search(rb"(?<![\w.-])" + name + rb"(?![\w.-])", line) for name in names)


def _own_pid(pid: int) -> int:
    """Return the number by which a process calls itself: that in its innermost PID namespace (proc(5), NSpid)."""
    try:
        status = (PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return pid
    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
    return int(numbers[-1]) if numbers else pid


def cache_managers(workspaces: set[str]) -> list[Process]:
    """Return the shared cache managers (`cvmfs2 __cachemgr__`) that work in one of the caches."""
    found = []
    for pid in _client_pids():
        if CACHE_MANAGER in _arguments(pid) and (process := _process(pid)) and process.workspace in workspaces:
            found.append(process)
    return found


def named_by_daemons() -> set[str]:
    """Return all arguments of running clients; the mountpoints are among them."""
    return {os.fsdecode(argument) for pid in _client_pids() for argument in _arguments(pid) if argument}


def _process(pid: int) -> Process | None:
    started = _started(pid)
    if started is None:
        return None
    workspace, executable = _link(pid, "cwd"), _link(pid, "exe")
    is_lab = executable is not None and Path(executable).name.startswith(("python", "pypy"))
    return Process(pid, started, workspace, "cvtrace-lab" if is_lab else "cvmfs2")


def _client_pids() -> Iterator[int]:
    if not (PROC / "self").exists():  # not Linux: without /proc no process is looked for
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit() and _comm(int(entry.name)) == COMMAND:
            yield int(entry.name)


def _comm(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return None


def _arguments(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _started(pid: int) -> int | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _threads(pid: int) -> int:
    try:
        return len(list((PROC / str(pid) / "task").iterdir()))
    except OSError:
        return 0


def _link(pid: int, name: str) -> str | None:
    try:
        return str((PROC / str(pid) / name).readlink())
    except OSError:
        return None


def _has_fuse_open(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for fd in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(fd.readlink()) == "/dev/fuse":
                    return True
    return False
