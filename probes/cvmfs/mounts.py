"""The CVMFS mounts of this machine, as the kernel lists them, and what their daemons say of themselves."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from cvtrace.probes.cvmfs.daemon import Process, find_daemon, named_by_daemons
from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.xattrs import getxattr
from cvtrace.probes.probe import CannotObserve

MOUNTINFO: Final = Path("/proc/self/mountinfo")
ANSWER_S: Final = 3.0
AUTOMOUNT_S: Final = 60.0
"""The first access mounts: it fetches the manifest and a catalog."""

REPOSITORY: Final = re.compile(r"/cvmfs/[^/\s:=,]+\.[^/\s:=,]+")

DEVICE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")

OWNER: Final = re.compile(r"\buser_id=([0-9]{1,9}),group_id=([0-9]{1,9})\b")

FUSE_TYPES: Final = frozenset({"fuse", "fuseblk", "virtiofs"})
"""Types of mounts whose requests the kernel sends as FUSE requests; besides `fuse.<subtype>`."""

LAB: Final = "cvtrace-lab"
"""How the lab's client begins its `user.version`."""
XATTRS: Final = ("user.fqrn", "user.pid", "user.version")


@dataclass(frozen=True)
class MountPoint:
    """A line of mountinfo that is a CVMFS mount."""

    path: str
    device: int
    """st_dev; its minor number is the FUSE connection."""

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

    @property
    def connection(self) -> int:
        """Number of the FUSE connection."""
        return os.minor(self.device)


def parse_mountinfo(text: str, served: Set[str] = frozenset()) -> list[MountPoint]:
    """Return the CVMFS mounts in a mountinfo file (proc(5)): one per file system, none that is hidden.

    mount.cvmfs and the lab mount with the source `cvmfs2`; a client that was started by hand has `/dev/fuse`, and is
    known by `served`, the paths that running clients name. The type is `fuse`, or `fuse.<subtype>`.
    """
    seen: dict[str, MountPoint | None] = {}
    for path, device, kind in _mount_lines(text):
        is_fuse = kind[0] == "fuse" or kind[0].startswith("fuse.")
        is_cvmfs = is_fuse and (_unescape(kind[1]) == "cvmfs2" or path in served)
        seen.pop(path, None)  # a later mount on the same path hides the earlier one
        seen[path] = MountPoint(path, device) if is_cvmfs else None
    by_device: dict[int, MountPoint] = {}
    for mount in seen.values():
        if mount is not None:
            by_device.setdefault(mount.device, mount)  # a bind mount is the same file system
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
    found: dict[int, FuseMount] = {}
    for path, device, kind in _mount_lines(text):
        if kind[0] in FUSE_TYPES or kind[0].startswith("fuse."):
            paths = (*found[device].paths, path) if device in found else (path,)
            found[device] = FuseMount(tuple(dict.fromkeys(paths)), device, kind[0], _unescape(kind[1]))
    return list(found.values())


def _mount_lines(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the path, the st_dev, and what follows the dash (type, source, options) of each line of mountinfo."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 2 or (device := DEVICE.fullmatch(fields[2])) is None:
            continue
        path = _unescape(fields[4])
        if path.startswith("/"):
            yield path, os.makedev(int(device[1]), int(device[2])), kind


def mount_points() -> list[MountPoint]:
    """Return the CVMFS mounts this process sees."""
    try:
        text = MOUNTINFO.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return _mount_points_without_proc()
    return parse_mountinfo(text, named_by_daemons())


def _mount_points_without_proc() -> list[MountPoint]:
    """Return what macOS lists: the device of a CVMFS mount begins with its program's name."""
    import psutil

    found = []
    for partition in psutil.disk_partitions(all=True):
        if partition.device.startswith("cvmfs2"):
            try:
                status = within(ANSWER_S, partial(os.stat, partition.mountpoint))
            except (NoAnswer, OSError):
                continue
            found.append(MountPoint(partition.mountpoint, status.st_dev))
    return found


def mounts_of(paths: Iterable[str], points: list[MountPoint]) -> tuple[list[MountPoint], list[str]]:
    """Return the mounts that hold `paths`, and those of the paths that are on none."""
    chosen: dict[int, MountPoint] = {}
    strangers = []
    for path in paths:
        absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() would ask the mount, which may hang
        holding = [point for point in points if is_below(absolute, point.path)]
        if holding:
            best = max(holding, key=lambda point: len(point.path))
            chosen[best.device] = best
        else:
            strangers.append(path)
    return list(chosen.values()), strangers


def chosen_mounts(paths: Sequence[str]) -> list[MountPoint]:
    """Return the mounts that hold `paths`, or all without any. Raises CannotObserve if one of the paths is on none."""
    points = mount_points()
    if not paths:
        return points
    points, strangers = mounts_of(paths, points)
    if strangers:
        raise CannotObserve(f"{strangers[0]} is not on a CVMFS mount: `findmnt -t fuse` lists what is mounted")
    return points


def is_below(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or inside it, by name."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def awaken(paths: Iterable[str]) -> None:
    """Let the automounter mount the repositories that `paths` (program arguments, say) name below /cvmfs."""
    repositories = {match.group() for path in paths for match in REPOSITORY.finditer(path)}
    missing = repositories - {point.path for point in mount_points()}
    for repository in sorted(missing):
        try:
            within(AUTOMOUNT_S, partial(os.access, repository + "/.", os.F_OK))
        except (NoAnswer, OSError):
            continue  # then there is no such mount, which is said where it matters


def describe(point: MountPoint) -> Mount:
    """Ask the mount who it is and find its daemon. Never hangs; what could not be learnt is in `error`."""
    mount = Mount(point.path, point.device, Path(point.path).name, None, None, None)
    said: dict[str, str] = {}
    error: str | None = None
    try:
        said = within(ANSWER_S, lambda: read_xattrs(point.path, XATTRS))
    except NoAnswer:
        error = f"{point.path} does not answer within {ANSWER_S:.0f} s: its cvmfs2 hangs or its network is gone"
    except OSError as failure:
        error = f"{point.path} cannot be read: {os.strerror(failure.errno or 0)}"
    answers = error is None
    fqrn = said.get("user.fqrn") or mount.fqrn
    version = said.get("user.version")
    pid = said.get("user.pid", "")
    daemon = find_daemon(int(pid) if pid.isdigit() else None, point.path, fqrn)
    if daemon is not None and version and version.startswith(LAB):
        daemon = replace(daemon, client=LAB)
    if daemon is None and error is None:
        error = f"no cvmfs2 process was found that serves {point.path}: it may run in another PID namespace"
    return replace(mount, fqrn=fqrn, version=_release(version), daemon=daemon, error=error, answers=answers)


def read_xattrs(path: str, names: Iterable[str]) -> dict[str, str]:
    """Return those of the attributes that `path` has. Raises OSError if the path cannot be reached.

    For the child of `within`: as root it becomes who mounted, where nobody else is let in, and stays so.
    """
    values = {}
    try:
        os.stat(path)  # noqa: PTH116 - tells a path that is not there from one without these attributes
    except PermissionError:
        if not _become_owner(path):
            raise
        os.stat(path)  # noqa: PTH116
    for name in names:
        try:
            values[name] = getxattr(path, name).decode("utf-8", "replace").strip("\0\n ")
        except OSError as failure:
            if failure.errno == errno.ENOTCONN:  # the daemon is dead, and stat was answered from the kernel's cache
                raise
    return values


def _become_owner(path: str) -> bool:
    """Take the user and group of a FUSE mount, which lets in nobody else without `allow_other`, not even root."""
    if os.geteuid() != 0:
        return False
    lines = _mount_lines(MOUNTINFO.read_text(errors="surrogateescape"))
    owners = [OWNER.search(kind[-1]) for mounted, _, kind in lines if mounted == path]
    if not owners or owners[-1] is None:  # the last mount on a path hides those before it
        return False
    user, group = (int(number) for number in owners[-1].groups())
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    return True


def _release(version: str | None) -> str | None:
    """Drop what `user.version` has besides the release: 2.12.0.0 -> 2.12.0 (patch level), name 0.1.0 -> 0.1.0."""
    words = (version or "").split()
    return ".".join(words[-1].split(".")[:3]) if words else None


def _unescape(field: str) -> str:
    """Undo the octal escapes of blank, tab, newline and backslash in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
