"""The shape of meta.json that the analysis relies on; what a damaged one has instead is said, not stumbled over."""

from typing import Any, Final

from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.probes.visible import printable
from cvtrace.tracer.errors import TraceDamaged, TraceTooLarge
from cvtrace.tracer.store import Trace

COUNTERS: Final = {"*": int}
SHAPE: Final[dict[str, Any]] = {
    "target": {"argv": [str], "pid": int, "cwd": str, "exit_code": int, "limits": {"memory_bytes": int}},
    "clock": {"start_ns": int, "end_ns": int, "recorded_from_ns": int},
    "host": str,
    "started": str,
    "kernel": str,
    "probe": str,
    "sees": [str],
    "missing": [str],
    "lost": COUNTERS,
    "dropped": COUNTERS,
    "mounts": [
        {
            "path": str,
            "fqrn": str,
            "connection": int,
            "device": int,
            "daemon_pid": int,
            "client": str,
            "version": str,
            "revision": int,
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


def dropped_part(meta: dict[str, Any]) -> str | None:
    """Return a sentence on what was dropped of a recording because it became too large, None if nothing was."""
    dropped, clock = meta.get("dropped"), meta.get("clock") or {}
    if not dropped:
        return None
    first, begin = clock.get("recorded_from_ns"), clock.get("start_ns")
    span = (
        f"the first {(begin - first) / 1e9:.1f} s" if isinstance(first, int) and isinstance(begin, int) else "the begin"
    )
    return f"{span} of the recording and {pluralize(int(dropped.get('events', 0)), 'event')} were dropped for room (--max-size)"


def checked(trace: Trace) -> dict[str, Any]:
    """Return the trace's meta.json. Raises TraceDamaged if something in it is not what it should be."""
    for name, most in MOST.items():
        entries = trace.meta.get(name)
        if isinstance(entries, list | dict) and len(entries) > most:
            raise TraceTooLarge(
                f"{trace.path} is not read: its meta.json has {len(entries):,} {name}, and cvtrace reads {most:,} at most"
            )
    longer = _too_long(trace.meta, "")
    if longer is not None:
        raise TraceTooLarge(
            f"{trace.path} is not read: its meta.json has more than {LONGEST:,} characters in {printable(longer)}"
        )
    for where in _misfits(trace.meta, SHAPE, ""):
        raise TraceDamaged(f"{trace.path} is damaged: meta.json has no proper {printable(where)}")
    return trace.meta


def _too_long(entry: Any, where: str) -> str | None:
    """Return where a text is that is longer than any that is recorded."""
    if isinstance(entry, str):
        return where if len(entry) > LONGEST else None
    if isinstance(entry, list):
        return next((inner for each in entry if (inner := _too_long(each, where))), None)
    if isinstance(entry, dict):
        for name, value in entry.items():
            longer = (
                where or "a name" if len(name) > LONGEST else _too_long(value, f"{where}.{name}" if where else name)
            )
            if longer is not None:
                return longer
    return None


def _misfits(entry: Any, shape: Any, where: str) -> list[str]:
    if isinstance(shape, list):
        if not isinstance(entry, list):
            return [where]
        return [each for row in entry for each in _misfits(row, shape[0], where)]
    if isinstance(shape, dict):
        if not isinstance(entry, dict):
            return [where]
        inner = f"{where}." if where else ""
        if "*" in shape:
            return [each for name, value in entry.items() for each in _misfits(value, shape["*"], f"{inner}{name}")]
        present = {name: entry[name] for name in shape if entry.get(name) is not None}
        return [each for name, value in present.items() for each in _misfits(value, shape[name], f"{inner}{name}")]
    if type(entry) is not shape:
        return [where]
    return [where] if isinstance(entry, int) and not 0 <= abs(entry) < LARGEST else []
