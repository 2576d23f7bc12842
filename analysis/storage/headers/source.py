"""Reading a file here and there, within limits, whatever it claims about itself."""

from __future__ import annotations

import os
import time
from typing import Final

MOST_BYTES: Final = 64 << 20
"""Read of one file; the headers of the largest models take some 10 MB."""
MOST_SECONDS: Final = 5.0
WINDOW: Final = 64 << 10
LONGEST_PIECE: Final = 8 << 20
MOST_TENSORS: Final = 200_000
LONGEST_NAME: Final = 1024


class Unreadable(Exception):
    """A file that is not what it should be, or larger than is looked at; the message goes on after "X cannot be read: "."""


class Source:
    """A file that is read by position; counts what it reads."""

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._fd = fd
        self._start = 0
        self._window = b""
        self._read = 0
        self._deadline_s = time.monotonic() + MOST_SECONDS

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return so many bytes. Raises Unreadable behind the end of the file, or when a limit is reached."""
        if length > LONGEST_PIECE:
            raise Unreadable("its header is larger than is looked at")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Unreadable("it ends within its header")
        first = offset - self._start
        if first < 0 or first + length > len(self._window):
            self._fill(offset, max(length, WINDOW))
            first = 0
        content = self._window[first : first + length]
        if len(content) < length:
            raise Unreadable("it became shorter while it was read")
        return content

    def number_at(self, offset: int, length: int) -> int:
        """Return an unsigned little-endian number of so many bytes."""
        return int.from_bytes(self.bytes_at(offset, length), "little")

    def varint_at(self, offset: int) -> tuple[int, int]:
        """Return a protobuf varint and the offset behind it."""
        value = shift = 0
        while True:
            byte = self.bytes_at(offset, 1)[0]
            offset += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), offset
            shift += 7
            if shift > 63:
                raise Unreadable("it is not made as it should be")

    def _fill(self, offset: int, length: int) -> None:
        if time.monotonic() > self._deadline_s:
            raise Unreadable(f"its header was not read within {MOST_SECONDS:.0f} s")
        length = min(length, self.size - offset)
        self._read += length
        if self._read > MOST_BYTES:
            raise Unreadable("its header is larger than is looked at")
        self._window = os.pread(self._fd, length, offset)
        self._start = offset
