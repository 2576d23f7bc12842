"""The content-addressed cache: a file per object in `./XX/`, filled through `./txn/` and a rename.

All paths are relative: the daemon's working directory is its workspace.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from cvtrace.lab.client.content import Hash, Object
from cvtrace.lab.client.descriptors import Descriptors
from cvtrace.lab.client.quota import Quota
from cvtrace.lab.client.syscalls import make_temporary

BUFFER_BYTES: Final = 4096
"""What is received is written in pieces of this size; the last piece, full or not, is left to the commit."""


class Transaction:
    """A file of the cache in the making."""

    def __init__(self) -> None:
        self.fd, self.path = make_temporary("./txn/fetchXXXXXX")
        self.size_bytes = 0
        self._tail = b""

    def write(self, data: bytes) -> None:
        """Append data; raises OSError (ENOSPC)."""
        self.size_bytes += len(data)
        if self._tail:
            data = self._tail + data
        if len(data) <= BUFFER_BYTES:
            self._tail = data
            return
        fd = self.fd
        blocks_bytes = (len(data) - 1) // BUFFER_BYTES * BUFFER_BYTES
        view = memoryview(data)
        for start in range(0, blocks_bytes, BUFFER_BYTES):
            piece = view[start : start + BUFFER_BYTES]
            count = os.write(fd, piece)
            if count < BUFFER_BYTES:
                _write_all(fd, piece[count:])
        self._tail = data[blocks_bytes:]

    def reset(self) -> None:
        """Discard the written bytes before another attempt."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.size_bytes = 0
        self._tail = b""

    def flush(self) -> None:
        """Write the last piece; raises OSError."""
        if self._tail:
            _write_all(self.fd, memoryview(self._tail))
            self._tail = b""

    def abort(self) -> None:
        """Remove the file."""
        os.close(self.fd)
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()


class Cache:
    """The cache in the working directory."""

    def __init__(self, quota: Quota, descriptors: Descriptors | None = None) -> None:
        self._quota = quota
        self.descriptors = descriptors or Descriptors()
        """Whoever has a descriptor of the cache closes it there."""
        for number in range(256):
            Path(f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        Path("txn").mkdir(mode=0o700, exist_ok=True)
        for left_over in Path("txn").iterdir():
            left_over.unlink()

    def open(self, hash_: Hash) -> int | None:
        """Open an object (a hit, which touches it) and return the descriptor, or return None (a miss)."""
        try:
            fd = self.descriptors.open(hash_, f"./{hash_.path}")
        except FileNotFoundError:
            return None
        self._quota.touch(hash_)
        return fd

    def begin(self, size_bytes: int | None) -> Transaction:
        """Start a transaction; raises OSError, ENOSPC when the object is more than half of the quota."""
        if size_bytes is not None and size_bytes > self._quota.max_object_bytes:
            raise OSError(errno.ENOSPC, "the object is larger than half of the quota")
        return Transaction()

    def commit(self, transaction: Transaction, obj: Object) -> int:
        """Move a complete object to its place and return a descriptor to read it; raises OSError and leaves nothing behind."""
        try:
            transaction.flush()
            if obj.size_bytes is not None and transaction.size_bytes != obj.size_bytes:
                raise OSError(errno.EIO, f"{obj.description} has {transaction.size_bytes} bytes, not {obj.size_bytes}")
            fd = self.descriptors.open(obj.hash, transaction.path)
        except OSError:
            transaction.abort()
            raise
        os.close(transaction.fd)
        try:
            os.rename(transaction.path, f"./{obj.hash.path}")  # noqa: PTH104 - a str path, no object per fetch
        except OSError:
            self.descriptors.close(fd)
            Path(transaction.path).unlink(missing_ok=True)
            raise
        tell = self._quota.pin if obj.pinned else self._quota.insert
        tell(obj.hash, transaction.size_bytes, obj.description)
        return fd


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
