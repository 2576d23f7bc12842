"""Blocks of records in an append-only file: what survives kill -9 of the recorder.

A block is a 32-byte header and `count` records of `itemsize` bytes; `crc` (CRC-32) covers the records.
Header and records are multiples of 8 bytes, so that a whole file can be seen as words.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

VERSION: Final = 1
MAGIC: Final = b"cvtrace\x01"
BLOCK: Final = np.dtype(
    [
        ("magic", "V8"),
        ("version", "<u2"),
        ("itemsize", "<u2"),
        ("count", "<u4"),
        ("crc", "<u4"),
        ("pad", "V12"),
    ]
)
assert BLOCK.itemsize == 32

IOV_MAX: Final = os.sysconf("SC_IOV_MAX")


class BlockFile:
    """Appends blocks to a file that is its alone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0
        self.last: tuple[int, int] | None = None
        """Offset and number of records of the last block."""

    def append(self, parts: Sequence[npt.NDArray[np.void]]) -> None:
        """Append the records of `parts` (at least one, of one dtype) as one block, with one write.

        Raises OSError, leaving the file as it was before.
        """
        datas = [np.ascontiguousarray(part).view(np.uint8).data for part in parts if len(part)]
        count, crc = sum(len(part) for part in parts), 0
        for data in datas:
            crc = zlib.crc32(data, crc)
        header = np.zeros((), dtype=BLOCK)
        header["magic"] = MAGIC
        header["version"] = VERSION
        header["itemsize"] = parts[0].dtype.itemsize
        header["count"] = count
        header["crc"] = crc
        length = BLOCK.itemsize + sum(len(data) for data in datas)
        if len(datas) >= IOV_MAX:
            datas = [memoryview(b"".join(datas))]
        try:
            written = os.pwritev(self.fd, [header.tobytes(), *datas], self.size)
            while written < length:  # a full disk takes a part and says so only at the next write
                rest = memoryview(header.tobytes() + b"".join(datas))[written:]
                written += os.pwrite(self.fd, rest, self.size + written)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.last = (self.size, count)
        self.size += length

    def drop_last(self) -> int:
        """Give up the last block, for room on a full disk; returns its number of records."""
        if self.last is None:
            return 0
        (self.size, count), self.last = self.last, None
        os.ftruncate(self.fd, self.size)
        return count


@dataclass(frozen=True)
class Blocks:
    """The good blocks of a file: `offsets` of their first records in bytes, `counts` of their records."""

    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    damage: str | None
    """None if the file ends with its last block, otherwise what stands there instead."""


def scan(data: memoryview | bytes, dtype: np.dtype[Any]) -> Blocks:
    """Find the blocks of `data` up to the first bad one."""
    offsets: list[int] = []
    counts: list[int] = []
    position, damage = 0, None
    while position < len(data):
        count, damage = _check(data, position, dtype)
        if damage is not None:
            break
        offsets.append(position + BLOCK.itemsize)
        counts.append(count)
        position += BLOCK.itemsize + count * dtype.itemsize
    return Blocks(np.array(offsets, dtype=np.int64), np.array(counts, dtype=np.int64), damage)


def _check(data: memoryview | bytes, position: int, dtype: np.dtype[Any]) -> tuple[int, str | None]:
    if position + BLOCK.itemsize > len(data):
        return 0, "a block is cut short"
    header = np.frombuffer(data, dtype=BLOCK, count=1, offset=position)[0]
    if bytes(header["magic"]) != MAGIC or header["version"] != VERSION or header["itemsize"] != dtype.itemsize:
        return 0, "a block is garbled"
    count = int(header["count"])
    start = position + BLOCK.itemsize
    end = start + count * dtype.itemsize
    if end > len(data):
        return 0, "a block is cut short"
    if zlib.crc32(data[start:end]) != header["crc"]:
        return 0, "a block is garbled"
    return count, None


def records(data: memoryview | bytes, blocks: Blocks, dtype: np.dtype[Any]) -> npt.NDArray[np.void]:
    """Return the records of all blocks, copied, in the order they were written."""
    parts = [
        np.frombuffer(data, dtype=dtype, count=int(count), offset=int(offset))
        for offset, count in zip(blocks.offsets, blocks.counts, strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def word_offsets(blocks: Blocks, dtype: np.dtype[Any]) -> npt.NDArray[np.int64]:
    """Return for every record of the file, in order, at which 8-byte word of the file it begins."""
    total = int(blocks.counts.sum())
    before = np.concatenate([[0], np.cumsum(blocks.counts)[:-1]]) if len(blocks.counts) else np.empty(0, np.int64)
    start = np.repeat(blocks.offsets - before * dtype.itemsize, blocks.counts)
    offsets: npt.NDArray[np.int64] = (start + np.arange(total, dtype=np.int64) * dtype.itemsize) // 8
    return offsets
