"""What a kernel tells anybody of a process: its tree, CPU time, memory, page faults and, to its owner, bytes read."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

PROC: Final = Path("/proc")


def tree(root: psutil.Process) -> list[psutil.Process]:
    """Return a process and all its descendants that live."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def usage(process: psutil.Process) -> dict[str, int]:
    """Return the numbers of counts.COUNTS that this system tells of a process; none if it is gone."""
    values: dict[str, int] = {}
    try:
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
        values["process.cpu_ns"] = round((times.user + times.system) * 1e9)
        values["process.rss_bytes"] = int(memory.rss)
    except psutil.Error:
        return {}
    values.update(_faults(process.pid, memory))
    with contextlib.suppress(psutil.Error, AttributeError):  # of another user; macOS does not count them
        values["process.read_bytes"] = int(process.io_counters().read_chars)
    return values


def held_files(pid: int, devices: Sequence[int], paths: Sequence[Sequence[str]]) -> list[int] | None:
    """Return for each mount how many mappings, descriptors and folders of a process are of it; None if that cannot be seen.

    `devices` are the mounts' st_dev, `paths` where each is mounted. A mapping tells its device, a descriptor its path.
    """
    try:
        maps = (PROC / str(pid) / "maps").read_text(errors="surrogateescape").splitlines()
        links = [*(PROC / str(pid) / "fd").iterdir(), PROC / str(pid) / "cwd"]
    except OSError:  # of another user, gone, or not Linux
        return None
    names = []
    for link in links:
        with contextlib.suppress(OSError):
            names.append(os.readlink(link))  # noqa: PTH115 - may be no path
    numbers = [f"{os.major(device):02x}:{os.minor(device):02x}" for device in devices]
    mapped = Counter(line.split(None, 4)[3] for line in maps)
    return [
        mapped[number] + sum(any(f"{name}/".startswith(f"{path.rstrip('/')}/") for path in where) for name in names)
        for number, where in zip(numbers, paths, strict=True)
    ]


def _faults(pid: int, memory: Any) -> dict[str, int]:
    """Return page faults; psutil tells them on macOS only (`pageins` are those that read)."""
    if hasattr(memory, "pageins"):
        return {"process.major_faults": int(memory.pageins), "process.minor_faults": int(memory.pfaults)}
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return {}
    return {"process.minor_faults": int(fields[7]), "process.major_faults": int(fields[9])}
