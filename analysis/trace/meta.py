"""The shape of meta.json that the analysis relies on; what a damaged one has instead is said, not stumbled over."""

from typing import Any, Final

from cvtrace.probes.visible import printable
from cvtrace.tracer.errors import TraceDamaged, TraceTooLarge
from cvtrace.tracer.store import Trace

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
LONGEST: Final = 1 << 18
"""Characters of a text; the kernel takes arguments of 128 kB."""
MOST: Final = {"mounts": 4096, "missing": 10_000, "lost": 10_000, "lost_by_cpu": 100_000}
"""How many of each there can be."""


def checked(trace: Trace) -> dict[str, Any]:
    """Return the trace's meta.json. Raises TraceDamaged if something in it is not what it should be."""
    for name, most in MOST.items():
        found = trace.meta.get(name)
        if isinstance(found, list | dict) and len(found) > most:
            raise TraceTooLarge(
                f"{trace.path} is not read: its meta.json has {len(found):,} {name}, and cvtrace reads {most:,} at most"
            )
    longer = _too_long(trace.meta, "")
    if longer is not None:
        raise TraceTooLarge(
            f"{trace.path} is not read: its meta.json has more than {LONGEST:,} characters in {printable(longer)}"
        )
    for where in _misfits(trace.meta, SHAPE, ""):
        raise TraceDamaged(f"{trace.path} is damaged: meta.json has no proper {printable(where)}")
    return trace.meta


def _too_long(found: Any, where: str) -> str | None:
    """Return where a text is that is longer than any that is recorded."""
    if isinstance(found, str):
        return where if len(found) > LONGEST else None
    if isinstance(found, list):
        return next((inner for each in found if (inner := _too_long(each, where))), None)
    if isinstance(found, dict):
        for name, value in found.items():
            longer = (
                where or "a name" if len(name) > LONGEST else _too_long(value, f"{where}.{name}" if where else name)
            )
            if longer is not None:
                return longer
    return None


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
