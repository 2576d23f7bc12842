"""PID namespaces (pid_namespaces(7)): which one this process is in, and what numbers a process has in which.

A process has a number in its own PID namespace and in every one above that. /proc shows the numbers of the namespace that it was
mounted in; the kernel's tracepoints have those of the initial one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INITIAL: Final = 0xEFFFFFFC
"""Inode of the initial PID namespace (PROC_PID_INIT_INO in linux/proc_ns.h)."""
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Namesake:
    """A process by its own number: `number` in the PID namespace whose inode is `namespace`."""

    namespace: int
    number: int


def own_namespace() -> int:
    """Return the inode of this process' PID namespace; that of the initial one where the system has none."""
    try:
        return os.stat(PROC / "self" / "ns" / "pid").st_ino  # noqa: PTH116
    except OSError:
        return INITIAL


def device() -> int:
    """Return the st_dev of the file system that namespaces are on. Raises OSError."""
    return os.stat(PROC / "self" / "ns" / "pid").st_dev  # noqa: PTH116


def sees_initial() -> bool:
    """Whether the numbers that this process sees are those of the kernel."""
    return own_namespace() == INITIAL


def namespace_of(pid: int) -> int | None:
    """Return the inode of the PID namespace of a process that /proc shows as `pid`, None if it is gone or must not be looked at."""
    try:
        return os.stat(PROC / str(pid) / "ns" / "pid").st_ino  # noqa: PTH116
    except OSError:
        return None


def numbers_of(pid: int) -> tuple[int, ...]:
    """Return the numbers of a process (or thread) from the namespace of /proc to its own (NSpid of proc(5)); none if it is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return ()
    return tuple(int(number) for number in status.partition("\nNSpid:")[2].partition("\n")[0].split())


def namesake(pid: int) -> Namesake | None:
    """Return what a child of this process, or a process that /proc shows as `pid`, is in its own namespace; None if it is gone."""
    if _is_child(pid):  # whatever namespace /proc is of
        return Namesake(own_namespace(), pid)
    namespace, numbers = namespace_of(pid), numbers_of(pid)
    return Namesake(namespace, numbers[-1]) if namespace is not None and numbers else None


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, OSError):
        return False
    return True


def tree(pids: Iterable[int]) -> list[int]:
    """Return processes and all their descendants that live, as /proc shows them."""
    members = list(dict.fromkeys(pids))
    for pid in members:
        for task in (PROC / str(pid) / "task").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                members += [int(child) for child in (task / "children").read_text().split()]
    return members
