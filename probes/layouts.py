"""Records that are also laid out in C or packed by hand: the numpy dtype is where a layout is written, the others are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_CODES: Final = {"<u8": "Q", "<i8": "q", "<u4": "I", "<i4": "i", "<u2": "H", "<i2": "h"}
"""Types of fields, and the letters that struct has for them."""
_C_TYPES: Final = {"<u8": "u64", "<i8": "s64", "<u4": "u32", "<i4": "s32", "<u2": "u16", "<i2": "s16"}


def struct_format(record: np.dtype[Any], fields: int | None = None) -> str:
    """Return the format of a record for the struct module, or of its first `fields`."""
    types = [record[name] for name in (record.names or ())[:fields]]
    return "<" + "".join(_CODES.get(each.str) or f"{each.itemsize}s" for each in types)


def c_struct(name: str, record: np.dtype[Any], parts: Mapping[str, np.dtype[Any]]) -> str:
    """Return the declaration of a struct; `parts` are the structs that it may have as members.

    Members are named and ordered as the fields. That they lie where the fields do is true without holes only: a test compiles it.
    """
    lines = [_member(field, record[field], parts) for field in record.names or ()]
    return "\n".join([f"struct {name} {{", *lines, "};"])


def _member(field: str, type_: np.dtype[Any], parts: Mapping[str, np.dtype[Any]]) -> str:
    if type_.names is not None:
        part = next(name for name, each in parts.items() if each == type_)
        return f"  struct {part} {field};"
    if type_.kind == "S":
        return f"  char {field}[{type_.itemsize}];"
    return f"  {_C_TYPES[type_.str]} {field};"
