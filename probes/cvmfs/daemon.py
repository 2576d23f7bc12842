"""Which process serves a mount, which ones manage its cache, and whether they still live.

A mount says itself who serves it (`user.pid`), and whoever mounted it may let it say anything. So that is believed of a process only
if it has the mount's connection open, or, where the kernel does not tell, if it may at least be the process of who mounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.processes import Client, clients, started_at

CLIENT: Final = "cvmfs2"
LAB: Final = "cvtrace-lab"
"""How the lab's client begins its `user.version`."""


@dataclass(frozen=True)
class Process:
    """A process of the client. `started` (ticks since boot) tells it from a later one of that number."""

    pid: int
    started: int
    workspace: str | None
    """Its working directory, the cache, where relative paths start. None if not readable."""
    client: str
    """`cvmfs2`, or `cvtrace-lab` for the lab's client, which is a Python program of that process name."""
    uid: int = 0
    """The user it runs as."""

    @property
    def is_alive(self) -> bool:
        """Whether this very process still exists and is not a zombie."""
        return started_at(self.pid) == self.started


def find_daemon(
    pid: int | None,
    mountpoint: str,
    fqrn: str,
    *,
    owner: int = 0,
    connection: int | None = None,
    among: Sequence[Client] | None = None,
) -> Process | None:
    """Return the daemon that serves the mount of user `owner`: the cvmfs2 that calls itself `pid`, else by search.

    A daemon in another PID namespace calls itself by its number there, which here may be that of a stranger, or of the
    daemon of another repository: so its command line has to name this one. The watchdog has the daemon's command line; it
    is told apart by not having /dev/fuse open, or where that cannot be seen by having a single thread.
    """
    known = clients() if among is None else among
    candidates = [each for each in known if not each.is_manager and each.may_belong_to(owner)]
    if connection is not None and (serving := [each for each in candidates if connection in (each.connections or ())]):
        return _only(serving, pid)
    if connection is not None:  # what is seen to serve other mounts, or none, does not serve this one
        candidates = [each for each in candidates if each.connections is None and each.has_fuse_open is not False]
    return _only([each for each in candidates if _names(each.arguments, mountpoint, fqrn)], pid)


def _only(candidates: Sequence[Client], pid: int | None) -> Process | None:
    """Return the one that calls itself `pid`, else the one that may be meant; None if there are several."""
    with_number = [each for each in candidates if pid is not None and each.own_pid == pid]
    for group in (
        with_number,
        [each for each in with_number if each.real_uid == 0],
        [each for each in with_number if each.pid == pid],
    ):
        if len(group) == 1:
            return _process(group[0])
    serving = [each for each in candidates if each.has_fuse_open]
    likely = serving or [each for each in candidates if each.threads > 1]
    return _process(likely[0]) if len(likely) == 1 else None


def _names(arguments: Sequence[str], mountpoint: str, fqrn: str) -> bool:
    """Return whether a client's command line names the mount; one that cannot be read may."""
    line = "\0".join(arguments)
    names = (re.escape(name) for name in (mountpoint, fqrn) if name)
    return not line or any(re.search(rf"(?<![\w.-]){name}(?![\w.-])", line) for name in names)


def cache_managers(daemons: Iterable[Process], among: Sequence[Client] | None = None) -> list[Process]:
    """Return the shared cache managers (`cvmfs2 __cachemgr__`) of the daemons' users that work in their caches."""
    workspaces = {(daemon.uid, daemon.workspace) for daemon in daemons if daemon.workspace}
    if not workspaces:
        return []
    known = clients() if among is None else among
    return [_process(each) for each in known if each.is_manager and (each.uid, each.workspace) in workspaces]


def serves(among: Iterable[Client], mountpoint: str, owner: int, connection: int) -> bool:
    """Return whether one of the clients serves a FUSE mount of user `owner`: as the kernel says, else by its arguments."""
    candidates = [each for each in among if each.may_belong_to(owner) and not each.is_manager]
    return any(
        mountpoint in each.arguments if each.connections is None else connection in each.connections
        for each in candidates
    )


def _process(client: Client) -> Process:
    name = Path(client.executable).name if client.executable else ""
    kind = LAB if name.startswith(("python", "pypy")) else CLIENT
    return Process(client.pid, client.started, client.workspace, kind, client.uid)
