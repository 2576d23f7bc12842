"""Tables of some traces of a fleet, and how those of many become one: rows with the same key are added up.

All sums are of whole numbers, so that they are the same to the last digit in whatever order and place they are made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES, FleetColumn
from cvtrace.probes.visible import printable

TYPES: Final = {
    "s": pa.float64(),
    "x": pa.float64(),
    "ns": pa.int64(),
    "bytes": pa.int64(),
    "n": pa.int64(),
    "text": pa.string(),
    "yes/no": pa.bool_(),
}


def schema_of(columns: dict[str, FleetColumn]) -> Any:
    """Return the Arrow schema, which carries unit and meaning of each column."""
    return pa.schema(
        [
            pa.field(name, TYPES[column.unit], metadata={"unit": column.unit, "meaning": column.meaning})
            for name, column in columns.items()
        ]
    )


SCHEMAS: Final = {name: schema_of(columns) for name, columns in FLEET_TABLES.items()}


@dataclass(frozen=True)
class Part:
    """The tables of fleet_columns.FLEET_TABLES, by name, of some traces."""

    tables: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.tables[name]


def part(**rows: dict[str, Any]) -> Part:
    """Return a part with columns for some tables; the others have no row."""
    tables = {}
    for name, schema in SCHEMAS.items():
        values = rows.get(name)
        if values is None:
            tables[name] = schema.empty_table()
            continue
        arrays = [_array(values[field.name], field.type) for field in schema]
        tables[name] = pa.Table.from_arrays(arrays, schema=schema)
    return Part(tables)


def _array(values: Any, kind: Any) -> Any:
    """Return a column; names come from anywhere, and are made printable."""
    if kind == TYPES["text"]:
        values = [None if each is None else printable(each) for each in values]
    return pa.array(values, type=kind)


def skipped(trace: str, reason: str) -> Part:
    """Return the part of a trace that does not count."""
    return part(skipped={"trace": [trace], "reason": [reason]})


def merged(parts: Sequence[Part]) -> Part:
    """Add up the tables of several parts, in any order; rows come out in the order of their keys."""
    return Part({name: _merged(name, [each[name] for each in parts]) for name in FLEET_TABLES})


def _merged(name: str, tables: list[Any]) -> Any:
    schema, columns = SCHEMAS[name], FLEET_TABLES[name]
    table = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    summed = [(name, column.combine) for name, column in columns.items() if column.combine]
    keys = [name for name, column in columns.items() if not column.combine]
    if summed and table.num_rows:
        grouped = table.group_by(keys, use_threads=False).aggregate(summed)
        names = [f"{name}_{how}" for name, how in summed]
        table = pa.Table.from_arrays([grouped[name] for name in [*keys, *names]], names=[*keys, *dict(summed)])
        table = table.select(list(columns)).cast(schema)
    order = [(name, "ascending") for name in (keys if summed else keys[:4])]
    return table.sort_by(order).combine_chunks() if table.num_rows else schema.empty_table()
