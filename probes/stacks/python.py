"""Frames of Python, sampled by py-spy (https://github.com/benfred/py-spy) without stopping the process.

py-spy writes its samples as Chrome's trace events when it ends: a stack's frames begin and end (`B`, `E`) at the sample that showed it
first, in microseconds since py-spy began. That a later sample showed the same is not written. So a stack is known from its first
sample until about the sample before the next change; `CERTAIN` intervals before that change are left out, as the last sample of the old stack
may have been that much earlier.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.capabilities import Capability
from cvtrace.probes.stacks.frames import Frame, Samples, safe_frame
from cvtrace.probes.stacks.process import Identity, end, start

RATE_HZ: Final = 100
CERTAIN: Final = 2
"""py-spy draws the time between samples from an exponential distribution: 86 of 100 gaps are shorter than two of the mean."""
WINDOW_S: Final = 60
"""After this long py-spy is started anew: it keeps what it saw in memory."""
MOST_BYTES: Final = 1 << 26
"""Of one window."""
MOST_KEPT_BYTES: Final = 1 << 28
"""Of all windows, compressed."""
STARTUP_NS: Final = 800_000
"""From when the program was executed to the begin of its clock, less what a sample takes."""
PATIENCE_S: Final = 3.0
MOST_TRIES: Final = 10
"""To sample a process in which py-spy sees no interpreter."""

_THREAD: Final = re.compile(r"thread \((\d+)\)")


def find_py_spy() -> str | None:
    """Return where py-spy is: beside this interpreter, else on PATH."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


@dataclass
class PythonSampler:
    """Samples one process from `begin` until it ends or is left."""

    program: str
    pid: int
    identity: Identity
    keeps: tuple[Capability, ...]
    windows: list[tuple[int, bytes]] = field(default_factory=list)
    """When py-spy's clock began, and what it wrote, compressed."""
    failures: int = 0
    _tries: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _output: int = -1
    _start_ns: int = 0

    def begin(self) -> None:
        """Start py-spy. Raises OSError."""
        self._output = os.memfd_create("cvtrace-stacks")
        executable = os.open(self.program, os.O_RDONLY)  # the folder may be closed to the target's user
        try:
            argv = [f"/proc/self/fd/{executable}", "record", "--pid", str(self.pid), "--rate", str(RATE_HZ)]
            argv += ["--idle", "--threads", "--full-filenames", "--nonblocking", "--format", "chrometrace"]
            argv += ["--duration", str(WINDOW_S), "--output", f"/proc/self/fd/{self._output}"]
            self._process = start(
                argv,
                identity=self.identity,
                most_bytes=MOST_BYTES,
                keeps=self.keeps,
                pass_fds=(executable, self._output),
            )
            self._start_ns = time.monotonic_ns() + STARTUP_NS
        except BaseException:
            os.close(self._output)
            self._output = -1
            raise
        finally:
            os.close(executable)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def look(self) -> bool:
        """Start the next window if one is over; return whether the process is sampled on."""
        if self._process is None or self.is_running:
            return self._process is not None
        ended_well = self._process.returncode == 0
        lasted_s = (time.monotonic_ns() - self._start_ns) / 1e9
        self._take()
        if self.kept_bytes > MOST_KEPT_BYTES:
            return False
        if not ended_well or lasted_s < WINDOW_S - 1:  # an interpreter that has not begun is taken for none
            self._tries += 1
            if self._tries > MOST_TRIES:
                self.failures += 1
                return False
        try:
            self.begin()
        except OSError:
            self.failures += 1
            return False
        return True

    @property
    def kept_bytes(self) -> int:
        return sum(len(data) for _, data in self.windows)

    def stop(self) -> None:
        """Leave the process, and take what was sampled."""
        if self._process is not None:
            end(self._process, signal.SIGINT, PATIENCE_S)
            self._take()

    def _take(self) -> None:
        size = os.fstat(self._output).st_size
        data = os.pread(self._output, min(size, MOST_BYTES), 0)
        os.close(self._output)
        self._process, self._output = None, -1
        if data:
            self.windows.append((self._start_ns, zlib.compress(data, 1)))

    def add_to(self, samples: Samples) -> None:
        """Add what was sampled."""
        for start_ns, data in self.windows:
            if not add_events(zlib.decompress(data), start_ns, samples):
                self.failures += 1
        self.windows.clear()


def add_events(data: bytes, start_ns: int, samples: Samples) -> bool:
    """Add the stacks in trace events of py-spy; return False if they are not such. The target may have had a part in what they say."""
    try:
        events = json.loads(data)
        if not isinstance(events, list):
            return False
        stacks: dict[int, _Stack] = {}
        for (thread, ts), changes in groupby(events, key=lambda event: (int(event["tid"]), int(event["ts"]))):
            stacks.setdefault(thread, _Stack()).change(list(changes), start_ns + 1000 * ts, samples)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError):
        return False
    return True


@dataclass
class _Stack:
    """The frames of a thread, outermost first, the one that names the thread at the front."""

    frames: list[Frame] = field(default_factory=list)
    tid: int = 0
    since_ns: int = 0

    def change(self, events: list[dict[str, Any]], now_ns: int, samples: Samples) -> None:
        """Take over what one sample changed."""
        self._end(now_ns, samples)
        for event in events:
            if event["ph"] == "B":
                self.frames.append(_frame(event))
            elif self.frames:
                self.frames.pop()
        self.since_ns = now_ns
        named = _THREAD.match(self.frames[0].function) if self.frames else None
        self.tid = int(named[1]) if named else 0

    def _end(self, now_ns: int, samples: Samples) -> None:
        if self.tid and len(self.frames) > 1:
            certain_ns = now_ns - self.since_ns - CERTAIN * 1_000_000_000 // RATE_HZ
            samples.add(self.since_ns, max(certain_ns, 0), self.tid, self.frames[1:])


def _frame(event: dict[str, Any]) -> Frame:
    where = event["args"]
    return safe_frame(str(event["name"]), str(where["filename"]), int(where.get("line") or 0))
