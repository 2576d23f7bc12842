"""The limits of the target's cgroups: a container engine makes one for its container while the recording runs, so they are looked at again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from cvtrace.probes.cgroups import cpu_share, memory_bytes


class TargetLimits:
    """The tightest limits of any process of the target's tree."""

    def __init__(self) -> None:
        self._cgroups: set[str] = set()
        self._cpus: float | None = None
        self._memory_bytes: int | None = None

    def look(self, pid: int) -> None:
        """Look at the cgroups of a process and of its descendants."""
        waiting = [pid]
        for process in waiting:
            with contextlib.suppress(OSError, ValueError):
                cgroups = Path(f"/proc/{process}/cgroup").read_text()
                if cgroups not in self._cgroups:
                    self._cgroups.add(cgroups)
                    self._take(cgroups)
                for task in Path(f"/proc/{process}/task").iterdir():
                    waiting += [int(child) for child in (task / "children").read_text().split()]

    def _take(self, cgroups: str) -> None:
        cpus, memory = cpu_share(cgroups), memory_bytes(cgroups)
        self._cpus = min((each for each in (self._cpus, cpus) if each is not None), default=None)
        limits = (each for each in (self._memory_bytes, memory) if each is not None)
        self._memory_bytes = min(limits, default=None)

    def meta(self) -> dict[str, Any]:
        """Return them as meta.json has them under `target`; nothing where there are none."""
        limits = {"memory_bytes": self._memory_bytes, "cpus": self._cpus}
        known = {name: limit for name, limit in limits.items() if limit is not None}
        return {"limits": known} if known else {}
