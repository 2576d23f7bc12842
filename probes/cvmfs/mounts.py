"""The CVMFS mounts of this machine, as the kernel lists them, and which of them a recording is to observe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.daemon import Process, serves
from cvtrace.probes.cvmfs.deadline import all_within
from cvtrace.probes.cvmfs.processes import Client, clients
from cvtrace.probes.cvmfs.strict import CONTROL
from cvtrace.probes.probe import CannotObserve

MOUNTINFO: Final = Path("/proc/self/mountinfo")
MOUNTINFO_BYTES: Final = 32 << 20
ANSWER_S: Final = 1.5
"""How long all mounts together may take to say who they are."""
AUTOMOUNT_S: Final = 60.0
"""The first access mounts: it fetches the manifest and a catalog."""

REPOSITORY: Final = re.compile(r"/cvmfs/[^/\s:=,]+\.[^/\s:=,]+")

DEVICE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")

OWNER: Final = re.compile(r"\buser_id=([0-9]{1,10}),group_id=([0-9]{1,10})\b")

FUSE_TYPES: Final = frozenset({"fuse", "fuseblk", "virtiofs"})
"""Types of mounts whose requests the kernel sends as FUSE requests; besides `fuse.<subtype>`."""

ROOTS_FOLDER: Final = "/cvmfs"
"""Only root makes folders here: whoever mounted on one was let to."""


@dataclass(frozen=True)
class MountPoint:
    """A line of mountinfo that is a CVMFS mount."""

    path: str
    device: int
    """st_dev; its minor number is the FUSE connection."""
    owner: int = 0
    """Who mounted (`user_id`); the kernel and fusermount3 see to it that it is true."""
    group: int = 0

    @property
    def connection(self) -> int:
        """Number of the FUSE connection (fs/fuse/inode.c: the minor of the anonymous device)."""
        return os.minor(self.device)


@dataclass(frozen=True)
class Mount:
    """A CVMFS mount and the process that serves it."""

    path: str
    device: int
    fqrn: str
    """Fully qualified repository name."""
    version: str | None
    daemon: Process | None
    error: str | None
    """One sentence if something about it could not be learnt."""
    answers: bool = True
    """Whether the mount could be asked anything."""
    is_odd: bool = False
    """Whether it answers what no CVMFS client says: it is none, or one that nobody should listen to."""
    owner: int = 0
    """Who mounted it."""
    group: int = 0
    revision: int | None = None
    """Of the repository, as it was mounted when it was asked."""

    @property
    def connection(self) -> int:
        """Number of the FUSE connection."""
        return os.minor(self.device)


@dataclass(frozen=True)
class _Line:
    """A line of mountinfo that is a FUSE mount."""

    point: MountPoint
    source: str


def parse_mountinfo(text: str, served: Set[str] = frozenset()) -> list[MountPoint]:
    """Return the CVMFS mounts in a mountinfo file (proc(5)): one per file system, none that is hidden.

    mount.cvmfs and the lab mount with the source `cvmfs2`; a client that was started by hand has `/dev/fuse`, and is
    known by `served`, the paths that running clients serve. The type is `fuse`, or `fuse.<subtype>`.
    """
    return _one_each(line.point for line in _fuse_lines(text) if line.source == "cvmfs2" or line.point.path in served)


def _one_each(points: Iterable[MountPoint]) -> list[MountPoint]:
    by_device: dict[int, MountPoint] = {}
    for point in points:
        by_device.setdefault(point.device, point)  # a bind mount is the same file system
    return list(by_device.values())


@dataclass(frozen=True)
class FuseMount:
    """A FUSE mount of whatever kind: a file system, and all paths where it can be reached."""

    paths: tuple[str, ...]
    device: int
    """st_dev."""
    type: str
    source: str


def fuse_mounts(text: str) -> list[FuseMount]:
    """Return all FUSE mounts in a mountinfo file (proc(5)), bind mounts of one together, also those that are hidden by later ones."""
    mounts: dict[int, FuseMount] = {}
    for path, device, kind in _mount_lines(text):
        if kind[0] in FUSE_TYPES or kind[0].startswith("fuse."):
            paths = (*mounts[device].paths, path) if device in mounts else (path,)
            mounts[device] = FuseMount(tuple(dict.fromkeys(paths)), device, kind[0], _unescape(kind[1]))
    return list(mounts.values())


def _fuse_lines(text: str) -> list[_Line]:
    """Return the FUSE mounts that are in sight: a later mount on the same path hides the earlier one."""
    by_path: dict[str, _Line | None] = {}
    for path, device, kind in _mount_lines(text):
        is_fuse = (kind[0] == "fuse" or kind[0].startswith("fuse.")) and CONTROL.search(path) is None
        owner = OWNER.search(kind[-1])
        owners = (int(owner[1]), int(owner[2])) if owner else (0, 0)
        point = MountPoint(path, device, *owners)
        by_path.pop(path, None)
        by_path[path] = _Line(point, _unescape(kind[1])) if is_fuse else None
    return [line for line in by_path.values() if line is not None]


def _mount_lines(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the path, the st_dev, and what follows the dash (type, source, options) of each line of mountinfo."""
    for line in text.split("\n"):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 2 or (device := DEVICE.fullmatch(fields[2])) is None:
            continue
        path = _unescape(fields[4])
        if path.startswith("/"):
            yield path, os.makedev(int(device[1]), int(device[2])), kind


def mount_points(among: Sequence[Client] | None = None) -> list[MountPoint]:
    """Return the CVMFS mounts this process sees; `among` are the clients that run, looked for if need be."""
    text = _table()
    if text is None:
        return _mount_points_without_proc()
    lines = _fuse_lines(text)
    if among is None and any(line.source != "cvmfs2" for line in lines):
        among = clients()
    return _one_each(
        line.point
        for line in lines
        if line.source == "cvmfs2" or serves(among or (), line.point.path, line.point.owner, line.point.connection)
    )


def cvmfs_and_others() -> tuple[list[MountPoint], list[MountPoint]]:
    """Return the mounts that say they are CVMFS, and other FUSE mounts, of which a client may serve some. Asks nobody."""
    lines = _fuse_lines(_table() or "")
    called_cvmfs2 = _one_each(line.point for line in lines if line.source == "cvmfs2")
    return called_cvmfs2, _one_each(line.point for line in lines if line.source != "cvmfs2")


def _table() -> str | None:
    try:
        with MOUNTINFO.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read(MOUNTINFO_BYTES)
    except FileNotFoundError:
        return None


def _mount_points_without_proc() -> list[MountPoint]:
    """Return what macOS lists: the device of a CVMFS mount begins with its program's name."""
    import psutil

    paths = [each.mountpoint for each in psutil.disk_partitions(all=True) if each.device.startswith("cvmfs2")]
    devices = all_within(ANSWER_S, [partial(_device, path) for path in paths])
    return [MountPoint(path, device) for path, device in zip(paths, devices, strict=True) if isinstance(device, int)]


def _device(path: str) -> int:
    return os.stat(path).st_dev  # noqa: PTH116


def mounts_of(paths: Iterable[str], points: list[MountPoint]) -> tuple[list[MountPoint], list[str]]:
    """Return the mounts that hold `paths`, and those of the paths that are on none."""
    by_device: dict[int, MountPoint] = {}
    strangers = []
    for path in paths:
        absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() would ask the mount, which may hang
        holding = [point for point in points if is_below(absolute, point.path)]
        if holding:
            best = max(holding, key=lambda point: len(point.path))
            by_device[best.device] = best
        else:
            strangers.append(path)
    return list(by_device.values()), strangers


def chosen_mounts(paths: Sequence[str], among: Sequence[Client] | None = None) -> list[MountPoint]:
    """Return the mounts that hold `paths`, or all without any. Raises CannotObserve if one of the paths is on none."""
    points = mount_points(among)
    if not paths:
        return points
    points, strangers = mounts_of(paths, points)
    if strangers:
        raise CannotObserve(f"{strangers[0]} is not on a CVMFS mount: `findmnt -t fuse` lists what is mounted")
    return points


def is_below(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or inside it, by name."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_named(point: MountPoint, arguments: Iterable[str]) -> bool:
    """Return whether one of the arguments is a path on the mount, or holds one (`--model=/mnt/x`)."""
    within_word = re.compile(rf"(?<![\w.-]){re.escape(point.path)}(?![\w.-])")
    return any(
        within_word.search(argument) or is_below(os.path.abspath(argument), point.path)  # noqa: PTH100 - asks nobody
        for argument in arguments
    )


def is_trusted(point: MountPoint, users: Set[int]) -> bool:
    """Return whether one of these users or root made the mount, or let somebody mount below /cvmfs.

    Anybody may mount something and call it cvmfs2; its daemon could fill the recorder's buffer, or answer nothing.
    """
    return point.owner == 0 or point.owner in users or is_below(point.path, ROOTS_FOLDER)


def awaken(paths: Iterable[str]) -> None:
    """Let the automounter mount the repositories that `paths` (program arguments, say) name below /cvmfs."""
    repositories = {match.group() for path in paths for match in REPOSITORY.finditer(path)}
    if not repositories:
        return
    missing = repositories - {point.path for point in mount_points()}
    # Where there is no such mount, that is said where it matters.
    all_within(AUTOMOUNT_S, [partial(os.access, repository + "/.", os.F_OK) for repository in sorted(missing)])


def _unescape(field: str) -> str:
    """Undo the octal escapes of blank, tab, newline and backslash in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
