"""Slowness on purpose, asked for over the talk socket (`inject {"lookup_delay_s": 0.1}`), and the log of what was really done.

The log, `./injected.log` in the workspace, has one JSON object per line: `what`, `of` (the job's path), `tid`, `start_ns` and `end_ns` (CLOCK_MONOTONIC). It is the
truth that a tracer is compared with; where the client was to compute, `cpu_ns` is how long its thread had a CPU for it. The log also
holds how long each READ took to handle (`read`, of inode, offset and size), how long one waited for an object that the cache lacked (`miss`,
of its hash), how long each received piece took to handle (`unpack`), how long each job waited for the download thread (`queue`), and the parts of every transfer as libcurl measured them: `connect`, `request` (sent to first byte) and `transfer` (first to last byte).
Nothing is injected or logged before the first `inject`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from cvtrace.lab.errors import LabError

LOG: Final = "injected.log"


@dataclass(frozen=True)
class Delays:
    """What to be slow at; everything in seconds each time."""

    lookup_delay_s: float = 0.0
    """A worker sleeps before it searches the catalogs for a path."""
    worker_delay_s: float = 0.0
    """A worker sleeps before it reads what a READ asks for."""
    worker_busy_s: float = 0.0
    """A worker computes before it reads what a READ asks for."""
    inflate_busy_s: float = 0.0
    """The download thread computes before it unpacks a received piece."""
    take_busy_s: float = 0.0
    """The download thread computes before it begins a job that it was handed."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Delays:
        """Make delays of fields by name; raises LabError for unknown names and wrong types."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise LabError(f"the client cannot inject {', '.join(sorted(unknown))}")
        if not all(isinstance(value, int | float) and 0 <= value < float("inf") for value in values.values()):
            raise LabError("a delay is a number of seconds, 0 or more")
        return cls(**values)


class DelayInjector:
    """The delays of the moment. Thread-safe."""

    def __init__(self) -> None:
        self._delays = Delays()
        self._log: int | None = None
        self._lock = threading.Lock()

    def set(self, delays: Delays) -> None:
        """Do this from now on."""
        with self._lock:
            if self._log is None:
                self._log = os.open(f"./{LOG}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._delays = delays

    def lookup(self) -> None:
        """Called before a path is searched for."""
        self._sleep("lookup", self._delays.lookup_delay_s)

    def worker(self) -> None:
        """Called before a READ is answered."""
        self._sleep("delay", self._delays.worker_delay_s)
        self._compute("worker", self._delays.worker_busy_s)

    def inflate(self) -> None:
        """Called before a received piece is unpacked."""
        self._compute("inflate", self._delays.inflate_busy_s)

    def take(self) -> None:
        """Called before the download thread begins a job."""
        self._compute("take", self._delays.take_busy_s)

    def handled(self, kind: str, start_ns: int, of: str = "") -> None:
        """Called when a request, a missing object or a received piece has been handled, with when that began."""
        self._write(kind, start_ns, time.monotonic_ns(), of)

    def transferred(
        self, of: str, handed_ns: int, begun_ns: int, connected: bool, times_s: tuple[float, float, float, float]
    ) -> None:
        """Called when a transfer is over, with when its job was handed over and begun.

        `times_s` are what libcurl measured since it was begun: connected, sent, first byte, last byte.
        """
        if self._log is None:
            return
        connect_ns, sent_ns, first_ns, last_ns = (begun_ns + round(time_s * 1e9) for time_s in times_s)
        self._write("queue", handed_ns, begun_ns, of)
        if connected:
            self._write("connect", begun_ns, connect_ns, of)
        self._write("request", sent_ns, first_ns, of)
        self._write("transfer", first_ns, last_ns, of)

    def _sleep(self, kind: str, for_s: float) -> None:
        if for_s:
            start_ns = time.monotonic_ns()
            time.sleep(for_s)
            self._write(kind, start_ns, time.monotonic_ns())

    def _compute(self, kind: str, for_s: float) -> None:
        if for_s:
            start_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
            until_ns = start_ns + round(for_s * 1e9)
            while time.monotonic_ns() < until_ns:
                pass
            self._write(kind, start_ns, time.monotonic_ns(), cpu_ns=time.thread_time_ns() - cpu_ns)

    def _write(self, kind: str, start_ns: int, end_ns: int, of: str = "", **more: int) -> None:
        if self._log is not None:
            line = {
                "what": kind,
                "of": of,
                "tid": threading.get_native_id(),
                "start_ns": start_ns,
                "end_ns": end_ns,
                **more,
            }
            os.write(self._log, json.dumps(line).encode() + b"\n")


def read_injected(workspace: Path) -> list[dict[str, Any]]:
    """Return the lines of a client's log, oldest first; empty when nothing was injected."""
    try:
        lines = (workspace / LOG).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
