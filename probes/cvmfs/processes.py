"""The processes that call themselves cvmfs2, as /proc shows them.

Anybody may call a program so. What can be read of a process without its help is read here; its memory (the command line) and its
descriptors are looked at by a child for each user, as who owns a process can make that take for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.cvmfs.deadline import all_within

COMMAND: Final = "cvmfs2"
CACHE_MANAGER: Final = "__cachemgr__"
PROC: Final = Path("/proc")
FUSE_DEVICE: Final = "/dev/fuse"
LOOK_S: Final = 1.0
MOST_OF_A_USER: Final = 64
"""How many processes of one user are looked into."""
MOST_DESCRIPTORS: Final = 4096
TEXT_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Client:
    """A process called cvmfs2. `started` (ticks since boot) tells it from a later one of that number."""

    pid: int
    started: int
    uid: int
    """The effective one."""
    real_uid: int
    """Who started it, even if it is set-user-ID."""
    arguments: tuple[str, ...] = ()
    own_pid: int = 0
    """By which number it calls itself: that in its innermost PID namespace (proc(5), NSpid)."""
    threads: int = 0
    connections: tuple[int, ...] | None = None
    """The FUSE connections it serves; None where the kernel does not tell (before 6.18), or not to this user."""
    has_fuse_open: bool | None = None
    """None where this user may not look."""
    workspace: str | None = None
    """Its working directory. None if not readable."""
    executable: str | None = None

    @property
    def is_manager(self) -> bool:
        """Whether it is the manager of a shared cache."""
        return CACHE_MANAGER in self.arguments

    def may_belong_to(self, owner: int) -> bool:
        """Return whether it may serve a mount that `owner` made: it is that user's through and through, or root started it.

        The client lets go of root after it has mounted. A set-user-ID program is the user's who started it.
        """
        if owner != 0:
            return self.uid == self.real_uid == owner
        return self.real_uid == 0 or self.uid == self.real_uid


def clients(seconds: float = LOOK_S) -> tuple[Client, ...]:
    """Return the processes called cvmfs2; those of a user whose processes cannot be looked at in time are left out."""
    by_user: dict[int, list[Client]] = {}
    for client in _by_name():
        of_user = by_user.setdefault(client.real_uid, [])
        if len(of_user) < MOST_OF_A_USER:
            of_user.append(client)
    groups = list(by_user.values())
    looks = [partial(_look_into_all, group) for group in groups]
    answers = [
        zip(group, details, strict=True)
        for group, details in zip(groups, all_within(seconds, looks), strict=True)
        if isinstance(details, list)
    ]
    return tuple(_with(client, detail) for group in answers for client, detail in group if detail is not None)


def _by_name() -> Iterator[Client]:
    """Yield what the kernel tells of them without looking into their memory."""
    if not (PROC / "self").exists():  # not Linux: without /proc no process is looked for
        return
    for entry in os.scandir(PROC):
        if entry.name.isascii() and entry.name.isdigit() and _text(entry.path, "comm").rstrip("\n") == COMMAND:
            pid = int(entry.name)
            started = started_at(pid)
            if started is not None and (users := _users(entry.path)) is not None:
                yield Client(pid, started, users[1], users[0])


def started_at(pid: int) -> int | None:
    """Return when a process was started, None if there is none or it has ended."""
    fields = _text(str(PROC / str(pid)), "stat").rpartition(")")[2].split()
    return None if len(fields) < 20 or fields[0] in "ZX" else int(fields[19])


def _users(folder: str) -> tuple[int, int] | None:
    """Return the real and the effective user; None for a process between two users, as a set-user-ID program is."""
    words = _text(folder, "status").partition("\nUid:")[2].partition("\n")[0].split()
    if len(words) != 4:
        return None
    real, effective, saved, of_files = (int(word) for word in words)
    return (real, effective) if {saved, of_files} <= {real, effective} else None


def _look_into_all(group: Sequence[Client]) -> list[dict[str, Any] | None]:
    return [_look_into(client) for client in group]


def _look_into(client: Client) -> dict[str, Any] | None:
    """In the child. Return what is in its memory and descriptors; None if it has ended."""
    folder = str(PROC / str(client.pid))
    numbers = _text(folder, "status").partition("NSpid:")[2].partition("\n")[0].split()
    connections, has_fuse_open = _fuse(folder)
    details = {
        "arguments": [each for each in _text(folder, "cmdline").split("\0") if each],
        "own_pid": int(numbers[-1]) if numbers else client.pid,
        "threads": _threads(folder),
        "connections": connections,
        "has_fuse_open": has_fuse_open,
        "workspace": _link(folder, "cwd"),
        "executable": _link(folder, "exe"),
    }
    return details if started_at(client.pid) == client.started else None


def _with(client: Client, details: dict[str, Any]) -> Client:
    connections = details["connections"]
    return Client(
        client.pid,
        client.started,
        client.uid,
        client.real_uid,
        tuple(details["arguments"]),
        details["own_pid"],
        details["threads"],
        None if connections is None else tuple(connections),
        details["has_fuse_open"],
        details["workspace"],
        details["executable"],
    )


def _fuse(folder: str) -> tuple[list[int] | None, bool | None]:
    """Return the numbers of the FUSE connections it has open, as far as the kernel tells, and whether it has any."""
    connections: set[int] = set()
    has_fuse = has_numbers = False
    try:
        for place, entry in enumerate(os.scandir(f"{folder}/fd")):
            if place >= MOST_DESCRIPTORS:
                break
            if _link(folder, f"fd/{entry.name}") != FUSE_DEVICE:
                continue
            has_fuse = True
            number = _text(folder, f"fdinfo/{entry.name}").partition("fuse_connection:")[2].split()
            if number:
                has_numbers = True
                connections.add(int(number[0]))
    except PermissionError:
        return None, None
    except OSError:
        return None, False
    return (sorted(connections) if has_numbers else None), has_fuse


def _threads(folder: str) -> int:
    try:
        return len(os.listdir(f"{folder}/task"))  # noqa: PTH208 - a count of strings
    except OSError:
        return 0


def _text(folder: str, name: str) -> str:
    """Return the beginning of a file of /proc, nothing if it cannot be read."""
    try:
        with Path(folder, name).open("rb", buffering=0) as file:
            data = bytearray()
            while len(data) < TEXT_BYTES and (part := file.read(TEXT_BYTES - len(data))):
                data += part
    except OSError:
        return ""
    return os.fsdecode(bytes(data))


def _link(folder: str, name: str) -> str | None:
    try:
        return os.readlink(f"{folder}/{name}")  # noqa: PTH115 - as a string for JSON
    except OSError:
        return None
