"""Open chunked files: their state, and reading across their chunks."""

from __future__ import annotations

import bisect
import itertools
import threading

from cvtrace.lab.client.catalog import Chunk, Entry
from cvtrace.lab.client.content import Object
from cvtrace.lab.client.fetch import Fetcher
from cvtrace.lab.client.syscalls import pread_into


class ChunkedFile:
    """An open chunked file: one chunk is open at a time; a chunk is fetched whole by the first read that touches it."""

    def __init__(self, entry: Entry, chunks: list[Chunk]) -> None:
        self._entry = entry
        self._chunks = chunks
        self._starts = [chunk.offset for chunk in chunks]
        self._lock = threading.Lock()
        self._index = -1
        self._fd = -1

    def read(self, fetcher: Fetcher, address: int, size: int, offset: int) -> int:
        """Read into memory; return the bytes read, raises OSError. Readers of one handle take turns, as in the client."""
        copied_bytes = 0
        with self._lock:
            index = bisect.bisect_right(self._starts, offset) - 1
            while copied_bytes < size and index < len(self._chunks):
                chunk = self._chunks[index]
                begin = offset + copied_bytes - chunk.offset
                length = min(size - copied_bytes, chunk.size_bytes - begin)
                if length > 0:
                    self._select(fetcher, index)
                    count = pread_into(self._fd, address + copied_bytes, length, begin)
                    copied_bytes += count
                    if count < length:
                        break
                index += 1
        return copied_bytes

    def _select(self, fetcher: Fetcher, index: int) -> None:
        if self._index == index:
            return
        self.close(fetcher)
        chunk = self._chunks[index]
        self._fd = fetcher.fetch(
            Object(
                chunk.hash,
                f"Part of {self._entry.path}",
                suffix="P",
                size_bytes=chunk.size_bytes,
                compressed=self._entry.compressed,
            )
        )
        self._index = index

    def close(self, fetcher: Fetcher) -> None:
        """Close the chunk that is open, if any."""
        if self._fd >= 0:
            fetcher.close(self._fd)
            self._fd = -1
            self._index = -1


class ChunkedFiles:
    """The open chunked files by handle. Their handles are negative; those of other files are the cache's descriptors."""

    def __init__(self) -> None:
        self._numbers = itertools.count(2)
        self._open: dict[int, ChunkedFile] = {}

    def add(self, file: ChunkedFile) -> int:
        """Register an open file and return its handle."""
        handle = -next(self._numbers)
        self._open[handle] = file
        return handle

    def __getitem__(self, handle: int) -> ChunkedFile:
        return self._open[handle]

    def close(self, handle: int, fetcher: Fetcher) -> None:
        """Close a file."""
        self._open.pop(handle).close(fetcher)
