"""Tables that an earlier fleet wrote, read again: they come from elsewhere, and are looked over as a trace is."""

import os
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES
from cvtrace.analysis.fleet.part import SCHEMAS, Part, part, skipped
from cvtrace.tracer.pages import MOST_METADATA_BYTES, check
from cvtrace.tracer.parquet import IN_THIS_THREAD, RAISED
from cvtrace.tracer.safe_open import open_folder, open_regular

LARGEST: Final = 2**62
MOST_ROWS: Final = 50_000_000
LONGEST: Final = 1 << 16
"""Bytes of a text."""
MAY_BE_EMPTY: Final = frozenset({"nodes"})
"""Tables in which a cell may be empty: what was not observed."""
AT_LEAST_ONE: Final = ("activity.width_ns", "objects.nodes", "objects.fetches", "files.nodes", "files.fetches")
DAMAGED: Final = (*RAISED, OSError, ValueError, TypeError, MemoryError)
"""What pyarrow raises for damaged files, and what is raised here."""


def read_tables(path: str) -> Part:
    """Return the tables in a folder; of one that cannot be read, why."""
    try:
        folder = open_folder(path)
        try:
            tables = {name: _read(folder, name) for name in FLEET_TABLES}
        finally:
            os.close(folder)
        _check_references(tables)
        return part(
            **{name: {each: table[each].to_pylist() for each in table.column_names} for name, table in tables.items()}
        )
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return skipped(path, f"its tables cannot be read: {reason}")


def _read(folder: int, name: str) -> Any:
    schema = SCHEMAS[name]
    with open_regular(folder, f"{name}.parquet") as file:
        if check(file, schema.names) > MOST_ROWS:
            raise ValueError(f"{name}.parquet has too many rows")
        opened = pq.ParquetFile(
            file,
            pre_buffer=False,
            thrift_string_size_limit=MOST_METADATA_BYTES,
            thrift_container_size_limit=MOST_METADATA_BYTES,
        )
        missing = [field.name for field in schema if field.name not in opened.schema_arrow.names]
        if missing:
            raise ValueError(f"{name}.parquet has no column {missing[0]}")
        table = opened.read(schema.names, **IN_THIS_THREAD).select(schema.names).cast(schema)
    for field in schema:
        _check_column(f"{name}.{field.name}", table[field.name], may_be_empty=name in MAY_BE_EMPTY)
    return table


def _check_column(name: str, column: Any, *, may_be_empty: bool) -> None:
    """Raise ValueError if a value is none that an analysis gives."""
    if column.null_count and (not may_be_empty or name == "nodes.trace"):
        raise ValueError(f"{name} has empty cells")
    if pa.types.is_string(column.type):
        if (pc.max(pc.binary_length(column)).as_py() or 0) > LONGEST:
            raise ValueError(f"{name} has a text that is too long")
    elif pa.types.is_integer(column.type):
        bounds = pc.min_max(column).as_py()
        low, high = (0 if each is None else each for each in (bounds["min"], bounds["max"]))
        if low < -LARGEST or high > LARGEST:
            raise ValueError(f"{name} has a number that is too large")
        if name.endswith(AT_LEAST_ONE) and len(column) and low < 1:
            raise ValueError(f"{name} has a number that is less than 1")
    elif pa.types.is_floating(column.type):
        values = np.array([0.0 if each is None else each for each in column.to_pylist()], dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has a cell that is not a number")


def _check_references(tables: dict[str, Any]) -> None:
    """Raise ValueError if a row is of a trace that is not among the nodes."""
    known = pc.unique(tables["nodes"]["trace"])
    for name in ("classes", "activity"):
        if not pc.all(pc.is_in(tables[name]["trace"], value_set=known)).as_py() and tables[name].num_rows:
            raise ValueError(f"{name} has rows of traces that are not among the nodes")
