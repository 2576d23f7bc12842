"""Numbers that are needed later, kept in memory up to some size, and beyond that in a file without a name.

What lies in the file costs no memory until it is read, and is read in pieces: a trace of a hundred million events fits a machine that has
four gigabytes. The kernel keeps in its page cache what there is room for. If the file cannot be written, the numbers stay in memory.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]

IN_MEMORY: Final = 64 << 20
"""Bytes of a trace's numbers that are kept in memory; what a trace of some two million events has."""
FOLDER: Final = Path("/var/tmp")
"""For files that may be large: /tmp is often memory itself."""


class Kept:
    """Numbers that are kept; `read` returns them."""

    __slots__ = ("_at", "_dtype", "_file", "_values", "size")

    def __init__(self, values: Column | None, file: BinaryIO | None, at: int, size: int, dtype: np.dtype[Any]) -> None:
        self._values, self._file, self._at, self._dtype, self.size = values, file, at, dtype, size

    def __len__(self) -> int:
        return self.size

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def read(self) -> Column:
        """Return the numbers; do not change them."""
        if self._file is None:
            assert self._values is not None
            return self._values
        values = np.empty(self.size, dtype=self._dtype)
        buffer, place = values.data.cast("B"), 0
        while place < len(buffer):
            count = os.preadv(self._file.fileno(), [buffer[place:]], self._at + place)
            if not count:
                raise OSError("a temporary file was cut while it was in use")
            place += count
        return values


class Scratch:
    """Keeps the numbers of one trace. The file is removed when nothing refers to what is in it."""

    def __init__(self, in_memory: int | None = None) -> None:
        self._room = IN_MEMORY if in_memory is None else in_memory
        self._file: BinaryIO | None = None
        self._end = 0

    def keep(self, values: Column) -> Kept:
        """Take numbers over: do not change them afterwards."""
        if values.nbytes > self._room and len(values):
            with contextlib.suppress(OSError):
                return self._in_file(np.ascontiguousarray(values))
        self._room -= values.nbytes
        return Kept(values, None, 0, len(values), values.dtype)

    def _in_file(self, values: Column) -> Kept:
        if self._file is None:
            folder = None if os.environ.get("TMPDIR") or not FOLDER.is_dir() else FOLDER
            self._file = tempfile.TemporaryFile(buffering=0, prefix="cvtrace-", dir=folder)  # noqa: SIM115 - closed with the last of what is kept
        buffer, place = values.data.cast("B"), 0
        while place < len(buffer):
            place += os.pwrite(self._file.fileno(), buffer[place:], self._end + place)
        kept = Kept(None, self._file, self._end, len(values), values.dtype)
        self._end += len(buffer)
        return kept
