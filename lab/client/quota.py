"""The quota manager: one thread that keeps the cache below its limit, fed by a pipe.

Commands are the 48-byte structs of the client's quota manager (quota_posix.h), a description appended to an insert:

    0 u32 command   8 u64 size, hash algorithm in the top three bits   16 i32 return pipe or -1   20 digest, 20 bytes
    40 u16 length of the description   42 padding
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cvtrace.lab.client.content import ALGORITHMS, DIGEST_BYTES, Hash
from cvtrace.lab.client.threads import start_thread

COMMAND: Final = struct.Struct("<I4xQi20sH6x")
assert COMMAND.size == 48

TOUCH: Final = 0
INSERT: Final = 1
PIN: Final = 3
REMOVE: Final = 5
CLEANUP: Final = 6

MAX_DESCRIPTION_BYTES: Final = 512 - COMMAND.size
"""So that a command is written in one piece, whatever other threads write."""

_ALGORITHM_SHIFT: Final = 61


def command(number: int, hash_: Hash | None, size_bytes: int = 0, return_pipe: int = -1, text: str = "") -> bytes:
    """Return one command as it is written to the pipe."""
    description = os.fsencode(text)[:MAX_DESCRIPTION_BYTES]
    digest = hash_.digest if hash_ else bytes(DIGEST_BYTES)
    algorithm = ALGORITHMS.index(hash_.algorithm) if hash_ else 0
    head = COMMAND.pack(number, size_bytes | algorithm << _ALGORITHM_SHIFT, return_pipe, digest, len(description))
    return head + description


class Quota:
    """Least recently used objects leave the cache when it grows beyond `limit_bytes`; half of it stays."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.cleanups = 0
        self._entries: OrderedDict[str, int] = OrderedDict()
        self._pinned: set[str] = set()
        self._reader, self._writer = os.pipe()
        self._thread: threading.Thread | None = None

    @property
    def max_object_bytes(self) -> int:
        """The largest object the cache takes."""
        return self.limit_bytes // 2

    def start(self) -> None:
        """Take stock of the cache in the working directory and start the thread."""
        self._rebuild()
        self._thread = start_thread(self._run)

    def stop(self) -> None:
        """End the thread; the client's ends on a command of one byte, too."""
        if self._thread is not None:
            os.write(self._writer, b"\0")
            self._thread.join(timeout=5)

    def touch(self, hash_: Hash) -> None:
        """Make an object the most recently used one: 48 bytes on the pipe."""
        os.write(self._writer, command(TOUCH, hash_))

    def insert(self, hash_: Hash, size_bytes: int, description: str) -> None:
        """Tell of a new object: the command and its description in one write."""
        os.write(self._writer, command(INSERT, hash_, size_bytes, text=description))

    def pin(self, hash_: Hash, size_bytes: int, description: str) -> None:
        """Tell of an object that must stay while the repository is mounted."""
        os.write(self._writer, command(PIN, hash_, size_bytes, text=description))

    def cleanup(self, leave_bytes: int) -> bool:
        """Evict until at most `leave_bytes` are used; return whether that was reached."""
        reader, writer = os.pipe()
        try:
            os.write(self._writer, command(CLEANUP, None, leave_bytes, writer))
            return os.read(reader, 1) == b"\1"
        finally:
            os.close(reader)
            os.close(writer)

    def _run(self) -> None:
        while True:
            head = _read_exactly(self._reader, COMMAND.size)
            if len(head) < COMMAND.size:
                return
            number, sized, return_pipe, digest, length = COMMAND.unpack(head)
            if length:
                _read_exactly(self._reader, length)
            size = sized & (1 << _ALGORITHM_SHIFT) - 1
            key = Hash(digest.hex(), ALGORITHMS[sized >> _ALGORITHM_SHIFT]).path
            self._obey(number, key, size, return_pipe)

    def _obey(self, number: int, key: str, size: int, return_pipe: int) -> None:
        if number == TOUCH:
            if key in self._entries:
                self._entries.move_to_end(key)
        elif number in (INSERT, PIN):
            if self.used_bytes + size > self.limit_bytes:
                self._evict(self.limit_bytes // 2)
            self.used_bytes += size - self._entries.pop(key, 0)
            self._entries[key] = size
            if number == PIN:
                self._pinned.add(key)
        elif number == CLEANUP:
            reached = self._evict(size)
            os.write(return_pipe, b"\1" if reached else b"\0")

    def _evict(self, leave_bytes: int) -> bool:
        self.cleanups += 1
        for key in [key for key in self._entries if key not in self._pinned]:
            if self.used_bytes <= leave_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                Path(key).unlink()
            self.used_bytes -= self._entries.pop(key)
        return self.used_bytes <= leave_bytes

    def _rebuild(self) -> None:
        for _, key, size in sorted(_objects_on_disk()):
            self._entries[key] = size
            self.used_bytes += size
        if self.used_bytes > self.limit_bytes:
            self._evict(self.limit_bytes // 2)


def _objects_on_disk() -> Iterator[tuple[int, str, int]]:
    for number in range(256):
        folder = f"{number:02x}"
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat()
                yield status.st_mtime_ns, f"{folder}/{entry.name}", status.st_size


def _read_exactly(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    while 1 < len(data) < size:
        data += os.read(fd, size - len(data))
    return data
