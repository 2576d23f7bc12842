"""What a recording finds around it: the mounts to observe, their daemons, and how all that is written to meta.json."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.cvmfs.choice import LeftOut, MountChoice
from cvtrace.probes.cvmfs.counters import Counters, counters_of
from cvtrace.probes.cvmfs.daemon import Process
from cvtrace.probes.cvmfs.deadline import all_within
from cvtrace.probes.cvmfs.mounts import Mount, MountPoint, awaken, chosen_mounts
from cvtrace.probes.cvmfs.processes import clients
from cvtrace.probes.cvmfs.survey import survey
from cvtrace.probes.cvmfs.talk import talk_address
from cvtrace.probes.namespaces import own_namespace
from cvtrace.probes.phases.hook import CounterSource
from cvtrace.probes.probe import CannotObserve, ClientSymbols, Daemon, Scope
from cvtrace.tracer.other_mounts import OtherMounts

NO_MOUNT: Final = "no CVMFS mount found: mount a repository (`ls /cvmfs/<repository>` does where autofs runs), or try `cvtrace lab up`"

MEET_S: Final = 1.0

OUTSIDE = (
    "the client that serves {path} (process {pid} of the host) is outside of the PID namespace of cvtrace (pid:[{namespace}]): its requests, "
    "use of the cache and fetches are recorded; its cache folder, its cache manager and functions of its library are not"
)


@dataclass
class Observed:
    """A mount under observation, with what its client counted and whether it still lives."""

    mount: Mount
    before: Counters | None = None
    after: Counters | None = None
    counted_ns: list[int] = field(default_factory=list)
    """When the counters were asked for."""
    answered_ns: list[int] = field(default_factory=list)
    """When they had come."""
    ended_ns: int | None = None
    """When its daemon was found dead."""
    quota_bytes: int | None = None
    """Of its cache, where the talk socket tells."""
    is_named: bool = False
    """Whether the user named a path on it: what happens to it is the user's affair."""

    def took(self, read: Counters) -> None:
        """Keep the client's counters, the first time those before the run, then those after it."""
        self.counted_ns.append(read.asked_ns)
        self.answered_ns.append(read.answered_ns)
        if self.before is None:
            self.before = read
            self.quota_bytes = read.quota_bytes
        else:
            self.after = read

    def meta(self) -> dict[str, Any]:
        """Return the mount as meta.json has it."""
        daemon = self.mount.daemon
        errors = [self.mount.error, self.before and self.before.error, self.after and self.after.error]
        return {
            "path": self.mount.path,
            "fqrn": self.mount.fqrn,
            "connection": self.mount.connection,
            "device": self.mount.device,
            "daemon_pid": daemon.pid if daemon else None,
            "client": daemon.client if daemon else None,
            "version": self.mount.version,
            "revision": self.mount.revision,
            "workspace": daemon.workspace if daemon else None,
            "counters_before": self.before.values if self.before else {},
            "counters_after": self.after.values if self.after else {},
            "quota_bytes": self.quota_bytes,
            "counted_ns": self.counted_ns,
            "answered_ns": self.answered_ns,
            "daemon_ended_ns": self.ended_ns,
            "error": "; ".join(dict.fromkeys(error for error in errors if error)) or None,
        }


def count(observed: Sequence[Observed]) -> None:
    """Read the counters of the mounts' clients, of all at the same time; of those that answer and live."""
    answering = [each for each in observed if each.ended_ns is None and each.mount.answers]
    is_first = any(each.before is None for each in answering)
    answers = dict(
        zip(map(id, answering), counters_of([each.mount for each in answering], with_quota=is_first), strict=True)
    )
    for each in observed:
        now_ns = time.monotonic_ns()
        each.took(answers.get(id(each)) or Counters({}, None, now_ns, now_ns))


@dataclass(frozen=True)
class Environment:
    """The mounts to observe and the cache managers that serve them."""

    observed: tuple[Observed, ...]
    managers: tuple[Process, ...]
    mount_choice: MountChoice = field(default_factory=MountChoice)
    left_out: tuple[LeftOut, ...] = ()
    other_mounts: OtherMounts = field(default_factory=OtherMounts)
    """The FUSE mounts that are not observed."""
    troubles: tuple[str, ...] = ()
    """Why a mount that the user named is left out, a sentence each."""

    def scope(self, libraries: tuple[str, ...]) -> Scope:
        """Return what the probes are to observe."""
        devices = tuple(observed.mount.device for observed in self.observed)
        return Scope(tuple(self.daemons()), devices, libraries, self.other_mounts.devices)

    def daemons(self) -> list[Daemon]:
        """Return the processes of the client."""
        serving = {each.mount.daemon.pid: each.mount.device for each in self.observed if each.mount.daemon}
        managing = {manager.pid: 0 for manager in self.managers}
        return [Daemon(pid, device) for pid, device in {**managing, **serving}.items()]

    def meet(self) -> None:
        """Ask the mounts whose daemon is not known for something that only the daemon can answer, so that the probe sees who does."""
        unknown = [each.mount for each in self.observed if each.mount.daemon is None and each.mount.answers]
        all_within(MEET_S, [partial(_ask, mount.path) for mount in unknown])

    def points(self) -> list[MountPoint]:
        """Return the mounts that were there, observed or not, as the table of mounts has them."""
        points = [MountPoint(observed.mount.path, observed.mount.device) for observed in self.observed]
        return [*points, *(MountPoint(each.path, each.device) for each in self.left_out)]

    def left_out_meta(self) -> list[dict[str, Any]]:
        """Return what is not observed as meta.json has it."""
        return [asdict(each) for each in self.left_out]

    def with_mount(self, observed: Observed) -> Environment:
        """Return these and a mount that appeared."""
        return replace(self, observed=(*self.observed, observed))

    def counter_sources(self) -> tuple[CounterSource, ...]:
        """Return the mounts whose counters the target is to read; one that did not answer would hang it."""
        return tuple(_counter_source(observed.mount) for observed in self.observed)

    def client_meta(self, observed: Observed, library_of: Callable[[int], ClientSymbols | None]) -> dict[str, Any]:
        """Return which functions of the client are seen: in the library of the daemon, and of the managers of its cache."""
        daemon = observed.mount.daemon
        library = library_of(daemon.pid) if daemon else None
        if daemon is None or library is None:
            return {}
        of_managers = [library_of(each.pid) for each in self.managers if each.workspace == daemon.workspace]
        functions = [
            name for name in library.functions if all(other and name in other.functions for other in of_managers)
        ]
        return {"client_functions": functions, "client_build_id": library.build_id}

    def errors(self, server_of: Callable[[int], int | None]) -> list[str]:
        """Return what could not be learnt about the mounts, a sentence each; `server_of` tells who answers on a mount (st_dev)."""
        sentences = list(self.troubles)
        for observed in self.observed:
            mount = observed.mount
            server = server_of(mount.device) if mount.daemon is None else None
            if server is not None:
                sentences.append(OUTSIDE.format(path=mount.path, pid=server, namespace=own_namespace()))
            elif error := observed.meta()["error"]:
                sentences.append(error)
        return sentences

    def deaths(self) -> list[Observed]:
        """Return the mounts whose daemon was found dead just now, and take note of it."""
        dead = []
        for observed in self.observed:
            daemon = observed.mount.daemon
            if daemon is not None and observed.ended_ns is None and not daemon.is_alive:
                observed.ended_ns = time.monotonic_ns()
                dead.append(observed)
        return dead


def find_environment(choice: MountChoice) -> Environment:
    """Find the mounts to observe.

    Repositories that the arguments name are mounted by the automounter first. Raises CannotObserve with one sentence.
    """
    if Path("/cvmfs").is_dir():
        awaken([*choice.paths, *choice.arguments])
    known = clients()
    points, left_out = choice.split(chosen_mounts(choice.paths, known))
    if not points:
        hint = f"; {left_out[0].path} is not observed, as {left_out[0].why}" if left_out else ""
        raise CannotObserve(NO_MOUNT + hint)
    answers = survey(points, known)
    candidates = [
        Observed(mount, is_named=choice.names(point)) for mount, point in zip(answers.mounts, points, strict=True)
    ]
    odd = [each for each in candidates if each.mount.is_odd]
    left_out += tuple(
        LeftOut(each.mount.path, each.mount.device, each.mount.owner, str(each.mount.error)) for each in odd
    )
    observed = tuple(each for each in candidates if not each.mount.is_odd)
    if not observed:
        raise CannotObserve("; ".join(str(each.mount.error) for each in odd))
    troubles = tuple(str(each.mount.error) for each in odd if each.is_named)
    other_mounts = OtherMounts(each.mount.device for each in observed)
    return Environment(observed, answers.managers, choice, left_out, other_mounts, troubles)


def _ask(path: str) -> bool:
    os.statvfs(path)  # the kernel does not keep the answer
    return True


def _counter_source(mount: Mount) -> CounterSource:
    """Return where the counters of a mount are; nowhere if it does not answer."""
    if not mount.answers:
        return CounterSource("", "")
    return CounterSource(mount.path, talk_address(mount) or "", mount.daemon.uid if mount.daemon else 0)
