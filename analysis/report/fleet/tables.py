"""A fleet as JSON, and its tables as Parquet: `cvtrace fleet` reads them again, beside traces or tables of other sites."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES
from cvtrace.analysis.fleet.fleet import Fleet
from cvtrace.analysis.fleet.part import Part
from cvtrace.analysis.report import tables

Opener = Callable[[str], Any]


def as_json(fleet: Fleet) -> str:
    """Return the contract for scripts: what the report says, and a row for each trace. Fields are added, never renamed."""
    content = {**fleet.report.as_dict(), "traces": fleet.part["nodes"].to_pylist()}
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def write_parquet(part: Part, opener: Opener) -> None:
    """Write every table, also empty ones, so that the folder is complete."""
    for name in FLEET_TABLES:
        table = part[name]
        with opener(f"{name}.parquet") as stream, pq.ParquetWriter(stream, table.schema, compression="zstd") as writer:
            if table.num_rows:  # an empty group of rows has columns that lie nowhere
                writer.write_table(table)


@contextmanager
def folder(path: Path) -> Iterator[Opener]:
    """Write into a folder; see `report.tables.folder`. Raises OSError."""
    with tables.folder(path, "parquet") as opener:
        yield opener
