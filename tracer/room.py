"""How much memory a trace needs, and whether this machine has it: asked before the trace is read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cvtrace.probes.events import TEXT
from cvtrace.tracer.errors import TraceTooLarge

EVENT_BYTES: Final = 60
"""The least that a report takes of memory for each event of a long trace; a report of everything takes about 90 (docs/benchmarks.md)."""
TEXT_BYTES: Final = 2 * TEXT.itemsize
BYTES_PER_ROW: Final = 0.25
"""The least that events take on disk: measured are 6 bytes, with nothing but equal distances in time some 0.3."""
ALWAYS_ROWS: Final = 32_000_000
"""So many are read however little room they take on disk."""

MEMINFO: Final = Path("/proc/meminfo")
CGROUPS: Final = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def check_room(trace: Path, events: int, texts: int, file_bytes: int | None = None) -> None:
    """Raise TraceTooLarge if so many records cannot be, in files of `file_bytes`, or do not fit into memory."""
    if file_bytes is not None and (rows := events + texts) > ALWAYS_ROWS and file_bytes < rows * BYTES_PER_ROW:
        raise TraceTooLarge(
            f"{trace} is not read: it claims {rows:,} records in {file_bytes:,} bytes, which no recording does; "
            "record the program again"
        )
    needed, free = events * EVENT_BYTES + texts * TEXT_BYTES, available_bytes()
    if free is not None and needed > free:
        raise TraceTooLarge(
            f"{trace} is not read: its {events:,} events and {texts:,} texts need {needed / 1e9:.1f} GB of memory, of which "
            f"{free / 1e9:.1f} GB are free: read it on a machine with more, or record for a shorter time (attach --for)"
        )


def available_bytes() -> int | None:
    """Return how much memory this process can still get without others losing theirs; None where nothing tells."""
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = sum(int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in CGROUPS:
        try:
            free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
        except (OSError, ValueError):  # no such hierarchy, or "max"
            continue
    return free
