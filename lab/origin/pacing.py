"""A link of limited bandwidth, as a timetable: every slice of a body is told when it has gone through."""

from __future__ import annotations

import threading
import time
from typing import Final

MAX_LATE_NS: Final = 50_000_000
"""A body that fell behind, because its reader was slow, catches up no more than this."""


class Link:
    """Shared by the bodies that go through it at the same time."""

    def __init__(self, bandwidth_bytes_per_s: float) -> None:
        self._ns_per_byte = 1e9 / bandwidth_bytes_per_s
        self._free_ns = 0
        self._lock = threading.Lock()
        # About 200 slices per second: smooth enough to look like a link, few enough to cost nothing.
        self.slice_bytes = int(min(max(bandwidth_bytes_per_s / 200, 1460), 1 << 20))

    def book(self, size_bytes: int, after_ns: int) -> int:
        """Return when the next bytes, which start at `after_ns` at the earliest, are through (CLOCK_MONOTONIC)."""
        with self._lock:
            start_ns = max(self._free_ns, after_ns)
            self._free_ns = start_ns + round(size_bytes * self._ns_per_byte)
            return self._free_ns


class Passage:
    """One body on its way through a link."""

    def __init__(self, link: Link, stopping: threading.Event) -> None:
        self._link = link
        self._stopping = stopping
        self._due_ns = time.monotonic_ns()
        self.waited_ns = 0

    def wait(self, size_bytes: int) -> None:
        """Wait until the next slice has gone through."""
        # Counting from when the last slice was due, not from now: oversleeping must not lower the bandwidth.
        after_ns = max(self._due_ns, time.monotonic_ns() - MAX_LATE_NS)
        self._due_ns = self._link.book(size_bytes, after_ns)
        self.waited_ns += wait_until(self._due_ns, self._stopping)


def wait_until(due_ns: int, stopping: threading.Event) -> int:
    """Wait until CLOCK_MONOTONIC shows `due_ns` or the origin stops; return how long that really took, in ns."""
    start_ns = time.monotonic_ns()
    if due_ns <= start_ns:
        return 0
    stopping.wait((due_ns - start_ns) / 1e9)
    return time.monotonic_ns() - start_ns
