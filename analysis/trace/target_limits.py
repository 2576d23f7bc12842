"""The limits of the target's cgroups, as meta.json has them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIB = 1 << 20


def limits_in_words(meta: Mapping[str, Any]) -> str:
    """Return such as `the target's cgroup has 128 MiB and 0.05 CPUs`, "" if no limits are known."""
    limits = (meta.get("target") or {}).get("limits")
    if not isinstance(limits, dict):
        return ""
    memory, cpus = limits.get("memory_bytes"), limits.get("cpus")
    parts = [f"{memory / MIB:,.0f} MiB"] if memory is not None and _is_number(memory) else []
    parts += [f"{cpus:.3g} CPUs"] if cpus is not None and _is_number(cpus) else []
    return f"the target's cgroup has {' and '.join(parts)}" if parts else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1 << 60
