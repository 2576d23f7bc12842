"""What a process may use: descriptors, CPUs, and the CPU time that the cgroups around it leave it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvtrace.probes.cgroups import cpu_share

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
    return Limits(
        descriptors, in_use, len(os.sched_getaffinity(pid)), cpu_share(Path(f"/proc/{pid}/cgroup").read_text())
    )
