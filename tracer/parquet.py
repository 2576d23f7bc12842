"""The finished form of a trace: its blocks turned into Parquet, and Parquet turned back into records."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, TEXT, Events, Texts, sorting
from cvtrace.tracer.arrow import pa, pq
from cvtrace.tracer.blocks import Blocks, scan, word_offsets

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

Progress = Callable[[int, int], None]
"""Called with the number of records converted and their total."""


def write_events(source_fd: int, target: BinaryIO, progress: Progress | None = None) -> int:
    """Write the event blocks of `source_fd` as Parquet, sorted by (ts, kind, tid); returns the number of events."""
    return _convert(source_fd, target, EVENT, EVENT_SCHEMA, ROWS_PER_GROUP, progress)


def write_texts(source_fd: int, target: BinaryIO) -> int:
    """Write the text blocks of `source_fd` as Parquet, sorted by (ts, kind, tid); returns the number of texts."""
    return _convert(source_fd, target, TEXT, TEXT_SCHEMA, ROWS_PER_TEXT_GROUP, None)


def _convert(
    source_fd: int, target: BinaryIO, dtype: np.dtype[Any], schema: Any, rows: int, progress: Progress | None
) -> int:
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
        size = os.fstat(source_fd).st_size
        if size == 0:
            return 0
        with mmap.mmap(source_fd, size, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                return _write_groups(writer, view, scan(view, dtype), dtype, schema, rows, progress)
            finally:
                view.release()


def _write_groups(
    writer: Any,
    view: memoryview,
    blocks: Blocks,
    dtype: np.dtype[Any],
    schema: Any,
    rows: int,
    progress: Progress | None,
) -> int:
    # Only the times and the order of the records are held in memory; the rest is gathered group by group.
    words = np.frombuffer(view, dtype="<u8", count=len(view) // 8)
    offsets = word_offsets(blocks, dtype)
    # ts is the first word of both records.
    offsets = offsets[sorting(words[offsets], lambda places: _records(words, offsets[places], dtype))]
    done = 0
    for group in _groups(offsets, rows):
        records = _records(words, group, dtype)
        arrays = [pa.array(_column(records, name), type=schema.field(name).type) for name in schema.names]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=rows)
        done += len(group)
        if progress is not None:
            progress(done, len(offsets))
    return len(offsets)


def _records(
    words: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64], dtype: np.dtype[Any]
) -> npt.NDArray[np.void]:
    records: npt.NDArray[np.void] = words[offsets[:, None] + np.arange(dtype.itemsize // 8)].view(dtype).reshape(-1)
    return records


def _groups(offsets: npt.NDArray[np.int64], rows: int) -> Iterator[npt.NDArray[np.int64]]:
    for begin in range(0, len(offsets), rows):
        yield offsets[begin : begin + rows]


def _column(records: npt.NDArray[np.void], name: str) -> Any:
    column = np.ascontiguousarray(records[name])
    return column.astype(object) if column.dtype.kind == "S" else column


def read_events(path: Path) -> Events:
    """Read events.parquet. Raises OSError, or ValueError if it is not one."""
    return _read(path, EVENT, EVENT_SCHEMA)


def read_texts(path: Path) -> Texts:
    """Read texts.parquet. Raises OSError, or ValueError if it is not one."""
    return _read(path, TEXT, TEXT_SCHEMA)


def _read(path: Path, dtype: np.dtype[Any], schema: Any) -> npt.NDArray[np.void]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not set(schema.names) <= set(file.schema_arrow.names):
                raise ValueError("columns are missing")
            records = np.empty(file.metadata.num_rows, dtype=dtype)
            done = 0
            for number in range(file.num_row_groups):  # one at a time: a long trace is in memory once
                done = _fill(records, done, file.read_row_group(number, schema.names), schema)
            if done != len(records):
                raise ValueError("rows are missing")
    except pa.ArrowException as error:  # some of them are neither ValueErrors nor OSErrors
        raise ValueError(str(error)) from error
    return records


def _fill(records: npt.NDArray[np.void], first: int, table: Any, schema: Any) -> int:
    """Copy a part of the table to its place among the records; return where the next one goes."""
    for name in schema.names:
        column = table.column(name)
        if column.type != schema.field(name).type:
            raise ValueError(f"column {name} is {column.type}")
        records[name][first : first + table.num_rows] = column.to_numpy()
    return first + int(table.num_rows)
