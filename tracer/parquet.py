"""The finished form of a trace: its blocks turned into Parquet, and Parquet turned back into records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, TEXT
from cvtrace.tracer.arrow import pa, pc, pq
from cvtrace.tracer.blocks import BlockSource
from cvtrace.tracer.pages import MOST_METADATA_BYTES, check
from cvtrace.tracer.sorted_groups import SortedGroups

ROWS_PER_GROUP: Final = 1 << 20
ROWS_PER_TEXT_GROUP: Final = 1 << 17
"""512 bytes each while they are converted."""

DELTAS: Final = ("ts", "dur")
"""Times of neighbours differ by little: delta coding, then zstd."""

EVENT_SCHEMA: Final = pa.schema([(name, pa.from_numpy_dtype(EVENT[name])) for name in EVENT.names or ()])
TEXT_SCHEMA: Final = pa.schema(
    [
        ("ts", pa.uint64()),
        ("tid", pa.uint32()),
        ("kind", pa.uint16()),
        ("size", pa.uint16()),
        ("text", pa.binary()),
    ]
)

IN_THIS_THREAD: Final = {"use_threads": False}
"""For reading without threads of pyarrow, together with `pre_buffer=False`. Such a thread waits for the interpreter's lock to release what it
read from a Python file. If the process ends meanwhile, it aborts: "terminate called without an active exception"
(https://github.com/apache/arrow/issues/34314)."""

RAISED: Final = (pa.ArrowException, LookupError, ArithmeticError, RuntimeError, AttributeError)
"""What pyarrow raises for damaged files, besides OSErrors and ValueErrors."""

Progress = Callable[[int, int], None]
"""Called with the number of records converted and their total."""


def write_events(source: BlockSource, target: BinaryIO, since_ns: int | None, progress: Progress | None = None) -> int:
    """Write event blocks as Parquet, sorted by (ts, kind, tid), from `since_ns` on; returns the number of events."""
    groups = SortedGroups(source, EVENT, ROWS_PER_GROUP, since_ns)
    return _convert(groups, target, EVENT_SCHEMA, ROWS_PER_GROUP, progress)


def write_texts(source: BlockSource, target: BinaryIO, since_ns: int | None) -> int:
    """Write text blocks as Parquet, sorted by (ts, kind, tid), from `since_ns` on; returns the number of texts."""
    groups = SortedGroups(source, TEXT, ROWS_PER_TEXT_GROUP, since_ns)
    return _convert(groups, target, TEXT_SCHEMA, ROWS_PER_TEXT_GROUP, None)


def _convert(groups: SortedGroups, target: BinaryIO, schema: Any, rows: int, progress: Progress | None) -> int:
    with pq.ParquetWriter(
        target,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in schema.names if name not in DELTAS],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in DELTAS if name in schema.names},
        write_page_checksum=True,
    ) as writer:
        written = 0
        for group in groups:
            arrays = [pa.array(_column(group, name), type=schema.field(name).type) for name in schema.names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=rows)
            written += len(group)
            if progress is not None:
                progress(written, groups.total)
    return written


def _column(records: npt.NDArray[np.void], name: str) -> Any:
    column = np.ascontiguousarray(records[name])
    return column.astype(object) if column.dtype.kind == "S" else column


class TraceFile:
    """A Parquet file of a trace, opened and looked over, not yet read. Close it with `with`."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], schema: Any) -> None:
        """Take the file over. Raises OSError, or ValueError if it is not such a file or claims to be larger than is read."""
        self._dtype, self._schema = dtype, schema
        self._file = file
        try:
            self._parquet, self.rows = _opened(file, schema)
        except BaseException:
            file.close()
            raise
        self.size = os.fstat(file.fileno()).st_size

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()
        self._file.close()

    def parts(self, rows: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Return the columns of its records, so many rows at a time at most, a group in memory. Raises OSError or ValueError."""
        rows_read = 0
        try:
            for number in range(self._parquet.num_row_groups):
                table = self._parquet.read_row_group(number, self._schema.names, **IN_THIS_THREAD)
                columns = {name: _numbers(table.column(name), self._schema.field(name)) for name in self._schema.names}
                for first in range(0, table.num_rows, rows):
                    yield {name: column[first : first + rows] for name, column in columns.items()}
                rows_read += table.num_rows
        except RAISED as error:
            raise ValueError(str(error)) from error
        if rows_read != self.rows:
            raise ValueError("rows are missing")

    def read(self) -> npt.NDArray[np.void]:
        """Return its records. Raises OSError or ValueError."""
        records = np.empty(self.rows, dtype=self._dtype)
        rows_read = 0
        try:
            for number in range(self._parquet.num_row_groups):  # one at a time: a long trace is in memory once
                rows_read = _fill(
                    records,
                    rows_read,
                    self._parquet.read_row_group(number, self._schema.names, **IN_THIS_THREAD),
                    self._schema,
                    self._dtype,
                )
        except RAISED as error:
            raise ValueError(str(error)) from error
        if rows_read != len(records):
            raise ValueError("rows are missing")
        return records


def events_file(file: BinaryIO) -> TraceFile:
    """Look over events.parquet."""
    return TraceFile(file, EVENT, EVENT_SCHEMA)


def texts_file(file: BinaryIO) -> TraceFile:
    """Look over texts.parquet."""
    return TraceFile(file, TEXT, TEXT_SCHEMA)


def _opened(file: BinaryIO, schema: Any) -> tuple[Any, int]:
    """Return a Parquet file and its number of rows, looked over, not yet read."""
    rows = check(file, schema.names)
    words = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_string(field.type)]
    try:
        # As a dictionary, a text that is there a million times is unpacked once.
        opened = pq.ParquetFile(
            file,
            page_checksum_verification=True,
            pre_buffer=False,
            read_dictionary=words,
            thrift_string_size_limit=MOST_METADATA_BYTES,
            thrift_container_size_limit=MOST_METADATA_BYTES,
        )
        if not set(schema.names) <= set(opened.schema_arrow.names):
            raise ValueError("columns are missing")
    except RAISED as error:
        raise ValueError(str(error)) from error
    return opened, rows


def _fill(records: npt.NDArray[np.void], first: int, table: Any, schema: Any, dtype: np.dtype[Any]) -> int:
    """Copy a part of the table to its place among the records; return where the next one goes."""
    for name in schema.names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = _unpacked(column, dtype[name].itemsize)
        if column.type != schema.field(name).type:
            raise ValueError(f"column {name} is {column.type}")
        records[name][first : first + table.num_rows] = column.to_numpy()
    return first + int(table.num_rows)


def _numbers(column: Any, field: Any) -> npt.NDArray[Any]:
    if column.type != field.type:
        raise ValueError(f"column {field.name} is {column.type}")
    numbers: npt.NDArray[Any] = column.to_numpy()
    return numbers


def _unpacked(column: Any, longest: int) -> Any:
    """Return a column of texts as such. Raises ValueError if one is longer than is recorded."""
    for chunk in column.chunks:
        if (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) > longest:
            raise ValueError("a text is longer than is recorded")
    return column.cast(column.type.value_type)


def read_words(file: BinaryIO, schema: Any, longest: int) -> Any:
    """Return another Parquet file of a trace as a table. Raises OSError, or ValueError if it is not one or too large."""
    opened, rows = _opened(file, schema)
    if rows > MOST_WORD_ROWS:
        raise ValueError("it has more rows than are read")
    try:
        table = opened.read(schema.names, **IN_THIS_THREAD)
    except RAISED as error:
        raise ValueError(str(error)) from error
    columns = [
        _unpacked(column, longest) if pa.types.is_dictionary(column.type) else column for column in table.columns
    ]
    return pa.table(columns, schema=schema)


MOST_WORD_ROWS: Final = 20_000_000
"""onnxruntime keeps a million events of each of the few profiles."""
