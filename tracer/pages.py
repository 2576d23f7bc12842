"""The sizes in a Parquet file, checked before anything is unpacked: a small file may claim any size.

Arrow takes the sizes that a file gives for granted: a page of 100 kB may unpack to 2 GB, and a file of 3 MB may hold a hundred
million rows. So the head of every page is read first. It is read here, and the metadata too, as pyarrow's
own way to look at them ends the process for some damaged files. Format: https://parquet.apache.org/docs/file-format/, in the compact
protocol of Thrift.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

FOOTER_BYTES: Final = 8
"""At the end: the length of the metadata, and a magic word."""
MAGIC: Final = b"PAR1"
MOST_METADATA_BYTES: Final = 2 << 20
"""cvtrace writes some 2 kB for each million rows."""
MOST_ROWS_PER_GROUP: Final = 4 << 20
MOST_PAGE_BYTES: Final = 16 << 20
"""cvtrace writes pages of 1 MB."""
MOST_GROUP_BYTES: Final = 1 << 30
HEAD_BYTES: Final = 8 << 10
ROWS_PER_PAGE: Final = 50
"""Pages may be at most so small, on average; writers take 20,000."""
FEWEST_PAGES: Final = 10_000

PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, DELTA, RLE_DICTIONARY = 0, 2, 3, 4, 5, 8
ENCODINGS: Final = frozenset({PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, DELTA, RLE_DICTIONARY})
"""Those in which a value takes no more room unpacked than its page, or is one of a dictionary."""
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 = 5, 7, 8
"""Fields of a PageHeader that say what the page is."""
ENCODING_FIELD: Final = {DATA_PAGE: 2, DICTIONARY_PAGE: 2, DATA_PAGE_2: 4}

NUM_ROWS, ROW_GROUPS = 3, 4
"""Of FileMetaData."""
GROUP_COLUMNS, GROUP_ROWS = 1, 3
CHUNK_METADATA: Final = 3
COLUMN_PATH, COLUMN_PACKED, COLUMN_DATA, COLUMN_DICTIONARY = 3, 7, 9, 11

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(13)
DEEPEST: Final = 16


class TooLarge(ValueError):
    """A file that claims more than is read."""


def check(file: BinaryIO, names: Sequence[str]) -> int:
    """Look at every page of these columns, and return the number of rows.

    Raises ValueError if it is no such Parquet file, TooLarge if something in it would unpack to more than cvtrace writes.
    """
    try:
        metadata = Head(_metadata(file)).struct(0)
        rows, groups = metadata[NUM_ROWS], metadata.get(ROW_GROUPS) or []
        counts = [group[GROUP_ROWS] for group in groups]
        if sum(counts) != rows or min(counts, default=0) < 0:
            raise ValueError("a Parquet file has another number of rows than its metadata says")
        if max(counts, default=0) > MOST_ROWS_PER_GROUP:
            raise TooLarge(f"a group of a Parquet file has {max(counts):,} rows")
        walk = _Walk(file, FEWEST_PAGES + rows // ROWS_PER_PAGE * len(names))
        for group in groups:
            columns = [chunk[CHUNK_METADATA] for chunk in group[GROUP_COLUMNS]]
            checked_columns = [column for column in columns if _name(column) in names]
            unpacked = sum(map(walk.column, checked_columns))
            if unpacked > MOST_GROUP_BYTES:
                raise TooLarge(f"a group of a Parquet file unpacks to {unpacked:,} bytes")
    except (LookupError, TypeError, AttributeError):
        raise ValueError("a Parquet file has no valid metadata") from None
    return int(rows)


def _metadata(file: BinaryIO) -> bytes:
    fd = file.fileno()
    size = os.fstat(fd).st_size
    footer = os.pread(fd, FOOTER_BYTES, max(size - FOOTER_BYTES, 0))
    if len(footer) < FOOTER_BYTES or footer[4:] != MAGIC:
        raise ValueError("a file is cut off, or is no Parquet file")
    length = int.from_bytes(footer[:4], "little")
    if length > size - FOOTER_BYTES:
        raise ValueError("the metadata of a Parquet file is longer than the file")
    if length > MOST_METADATA_BYTES:
        raise TooLarge(f"the metadata of a Parquet file has {length:,} bytes")
    return os.pread(fd, length, size - FOOTER_BYTES - length)


def _name(column: dict[int, Any]) -> str:
    return b".".join(column[COLUMN_PATH]).decode("utf-8", "replace")


class _Walk:
    """Goes from page to page."""

    def __init__(self, file: BinaryIO, most_pages: int) -> None:
        self._fd = file.fileno()
        self._size = os.fstat(self._fd).st_size
        self._remaining = most_pages

    def column(self, column: dict[int, Any]) -> int:
        """Return how many bytes the pages of a column unpack to. Raises ValueError, TooLarge."""
        position = column[COLUMN_DATA]
        if 0 < column.get(COLUMN_DICTIONARY, 0) < position:
            position = column[COLUMN_DICTIONARY]
        end = position + column[COLUMN_PACKED]
        if not 0 < position <= end <= self._size:
            raise ValueError("a column of a Parquet file lies outside of it")
        total = 0
        while position < end:
            head = Head(os.pread(self._fd, min(HEAD_BYTES, end - position), position))
            try:
                fields = head.struct(0)
                unpacked, packed = fields[2], fields[3]
                if not (isinstance(unpacked, int) and isinstance(packed, int) and packed >= 0 and unpacked >= 0):
                    raise ValueError("a page of a Parquet file has no size")
            except (IndexError, KeyError):
                raise ValueError("a page of a Parquet file has no valid header") from None
            self._remaining -= 1
            if self._remaining < 0:
                raise TooLarge("a Parquet file has more pages than its rows need")
            if unpacked > MOST_PAGE_BYTES:
                raise TooLarge(f"a page of a Parquet file unpacks to {unpacked:,} bytes")
            _check_encoding(fields)
            total += unpacked
            position += head.position + packed
        return total


def _check_encoding(fields: dict[int, Any]) -> None:
    for field, inner in ENCODING_FIELD.items():
        if field in fields and (not isinstance(fields[field], dict) or fields[field].get(inner) not in ENCODINGS):
            raise ValueError("a page of a Parquet file is in an encoding that cvtrace does not use")


class Head:
    """A struct of Thrift's compact protocol. Reading behind the end is an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Return the fields by number: numbers, bytes, structs and lists of them."""
        if depth > DEEPEST:
            raise ValueError("a Parquet file has no valid metadata")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != STOP:
            step, kind = head >> 4, head & 0x0F
            number = number + step if step else self._zigzag()
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind in (BYTE, DOUBLE, BINARY):
            length = {BYTE: 1, DOUBLE: 8}.get(kind) or self._varint()
            if length > len(self._data) - self.position:
                raise IndexError
            self.position += length
            return self._data[self.position - length : self.position]
        if kind in (LIST, SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self._data) - self.position:  # each takes a byte at least
                raise IndexError
            inner = BYTE if head & 0x0F in (TRUE, FALSE) else head & 0x0F
            return [self._value(inner, depth + 1) for _ in range(count)]
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError("a page of a Parquet file has no valid header")

    def _byte(self) -> int:
        byte = self._data[self.position]
        self.position += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a Parquet file has an invalid number")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
