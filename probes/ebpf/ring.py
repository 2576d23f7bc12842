"""Drains a BPF ring buffer in bulk: maps it, finds the finished records with numpy, copies the block, moves the reader.

Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer position (writable), page 1 the producer position, then follow the
data pages. The kernel offers them twice in a row, so that what wraps around is contiguous; they are mapped once here, as each
mapping counts as memory of the recorder, and the block that wraps is put together. Each record begins with a header of 8 bytes:
u32 length with two flags, u32 page offset. All records of a ring have the same size here, so that it is a table.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

_WORD: Final = 8
_BUSY: Final = np.uint64(1 << 31)
_DISCARDED: Final = np.uint64(1 << 30)


def record_bytes(dtype: np.dtype[np.void]) -> int:
    """Return the bytes that a record takes in a ring."""
    return _WORD + dtype.itemsize


class Ring:
    """One BPF ring buffer of records of `dtype`; `pages` is its size, a power of two."""

    def __init__(self, map_fd: int, pages: int, dtype: np.dtype[np.void]) -> None:
        page = mmap.PAGESIZE
        self._size = pages * page
        self._dtype = dtype
        self._record_bytes = record_bytes(dtype)
        assert self._record_bytes % _WORD == 0
        self._consumer_page = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._consumer = ctypes.c_uint64.from_buffer(self._consumer_page)
        self._producer_pages = mmap.mmap(map_fd, page + self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._producer = np.frombuffer(self._producer_pages, dtype="<u8", count=1)
        self._data = np.frombuffer(self._producer_pages, dtype="u1", offset=page)

    def drain(self) -> npt.NDArray[np.void]:
        """Return a copy of all finished records and give their room back to the kernel."""
        consumed = self._consumer.value
        available = int(self._producer[0]) - consumed
        count = available // self._record_bytes
        if count == 0:
            return np.empty(0, dtype=self._dtype)
        start = consumed % self._size
        # As words, not as records: numpy copies a table of words five times faster than one of records with fields.
        words = self._block(start, count * self._record_bytes).view("<u8").reshape(count, -1)
        busy = (words[:, 0] & _BUSY) != 0
        if busy.any():
            words = words[: int(np.argmax(busy))]
        discarded = (words[:, 0] & _DISCARDED) != 0
        payloads = words[~discarded, 1:] if discarded.any() else words[:, 1:]
        records: npt.NDArray[np.void] = payloads.copy().reshape(-1).view(self._dtype)
        self._consumer.value = consumed + len(words) * self._record_bytes
        return records

    def _block(self, start: int, size: int) -> npt.NDArray[np.uint8]:
        beyond = start + size - self._size
        if beyond <= 0:
            return self._data[start : start + size]
        return np.concatenate([self._data[start:], self._data[:beyond]])

    def close(self) -> None:
        """Unmap."""
        del self._consumer, self._producer, self._data
        self._consumer_page.close()
        self._producer_pages.close()
