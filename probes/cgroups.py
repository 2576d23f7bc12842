"""What the cgroups around a process leave it: memory, and CPU time; versions 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
NO_LIMIT_BYTES: Final = 1 << 60
"""Version 1 has the largest number of pages where there is no limit."""
Number = Callable[[Path], float | None]


def cpu_share(cgroups: str, root: Path = CGROUP) -> float | None:
    """Return the CPUs' worth of time that the tightest cgroup gives; `cgroups` is the content of /proc/PID/cgroup."""
    return _tightest(cgroups, root, "cpu", _cpu_of_version_1, _cpu_of_version_2)


def memory_bytes(cgroups: str, root: Path = CGROUP) -> int | None:
    """Return the memory that the tightest cgroup allows, page cache included."""
    limit = _tightest(cgroups, root, "memory", _memory_of_version_1, _memory_of_version_2)
    return None if limit is None else int(limit)


def _tightest(cgroups: str, root: Path, controller: str, version_1: Number, version_2: Number) -> float | None:
    limits: list[float | None] = []
    for row in cgroups.splitlines():
        number, controllers, path = row.split(":", 2)
        if number == "0":
            limits += [version_2(folder) for folder in _upwards(root, path)]
        elif controller in controllers.split(","):
            limits += [version_1(folder) for folder in _upwards(root / controller, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield a cgroup's folder and those above it: each of them limits it."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _cpu_of_version_2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cpu_of_version_1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _memory_of_version_2(folder: Path) -> float | None:
    return _bytes(folder / "memory.max")


def _memory_of_version_1(folder: Path) -> float | None:
    return _bytes(folder / "memory.limit_in_bytes")


def _bytes(file: Path) -> float | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):  # `max`
        return None
    return limit if limit < NO_LIMIT_BYTES else None
