"""Finds the GenAI library while the target runs: any program, whichever way it comes to load it.

The target's opens tell when a file of that name is opened; what the process then has mapped is the very file, also in a
container or another mount namespace, where its path means nothing here. The library is mapped some milliseconds before its
first call; a call that comes sooner than the next look is not seen.
"""

from __future__ import annotations

import os
import re
import time
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


class LibraryWatch:
    """Attaches to each file of that name once, when a process of the target maps it."""

    def __init__(self, attach: Attach) -> None:
        self._attach = attach
        self._known: set[tuple[int, int]] = set()
        self._awaited: dict[int, float] = {}
        """Thread -> until when a mapping is looked for."""

    def know(self, library: str) -> None:
        """Take note of a library that is attached already."""
        status = os.stat(library)  # noqa: PTH116
        self._known.add((status.st_dev, status.st_ino))

    def notice(self, texts: Texts) -> None:
        """Look for opens of the library in a drained block."""
        if not len(texts):
            return
        block = np.ascontiguousarray(texts).view("u1")
        for found in NAME.finditer(block.data):
            row = texts[found.start() // TEXT.itemsize]
            if row["kind"] == Kind.SYS_OPEN:
                self._awaited[int(row["tid"])] = time.monotonic() + PATIENCE_S

    def look(self) -> None:
        """Attach to what the awaited processes have mapped by now."""
        for tid, until in list(self._awaited.items()):
            mapped = list(_mapped(tid))
            for path, name in mapped:
                self._use(path, name)
            if mapped or time.monotonic() > until:
                del self._awaited[tid]

    def look_into(self, pid: int) -> None:
        """Attach to what a process has mapped already."""
        for path, name in _mapped(pid):
            self._use(path, name)

    def _use(self, path: str, name: str) -> None:
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) not in self._known:
                self._known.add((status.st_dev, status.st_ino))
                self._attach(path, name)
        except OSError:
            return  # the process is gone


def _mapped(tid: int) -> Iterator[tuple[str, str]]:
    """Yield a path to each mapped file of that name, and the path by which the process knows it."""
    try:
        lines = Path(f"/proc/{tid}/maps").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if NAME.search(line):
            fields = line.split(None, 5)
            start, _, end = fields[0].partition(b"-")
            # As /proc/PID/map_files spells them: without leading zeros.
            yield f"/proc/{tid}/map_files/{int(start, 16):x}-{int(end, 16):x}", os.fsdecode(fields[5])
