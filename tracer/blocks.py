"""Blocks of records in an append-only file: what survives kill -9 of the recorder.

A block is a 32-byte header and `count` records of `itemsize` bytes; `crc` (CRC-32) covers the records.
Header and records are multiples of 8 bytes, so that a whole file can be seen as words.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Sequence
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
        self.begin = 0
        """Where the first block is: those before it were dropped."""
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
                unwritten = memoryview(header.tobytes() + b"".join(datas))[written:]
                written += os.pwrite(self.fd, unwritten, self.size + written)
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


class BlockSource:
    """A file of blocks that is read by position, never mapped: whoever owns it may cut it short at any moment.

    Reading behind the end of a mapped file is SIGBUS, which ends the process; here it is a CutShort.
    """

    def __init__(self, fd: int, begin: int = 0) -> None:
        """`begin` is where the first block is."""
        self._fd = fd
        self.begin = begin
        self.size = os.fstat(fd).st_size

    @property
    def length(self) -> int:
        """How many bytes of blocks there are."""
        return max(self.size - self.begin, 0)

    def fill(self, target: memoryview, offset: int) -> None:
        """Read as many bytes as `target` has, from `offset` on. Raises CutShort if the file has fewer, or OSError."""
        while len(target):
            size = os.preadv(self._fd, [target], offset)
            if size == 0:
                raise CutShort
            target, offset = target[size:], offset + size


class CutShort(OSError):
    """The file became shorter while it was read."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "a file of the trace was cut short while it was read")


Visit = Callable[[npt.NDArray[np.void]], None]
"""Is shown the records of each good block in turn, in an array that is used again for the next one."""


def scan(source: BlockSource, dtype: np.dtype[Any], visit: Visit | None = None) -> Blocks:
    """Find the blocks of a file up to the first bad one, reading each once."""
    offsets: list[int] = []
    counts: list[int] = []
    buffer = np.empty(0, dtype=dtype)
    position, damage = source.begin, None
    while position < source.size:
        try:
            count, crc = _header(source, position, dtype)
            if count > len(buffer):
                buffer = np.empty(count, dtype=dtype)
            source.fill(_bytes_of(buffer[:count]), position + BLOCK.itemsize)
            _check(buffer[:count], crc)
        except BadBlock as reason:
            damage = str(reason)
            break
        except CutShort:
            damage = CUT
            break
        if visit is not None:
            visit(buffer[:count])
        offsets.append(position + BLOCK.itemsize)
        counts.append(count)
        position += BLOCK.itemsize + count * dtype.itemsize
    return Blocks(np.array(offsets, dtype=np.int64), np.array(counts, dtype=np.int64), damage)


def read_records(source: BlockSource, dtype: np.dtype[Any]) -> tuple[npt.NDArray[np.void], str | None]:
    """Return the records of all good blocks in the order they were written, and what ends them, None for the file's end."""
    records = np.empty(_claimed(source, dtype), dtype=dtype)
    position, filled = source.begin, 0
    while position < source.size:
        try:
            count, crc = _header(source, position, dtype)
            block = records[filled : filled + count]
            if len(block) < count:
                raise BadBlock(CUT)
            source.fill(_bytes_of(block), position + BLOCK.itemsize)
            _check(block, crc)
        except BadBlock as reason:
            return records[:filled], str(reason)
        except CutShort:
            return records[:filled], CUT
        filled += count
        position += BLOCK.itemsize + count * dtype.itemsize
    return records[:filled], None


def read_block(source: BlockSource, position: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[np.void]:
    """Return the records of a block that was good before. Raises OSError, CutShort if it is not any more."""
    records = np.empty(count, dtype=dtype)
    try:
        number, crc = _header(source, position, dtype)
        if number != count:
            raise CutShort
        source.fill(_bytes_of(records), position + BLOCK.itemsize)
        _check(records, crc)
    except BadBlock:
        raise CutShort from None
    return records


CUT: Final = "a block is cut short"


class BadBlock(Exception):
    """What stands there is no block; the message is the damage."""


def _claimed(source: BlockSource, dtype: np.dtype[Any]) -> int:
    """Return how many records the headers tell of that have room in the file."""
    position, total = source.begin, 0
    try:
        while position < source.size:
            count, _ = _header(source, position, dtype)
            total += count
            position += BLOCK.itemsize + count * dtype.itemsize
    except (BadBlock, CutShort):
        return total
    return total


def _header(source: BlockSource, position: int, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return number of records and checksum of the block at a position. Raises BadBlock."""
    header = np.zeros(1, dtype=BLOCK)
    if position + BLOCK.itemsize > source.size:
        raise BadBlock(CUT)
    source.fill(_bytes_of(header), position)
    known = bytes(header["magic"][0]) == MAGIC and header["version"][0] == VERSION
    if not known or header["itemsize"][0] != dtype.itemsize:
        raise BadBlock("a block is garbled")
    count = int(header["count"][0])
    if position + BLOCK.itemsize + count * dtype.itemsize > source.size:
        raise BadBlock(CUT)
    return count, int(header["crc"][0])


def _check(records: npt.NDArray[np.void], crc: int) -> None:
    if zlib.crc32(_bytes_of(records)) != crc:
        raise BadBlock("a block is garbled")


def _bytes_of(records: npt.NDArray[np.void]) -> memoryview:
    return records.view(np.uint8).data.cast("B") if len(records) else memoryview(b"")
