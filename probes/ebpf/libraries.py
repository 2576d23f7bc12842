"""Finds libraries while the processes run that load them, whichever way they come to load them.

The opens of a process tell when a file of that name is opened; what the process then has mapped is the very file, also in a
container or another mount namespace, where its path means nothing here. A library is mapped some milliseconds before its
first call; a call that comes sooner than the next look is not seen.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from cvtrace.probes.events import TEXT, Kind, Texts

NAME: Final = re.compile(rb"libonnxruntime-genai[^/\0]*\.so")
PATIENCE_S: Final = 2.0
"""How long after its open a file may be mapped."""

Attach = Callable[[str, str], bool]
"""Attaches to the file at (a path that leads there from here, its name for the user); tells whether there was a reason to."""


class LibraryWatch(ABC):
    """Tells of files whose name matches `name` and that processes map; `opens` is the kind of the events that open them."""

    def __init__(self, name: re.Pattern[bytes], opens: Kind) -> None:
        self._name = name
        self._opens = opens
        self._known: set[tuple[int, int]] = set()
        self._awaited: dict[int, float] = {}
        """Thread -> until when a mapping is looked for."""

    @abstractmethod
    def use(self, pid: int, path: str, name: str, key: tuple[int, int], *, is_new: bool) -> None:
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
        for found in self._name.finditer(block.data):
            row = texts[found.start() // TEXT.itemsize]
            if row["kind"] == self._opens:
                self._awaited[int(row["tid"])] = time.monotonic() + PATIENCE_S

    def look(self) -> None:
        """Take what the awaited processes have mapped by now."""
        for tid, until in list(self._awaited.items()):
            if self.look_into(tid) or time.monotonic() > until:
                del self._awaited[tid]

    def look_into(self, pid: int) -> bool:
        """Take what a process has mapped already; returns whether there was anything."""
        files = list(mapped(pid, self._name))
        for path, name in files:
            try:
                status = os.stat(path)  # noqa: PTH116
                key = (status.st_dev, status.st_ino)
                is_new = key not in self._known
                self._known.add(key)
                self.use(pid, path, name, key, is_new=is_new)
            except OSError:
                continue  # the process is gone
        return bool(files)


class GenaiLibraries(LibraryWatch):
    """Attaches to each GenAI library once, when a process of the target maps it."""

    def __init__(self, attach: Attach) -> None:
        super().__init__(NAME, Kind.SYS_OPEN)
        self._attach = attach

    def use(self, pid: int, path: str, name: str, key: tuple[int, int], *, is_new: bool) -> None:
        """Attach to a library that is new."""
        if is_new:
            self._attach(path, name)


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
