"""Drains a BPF ring buffer in bulk: maps it, finds the finished records with numpy, copies the block, moves the reader.

Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer position (writable), page 1 the producer position, then follow the
data pages, mapped twice in a row so that a block which wraps around is contiguous. Each record begins with a header of 8
bytes: u32 length with two flags, u32 page offset. All records of a ring have the same size here, so that it is a table.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

_BUSY: Final = np.uint32(1 << 31)
_DISCARDED: Final = np.uint32(1 << 30)


class Ring:
    """One BPF ring buffer of records of `dtype`; `pages` is its size, a power of two."""

    def __init__(self, map_fd: int, pages: int, dtype: np.dtype[np.void]) -> None:
        page = mmap.PAGESIZE
        self._size = pages * page
        self._record = np.dtype([("length", "<u4"), ("page_offset", "<u4"), ("record", dtype)])
        assert self._record.itemsize % 8 == 0
        self._dtype = dtype
        self._consumer_page = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._consumer = ctypes.c_uint64.from_buffer(self._consumer_page)
        self._producer_pages = mmap.mmap(map_fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._producer = np.frombuffer(self._producer_pages, dtype="<u8", count=1)
        self._data = np.frombuffer(self._producer_pages, dtype="u1", offset=page)

    def drain(self) -> npt.NDArray[np.void]:
        """Return a copy of all finished records and give their room back to the kernel."""
        consumed = self._consumer.value
        available = int(self._producer[0]) - consumed
        count = available // self._record.itemsize
        if count == 0:
            return np.empty(0, dtype=self._dtype)
        start = consumed % self._size
        block = self._data[start : start + count * self._record.itemsize].view(self._record)
        busy = (block["length"] & _BUSY) != 0
        if busy.any():
            block = block[: int(np.argmax(busy))]
        discarded = (block["length"] & _DISCARDED) != 0
        records: npt.NDArray[np.void] = (block[~discarded] if discarded.any() else block)["record"].copy()
        self._consumer.value = consumed + len(block) * self._record.itemsize
        return records

    def close(self) -> None:
        """Unmap."""
        del self._consumer, self._producer, self._data
        self._consumer_page.close()
        self._producer_pages.close()
