"""Which of the mounts a recording is about: those that may concern its target, and not whatever somebody mounted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.cvmfs.mounts import MountPoint, is_named, is_trusted

MOST_MOUNTS: Final = 64


@dataclass(frozen=True)
class LeftOut:
    """A mount that says it is of CVMFS and is not observed."""

    path: str
    device: int
    owner: int
    why: str


@dataclass(frozen=True)
class MountChoice:
    """Which mounts a recording is about."""

    paths: tuple[str, ...] = ()
    """Those that hold these paths; none for every mount that may concern the target."""
    arguments: tuple[str, ...] = ()
    """Where the target was started, and with what: names of mounts among it."""
    users: frozenset[int] = frozenset()
    """Who asked, and whom the target runs as."""

    @classmethod
    def of(cls, paths: Sequence[str], cwd: str, argv: Sequence[str], users: frozenset[int]) -> MountChoice:
        """Return what a recording of a command in a folder is about."""
        return cls(tuple(paths), (cwd, *argv, *(os.path.join(cwd, word) for word in argv)), users)  # noqa: PTH118

    def names(self, point: MountPoint) -> bool:
        """Return whether the user named a path on the mount."""
        return bool(self.paths) or is_named(point, self.arguments)

    def split(self, points: Sequence[MountPoint]) -> tuple[list[MountPoint], tuple[LeftOut, ...]]:
        """Return the mounts to observe, and others, with the reason.

        Anybody may mount something and call it cvmfs2. Its daemon could fill the recorder's buffer or answer nothing, so it is observed
        only if it is named; what is root's or the user's comes before what is not.
        """
        observed: list[MountPoint] = []
        left_out = []
        for point in sorted(points, key=lambda point: (not self.names(point), point.owner != 0)):
            if not self.names(point) and not is_trusted(point, self.users):
                why = f"user {point.owner} mounted it: `--mount {point.path}` observes it"
            elif len(observed) >= MOST_MOUNTS:
                why = f"no more than {MOST_MOUNTS} mounts are observed: `--mount {point.path}` chooses it"
            else:
                observed.append(point)
                continue
            left_out.append(LeftOut(point.path, point.device, point.owner, why))
        return observed, tuple(left_out[:MOST_MOUNTS])
