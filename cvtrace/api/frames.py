"""From a table of the analysis to a DataFrame: the types of the columns depend on their units alone, never on what a run contains."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cvtrace.analysis.contract.columns import Column
from cvtrace.analysis.contract.frame_columns import PER_EVENT

DTYPES: Final = {
    "s": "float64",
    "x": "float64",
    "ns": "Int64",
    "bytes": "Int64",
    "n": "Int64",
    "index": "Int64",
    "text": "string",
    "yes/no": "boolean",
}
"""Unit of a column -> its type. A float64 that was not observed is NaN, any other value pd.NA."""
NUMBERED: Final = "category"
"""Type of text in the tables that may have a row for each event."""

_MAPPED: Final = {
    pa.int64(): pd.Int64Dtype(),
    pa.string(): pd.StringDtype("pyarrow"),
    pa.bool_(): pd.BooleanDtype(),
}


def dtype_of(table: str, unit: str) -> str:
    """Return the type of a column with this unit in this table."""
    return NUMBERED if unit == "text" and table in PER_EVENT else DTYPES[unit]


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return a table of the analysis as a DataFrame; `attrs["units"]` has the unit of each column."""
    columns = [_distinct(column) if pa.types.is_dictionary(column.type) else column for column in table.columns]
    frame: pd.DataFrame = pa.table(columns, names=table.column_names).to_pandas(types_mapper=_MAPPED.get)
    frame.attrs["units"] = {field.name: field.metadata[b"unit"].decode() for field in table.schema}
    return frame


def rows_as_frame(rows: list[tuple[Any, ...]], columns: dict[str, Column]) -> pd.DataFrame:
    """Return rows as a DataFrame with the types of their units."""
    values = dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(columns, ())
    frame = pd.DataFrame(
        {
            name: pd.Series(list(values[name]), dtype=_MAPPED[pa.string()] if unit == "text" else DTYPES[unit])
            for name, (unit, _) in columns.items()
        }
    )
    frame.attrs["units"] = {name: column.unit for name, column in columns.items()}
    return frame


def columns_as_frame(table: str, columns: dict[str, Column]) -> pd.DataFrame:
    """Return name, type, unit and meaning of each column of a table."""
    rows = [(name, dtype_of(table, unit), unit, meaning) for name, (unit, meaning) in columns.items()]
    return pd.DataFrame(rows, columns=["column", "dtype", "unit", "meaning"], dtype=_MAPPED[pa.string()])


def _distinct(column: Any) -> Any:
    """Return numbered text with each name once, and without the names that do not occur: categories have to be so."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    names = column.dictionary.dictionary_encode()
    place = np.append(names.indices.to_numpy(), -1)
    number = place[column.indices.fill_null(-1).to_numpy()]
    occurs = np.bincount(number[number >= 0], minlength=len(names.dictionary)) > 0
    rank = np.append(np.cumsum(occurs) - 1, -1).astype(np.int32)
    indices = pa.array(rank[number], mask=number < 0)
    return pa.DictionaryArray.from_arrays(indices, names.dictionary.filter(pa.array(occurs)))
