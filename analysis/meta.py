"""The shape of meta.json that the analysis relies on; what a damaged one has instead is said, not stumbled over."""

from typing import Any, Final

from cvtrace.tracer.store import Trace, TraceDamaged

COUNTERS: Final = {"*": int}
SHAPE: Final[dict[str, Any]] = {
    "target": {"argv": [str], "pid": int, "cwd": str, "exit_code": int},
    "clock": {"start_ns": int, "end_ns": int},
    "host": str,
    "started": str,
    "probe": str,
    "missing": [str],
    "lost": COUNTERS,
    "mounts": [
        {
            "path": str,
            "fqrn": str,
            "connection": int,
            "device": int,
            "daemon_pid": int,
            "client": str,
            "version": str,
            "client_functions": [str],
            "client_build_id": str,
            "counters_before": COUNTERS,
            "counters_after": COUNTERS,
            "error": str,
            "quota_bytes": int,
            "counted_ns": [int],
            "answered_ns": [int],
        }
    ],
}
"""Keys and their types; each may be absent or null. `*` is any key."""

LARGEST: Final = 2**62


def checked(trace: Trace) -> dict[str, Any]:
    """Return the trace's meta.json. Raises TraceDamaged if something in it is not what it should be."""
    for where in _misfits(trace.meta, SHAPE, ""):
        raise TraceDamaged(f"{trace.path} is damaged: meta.json has no proper {where}")
    return trace.meta


def _misfits(found: Any, wanted: Any, where: str) -> list[str]:
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return [where]
        return [each for row in found for each in _misfits(row, wanted[0], where)]
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [where]
        inner = f"{where}." if where else ""
        if "*" in wanted:
            return [each for name, value in found.items() for each in _misfits(value, wanted["*"], f"{inner}{name}")]
        told = {name: found[name] for name in wanted if found.get(name) is not None}
        return [each for name, value in told.items() for each in _misfits(value, wanted[name], f"{inner}{name}")]
    if type(found) is not wanted:
        return [where]
    return [where] if isinstance(found, int) and not 0 <= abs(found) < LARGEST else []
