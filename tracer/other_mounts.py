"""FUSE mounts that are not observed, because they are no CVMFS or because of `--mount`: what the target does there is recorded all the same.

A verdict about the observed mounts must not be taken for one about everything the target reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.probes.cvmfs.mounts import FuseMount, fuse_mounts
from cvtrace.probes.events import Events, Kind
from cvtrace.probes.namespaces import sees_initial

MOUNTINFO: Final = Path("/proc/self/mountinfo")
UNKNOWN: Final = "unknown"
"""Type and path of a mount that the target uses and no table of mounts shows."""
MINOR_BITS: Final = 20


@dataclass(frozen=True)
class _Other:
    mount: FuseMount
    used: bool
    """Whether the target was seen to ask it for something."""


def connection_of(device: int) -> int:
    """Return what FUSE_SEND events call the connection of a mount (st_dev): the kernel's own device number."""
    return os.major(device) << MINOR_BITS | os.minor(device)


class OtherMounts:
    """The FUSE mounts besides the observed ones; more are learnt from requests of the target."""

    def __init__(self, observed: Iterable[int] = ()) -> None:
        self._observed = set(observed)
        self._mounts: dict[int, _Other] = {}
        self._settled: set[int] = set()
        """Connections of observed mounts, and of others that are known to be used."""
        self.observe(())
        self.look()

    def observe(self, devices: Iterable[int]) -> None:
        """Take note that these mounts (st_dev) are observed."""
        self._observed.update(devices)
        self._settled.update(map(connection_of, self._observed))
        for device in self._observed & set(self._mounts):
            del self._mounts[device]

    @property
    def devices(self) -> tuple[int, ...]:
        """st_dev of each."""
        return tuple(self._mounts)

    def look(self, table: Path = MOUNTINFO) -> list[int]:
        """Return the st_dev of mounts in a table of mounts that were not known."""
        try:
            text = table.read_text(errors="surrogateescape")
        except OSError:
            return []
        new = [
            mount
            for mount in fuse_mounts(text)
            if mount.device not in self._observed and mount.device not in self._mounts
        ]
        self._mounts.update({mount.device: _Other(mount, used=False) for mount in new})
        return [mount.device for mount in new]

    def notice(self, events: Events) -> list[int]:
        """Take note of where the target sent requests to in a drained block; return the st_dev of mounts that were not known."""
        sent = events[events["kind"] == Kind.FUSE_SEND]
        if not len(sent):
            return []
        connections, first = np.unique(sent["b"], return_index=True)
        new: list[int] = []
        for connection, place in zip(connections.tolist(), first.tolist(), strict=True):
            if connection not in self._settled:
                self._settled.add(connection)
                new += self._use(connection, int(sent["tgid"][place]))
        return new

    def _use(self, connection: int, tgid: int) -> list[int]:
        device = os.makedev(connection >> MINOR_BITS, connection & (1 << MINOR_BITS) - 1)
        known = set(self._mounts)
        if device not in known and sees_initial():  # it may be in the target's mount namespace alone
            self.look(Path(f"/proc/{tgid}/mountinfo"))
        other = self._mounts.get(device)
        mount = other.mount if other else FuseMount((UNKNOWN,), device, UNKNOWN, UNKNOWN)
        self._mounts[device] = _Other(mount, used=True)
        return [each for each in self._mounts if each not in known]

    def meta(self) -> list[dict[str, Any]]:
        """Return them as meta.json has them."""
        return [
            {
                "path": other.mount.paths[0],
                "paths": list(other.mount.paths),
                "device": device,
                "connection": connection_of(device),
                "type": other.mount.type,
                "source": other.mount.source,
                "used": other.used,
            }
            for device, other in self._mounts.items()
        ]
