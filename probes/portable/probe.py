"""The probe that needs no privileges: samples of the target's processes; phases and the client's counters come from marks."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import psutil

from cvtrace.probes.capabilities import Capability
from cvtrace.probes.cvmfs.mounts import MOUNTINFO, fuse_mounts
from cvtrace.probes.events import EVENT, NO_MOUNT, Events, Kind, Sight, Texts, no_events, no_texts
from cvtrace.probes.portable.counts import INDEX
from cvtrace.probes.portable.processes import held_files, tree, usage
from cvtrace.probes.probe import Losses, Scope
from cvtrace.probes.processes import lives

MISSING: Final = (
    "single reads, page faults, cache lookups and fetches are not seen: where the time of a phase went is unknown, "
    "and the client's counters are known per phase, for all users of the mount"
)
EVERY_S: Final = 0.25
SHARE: Final = 200
"""Sampling takes at most one part in so many of the time: walking a process table of thousands is slow."""


def _mounted() -> str:
    try:
        return MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:  # not Linux
        return ""


class PortableProbe:
    """Samples CPU time, memory, page faults and bytes read of the target's tree."""

    name = "portable"
    title = "the portable probe"
    sees: frozenset[Sight] = frozenset()
    capabilities: frozenset[Capability] = frozenset()
    drain_every_s = 0.01

    def __init__(self) -> None:
        self._targets: list[psutil.Process] = []
        self._processes: dict[int, psutil.Process] = {}
        """All processes of the tree, as far as a sample met them: one whose parent has ended is in no tree any more."""
        self._next_s = 0.0
        self._devices: tuple[int, ...] = ()
        self._paths: list[tuple[str, ...]] = []

    def start(self, scope: Scope) -> None:
        """Note the mounts: there is nothing to attach."""
        self._devices = scope.devices
        known = {mount.device: mount.paths for mount in fuse_mounts(_mounted())}
        self._paths = [known.get(device, ()) for device in scope.devices]

    def add_target(self, pid: int) -> None:
        """Sample process `pid` and its children."""
        try:
            self._targets.append(psutil.Process(pid))
        except psutil.Error:  # it has ended: nothing to sample
            return

    def command(self, argv: list[str]) -> list[str]:
        """Return `argv`: the target runs as it is."""
        return argv

    def drain(self) -> tuple[Events, Texts]:
        """Return a sample if it is time for one: COUNTER events, one per process and number, and per process and mount."""
        began_s = time.monotonic()
        if began_s < self._next_s or not self._targets:
            return no_events(), no_texts()
        events = self._sample()
        ended_s = time.monotonic()
        self._next_s = ended_s + max(EVERY_S, SHARE * (ended_s - began_s))
        return events, no_texts()

    def _sample(self) -> Events:
        processes = [process for target in self._targets for process in tree(target)]
        self._processes.update({process.pid: process for process in processes})
        rows = [
            (time.monotonic_ns(), process.pid, NO_MOUNT, INDEX[name], value)
            for process in processes
            for name, value in usage(process).items()
        ]
        for process in processes if self._devices else ():
            held = held_files(process.pid, self._devices, self._paths)
            now_ns, count = time.monotonic_ns(), INDEX["process.held_files"]
            rows += [(now_ns, process.pid, mount, count, number) for mount, number in enumerate(held or ())]
        events = np.zeros(len(rows), dtype=EVENT)
        if rows:
            events["ts"], events["tgid"], events["a"], events["b"], events["c"] = zip(*rows, strict=True)
            events["tid"] = events["tgid"]
        events["kind"], events["ret"] = Kind.COUNTER, 1
        return events

    def living(self) -> tuple[int, ...]:
        """Return the processes that were seen in the target's tree and have not ended."""
        return tuple(pid for pid, process in self._processes.items() if process.is_running() and lives(pid))

    def stop(self) -> None:
        """Sample no more."""
        self._targets = []

    def losses(self) -> Losses:
        """Return no losses."""
        return Losses()

    def missing(self) -> list[str]:
        """Return what this rung hides."""
        return [MISSING]
