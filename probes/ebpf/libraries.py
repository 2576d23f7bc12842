"""Finds libraries while the processes run that load them, whichever way they come to load them.

The opens of a process tell when a file of that name is opened; what the process then has mapped is the very file, also in a
container or another mount namespace, where its path means nothing here. A library is mapped some milliseconds before its
first call; a call that comes sooner than the next look is not seen.
"""

from __future__ import annotations

import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes.events import TEXT, Kind, Texts
from cvtrace.probes.phases.runtimes.table import LIBRARY

PATIENCE_S: Final = 2.0
"""How long after its open a file may be mapped."""

HURRY_S: Final = 0.02
"""How long after its open a file is looked for all the time."""

Attach = Callable[[int, str, str, int], None]
"""Attaches to the file that (a process has mapped, a path that leads there from here, its name, when it was opened: 0 if unknown)."""
ProcessesOf = Callable[[int], Iterable[int]]
"""Returns the processes, as /proc shows them, that a thread in an event may be in."""


def itself(tid: int) -> Iterable[int]:
    """Return what /proc shows a thread by where it has the kernel's numbers."""
    return (tid,)


class LibraryWatch(ABC):
    """Tells of files whose name matches `name` and that processes map; `opens` is the kind of the events that open them."""

    def __init__(self, name: re.Pattern[bytes], opens: Kind, processes_of: ProcessesOf = itself) -> None:
        self._name = name
        self._opens = opens
        self._processes_of = processes_of
        self._opened_ns = 0
        self._noticed_s = -math.inf
        self._known: set[tuple[int, int]] = set()
        self._awaited: dict[int, float] = {}
        """Thread -> until when a mapping is looked for."""

    @abstractmethod
    def use(self, pid: int, path: str, name: str, key: tuple[int, int], *, is_new: bool, opened_ns: int = 0) -> None:
        """Take note that a process (or thread) has mapped the file `key` (device, inode). May raise OSError."""

    def know(self, library: str) -> None:
        """Take note of a library that is attached already."""
        status = os.stat(library)  # noqa: PTH116
        self._known.add((status.st_dev, status.st_ino))

    def notice(self, texts: Texts) -> None:
        """Look for opens of the library in a drained block."""
        if not len(texts):
            return
        block = np.ascontiguousarray(texts).view("u1")
        for match in self._name.finditer(block.data):
            row = texts[match.start() // TEXT.itemsize]
            if row["kind"] == self._opens:
                self._noticed_s, self._opened_ns = time.monotonic(), int(row["ts"])
                self._awaited[int(row["tid"])] = self._noticed_s + PATIENCE_S

    def look(self) -> None:
        """Take what the awaited processes have mapped by now."""
        for tid, until in list(self._awaited.items()):
            results = [self.look_into(pid, self._opened_ns) for pid in self._processes_of(tid)]
            if any(results) or time.monotonic() > until:
                del self._awaited[tid]

    @property
    def wakeup_fd(self) -> bool:
        """Whether a file was opened just now, and is not mapped yet."""
        return bool(self._awaited) and time.monotonic() < self._noticed_s + HURRY_S

    def is_new(self, status: os.stat_result) -> bool:
        """Whether a file was not seen before."""
        return (status.st_dev, status.st_ino) not in self._known

    def remember(self, status: os.stat_result) -> None:
        """Take note of a file that is attached already."""
        self._known.add((status.st_dev, status.st_ino))

    def forget(self, path: str) -> None:
        """Take a file for one that was not seen: for another process it may matter."""
        status = os.stat(path)  # noqa: PTH116
        self._known.discard((status.st_dev, status.st_ino))

    def look_into(self, pid: int, opened_ns: int = 0) -> bool:
        """Take what a process has mapped already; returns whether there was anything."""
        files = list(mapped(pid, self._name))
        for path, name in files:
            try:
                status = os.stat(path)  # noqa: PTH116
                key = (status.st_dev, status.st_ino)
                is_new = key not in self._known
                self._known.add(key)
                self.use(pid, path, name, key, is_new=is_new, opened_ns=opened_ns)
            except OSError:
                continue  # the process is gone
        return bool(files)


class RuntimeLibraries(LibraryWatch):
    """Attaches to each library of a runtime once, when a process of the target maps it."""

    def __init__(self, attach: Attach, processes_of: ProcessesOf = itself, own: bytes = b"") -> None:
        """Attach to libraries of runtimes, and to files whose names match `own`."""
        pattern = re.compile(LIBRARY.pattern + b"|" + own) if own else LIBRARY
        super().__init__(pattern, Kind.SYS_OPEN, processes_of)
        self._attach = attach

    def use(self, pid: int, path: str, name: str, key: tuple[int, int], *, is_new: bool, opened_ns: int = 0) -> None:
        """Attach to a library that is new."""
        if is_new:
            self._attach(pid, path, name, opened_ns)


def mapped(tid: int, name: re.Pattern[bytes]) -> Iterator[tuple[str, str]]:
    """Yield a path to each mapped file whose name matches, and the path by which the process knows it."""
    try:
        lines = Path(f"/proc/{tid}/maps").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if name.search(line):
            fields = line.split(None, 5)
            start, _, end = fields[0].partition(b"-")
            # As /proc/PID/map_files spells them: without leading zeros.
            yield f"/proc/{tid}/map_files/{int(start, 16):x}-{int(end, 16):x}", os.fsdecode(fields[5])
