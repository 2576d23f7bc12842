"""What a process may use: descriptors, CPUs, and the CPU time that the cgroups around it leave it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
_NOFILE: Final = re.compile(r"^Max open files +([0-9]+|unlimited)", re.MULTILINE)


@dataclass(frozen=True)
class Limits:
    """Limits of a process; None where there is none, or where this user cannot see it."""

    descriptors: int | None
    open_descriptors: int | None
    cpus: int
    cpu_share: float | None
    """CPUs' worth of time that the tightest cgroup gives (`cpu.max`, `cpu.cfs_quota_us`)."""


def limits_of(pid: int) -> Limits:
    """Return the limits of a process. Raises OSError if it is gone."""
    match = _NOFILE.search(Path(f"/proc/{pid}/limits").read_text())
    descriptors = int(match[1]) if match and match[1] != "unlimited" else None
    try:
        in_use: int | None = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 names only
    except PermissionError:
        in_use = None
    return Limits(descriptors, in_use, len(os.sched_getaffinity(pid)), _cpu_share(pid))


def _cpu_share(pid: int) -> float | None:
    shares = []
    for row in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = row.split(":", 2)
        if number == "0":
            shares += [_of_version_2(folder) for folder in _upwards(CGROUP, path)]
        elif "cpu" in controllers.split(","):
            shares += [_of_version_1(folder) for folder in _upwards(CGROUP / "cpu", path)]
    return min((share for share in shares if share is not None), default=None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield a cgroup's folder and those above it: each of them limits it."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _of_version_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _of_version_1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
