"""Asking mounts who they are, all at the same time, and finding the processes that serve them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.cvmfs import strict
from cvtrace.probes.cvmfs.attributes import read_xattrs
from cvtrace.probes.cvmfs.daemon import LAB, Process, cache_managers, find_daemon
from cvtrace.probes.cvmfs.deadline import NoAnswer, all_within
from cvtrace.probes.cvmfs.mounts import ANSWER_S, Mount, MountPoint
from cvtrace.probes.cvmfs.processes import Client, clients
from cvtrace.probes.namespaces import own_namespace

XATTRS: Final = ("user.fqrn", "user.pid", "user.version", "user.revision")


@dataclass(frozen=True)
class Survey:
    """Mounts in the order in which they were given, and the managers of their caches."""

    mounts: tuple[Mount, ...]
    managers: tuple[Process, ...]


def survey(points: Sequence[MountPoint], among: Sequence[Client] | None = None, seconds: float = ANSWER_S) -> Survey:
    """Ask the mounts who they are and find their daemons. Never hangs; what could not be learnt is in their `error`.

    `among` are the clients that run, if they have been looked for.
    """
    answers = all_within(seconds, [partial(read_xattrs, point, XATTRS) for point in points])
    known = clients() if among is None else among
    mounts = tuple(mount_of(point, answer, known, seconds) for point, answer in zip(points, answers, strict=True))
    return Survey(mounts, tuple(cache_managers((each.daemon for each in mounts if each.daemon), known)))


def describe(point: MountPoint) -> Mount:
    """Ask one mount who it is and find its daemon."""
    return survey([point]).mounts[0]


def mount_of(point: MountPoint, answer: Any, known: Sequence[Client], seconds: float) -> Mount:
    """Return what is known of a mount that answered with its attributes, or with the exception that stands for them."""
    error, attributes = _trouble(point.path, answer, seconds), answer if isinstance(answer, dict) else {}
    fqrn, version = strict.repository(attributes.get("user.fqrn")), strict.version(attributes.get("user.version"))
    checked = {"user.fqrn": fqrn, "user.version": version, "user.pid": strict.pid(attributes.get("user.pid"))}
    odd = [name for name, value in checked.items() if attributes.get(name) and value is None]
    if odd and error is None:
        error = f"{point.path} is left out: its {' and '.join(odd)} are not what a CVMFS client says"
    fqrn = fqrn or strict.repository(Path(point.path).name) or "unknown"
    mount = Mount(
        path=point.path,
        device=point.device,
        fqrn=fqrn,
        version=_release(version),
        daemon=None,
        error=error,
        answers=error is None,
        is_odd=bool(odd),
        owner=point.owner,
        group=point.group,
        revision=strict.number(attributes.get("user.revision")),
    )
    if odd:
        return mount
    pid = strict.pid(attributes.get("user.pid"))
    daemon = find_daemon(pid, point.path, fqrn, owner=point.owner, connection=point.connection, among=known)
    if daemon is not None and version and version.startswith(LAB):
        daemon = replace(daemon, client=LAB)
    if daemon is None and error is None:
        error = f"no cvmfs2 process was found that serves {point.path}: it may run in another PID namespace than this one (pid:[{own_namespace()}])"
    return replace(mount, daemon=daemon, error=error)


def _trouble(path: str, answer: Any, seconds: float) -> str | None:
    if isinstance(answer, NoAnswer):
        return f"{path} does not answer within {seconds:g} s: its cvmfs2 hangs or its network is gone"
    if isinstance(answer, OSError):
        return f"{path} cannot be read: {os.strerror(answer.errno) if answer.errno else answer}"
    return None


def _release(version: str | None) -> str | None:
    """Drop what `user.version` has besides the release: 2.12.0.0 -> 2.12.0 (patch level), name 0.1.0 -> 0.1.0."""
    words = (version or "").split()
    return ".".join(words[-1].split(".")[:3]) if words else None
