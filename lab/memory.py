"""Runs a command under a memory limit, so that mapped weights do not all fit: a cgroup of its own, version 1 or 2."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.lab.errors import LabError

PREFIX: Final = "cvtrace-lab-"
SMALLEST_BYTES: Final = 16 << 20
_NUMBERS: Final = itertools.count()
_ENTER: Final = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True)
class Hierarchy:
    """Where groups with a memory limit can be made."""

    parent: Path
    version: int

    def limit(self, group: Path, limit_bytes: int) -> None:
        """Limit the memory of `group`, page cache included, and keep it from escaping into swap where possible."""
        names = {1: ("memory.limit_in_bytes", "memory.swappiness"), 2: ("memory.max", "memory.swap.max")}
        limit, swap = names[self.version]
        (group / limit).write_text(str(limit_bytes))
        with contextlib.suppress(OSError):  # without swap accounting there is no such file
            (group / swap).write_text("0")


def _mounts() -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield (root, mount point, type, super options) of each cgroup mount; proc_pid_mountinfo(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            _, _, _, root, mountpoint, *_ = fields.split(" ")
            yield root, mountpoint, kind, set(options.split(","))


def _cgroup_of(controller: str) -> str | None:
    """Return the path of this process's group; `controller` is "" for version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") if controller else number == "0":
            return path
    return None


def _below(mountpoint: str, root: str, cgroup: str | None) -> Path:
    """Return the folder of the group `own` in a mount that shows the hierarchy from `root` on."""
    if cgroup is None or not cgroup.startswith(root):
        return Path(mountpoint)
    return Path(mountpoint) / cgroup[len(root) :].lstrip("/")


def hierarchy() -> Hierarchy:
    """Return where a limited group can be made; raises LabError where there is no place.

    Version 1: below the group of this process, so that limits it is under stay. Version 2: only in a group that hands
    the controller on and holds no process itself, so the nearest such group above.
    """
    for root, mountpoint, kind, options in _mounts():
        if kind == "cgroup" and "memory" in options:
            parent = _below(mountpoint, root, _cgroup_of("memory"))
            return Hierarchy(parent if parent.is_dir() else Path(mountpoint), 1)
    for root, mountpoint, kind, _ in _mounts():
        if kind == "cgroup2":
            cgroup = _below(mountpoint, root, _cgroup_of(""))
            for parent in (cgroup, *cgroup.parents):
                if parent.is_relative_to(mountpoint) and _hands_on(parent):
                    return Hierarchy(parent, 2)
    raise LabError(
        "this machine offers no memory controller to limit a command with: mount one (cgroup v1 or v2), or in a "
        "container, start it with --cgroupns=host and /sys/fs/cgroup writable"
    )


def _hands_on(parent: Path) -> bool:
    """Say whether groups made in `parent` have the memory controller, after asking for it."""
    try:
        if "memory" not in (parent / "cgroup.controllers").read_text().split():
            return False
        control = parent / "cgroup.subtree_control"
        if "memory" not in control.read_text().split():
            control.write_text("+memory")
        return "memory" in control.read_text().split()
    except OSError:
        return False


def _empty(group: Path) -> None:
    """Kill what is left in `group` and remove it."""
    deadline_s = time.monotonic() + 10
    while group.exists():
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline_s:
            raise LabError(f"processes in {group} do not end; remove it with rmdir when they have")
        time.sleep(0.01)


def _remove_stale(parent: Path) -> None:
    """Remove groups whose maker is gone."""
    for group in parent.glob(f"{PREFIX}*"):
        maker = group.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", maker).exists():
            _empty(group)


@contextlib.contextmanager
def limited(argv: Sequence[str], limit_bytes: int) -> Iterator[list[str]]:
    """Yield a command line that runs `argv` in a group of at most `limit_bytes` of memory, page cache included.

    The command may be run several times; what it leaves running is killed at the end. Pages that were cached before
    stay charged to whoever read them first: drop the caches before. Raises LabError when limits cannot be set here.
    """
    if limit_bytes < SMALLEST_BYTES:
        raise LabError(f"nothing starts with {limit_bytes} bytes of memory: allow at least 16MiB")
    place = hierarchy()
    group = place.parent / f"{PREFIX}{os.getpid()}-{next(_NUMBERS)}"
    try:
        _remove_stale(place.parent)
        group.mkdir()
    except OSError as error:
        raise LabError(f"cannot limit memory: {error.strerror}: {group}; run as root") from error
    try:
        try:
            place.limit(group, limit_bytes)
        except OSError as error:
            raise LabError(f"cannot limit memory in {group}: {error.strerror}") from error
        yield ["/bin/sh", "-c", _ENTER, str(group), *argv]
    finally:
        _empty(group)
