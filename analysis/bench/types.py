"""Whether what was read from a file has the types that the dataclasses declare: a folder may come from anybody."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_types(value: object, hint: Any, name: str = "") -> None:
    """Raise TypeError, which names the first field that has another type; an int does for a float, infinity for nothing."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        _check_union(value, get_args(hint), name)
    elif origin is tuple:
        _check_tuple(value, get_args(hint), name)
    elif origin is dict:
        if not isinstance(value, dict):
            raise _wrong(name)
        for key, each in value.items():
            check_types(key, get_args(hint)[0], name)
            check_types(each, get_args(hint)[1], f"{name}.{key}")
    elif is_dataclass(hint):
        if not isinstance(value, hint if isinstance(hint, type) else type(hint)):
            raise _wrong(name)
        hints = _hints(type(value))
        for field in fields(hint):
            check_types(getattr(value, field.name), hints[field.name], f"{name}.{field.name}" if name else field.name)
    elif not _is_plain(value, hint):
        raise _wrong(name)


@cache
def _hints(dataclass: Any) -> dict[str, Any]:
    return get_type_hints(dataclass)


def _check_union(value: object, hints: tuple[Any, ...], name: str) -> None:
    if value is None and NoneType in hints:
        return
    (other,) = (hint for hint in hints if hint is not NoneType)
    check_types(value, other, name)


def _check_tuple(value: object, hints: tuple[Any, ...], name: str) -> None:
    if not isinstance(value, tuple):
        raise _wrong(name)
    of_each = [hints[0]] * len(value) if hints[-1] is Ellipsis else list(hints)
    if len(value) != len(of_each):
        raise _wrong(name)
    for number, (each, hint) in enumerate(zip(value, of_each, strict=True)):
        check_types(each, hint, f"{name}[{number}]")


def _is_plain(value: object, hint: type) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isinf(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _wrong(name: str) -> TypeError:
    return TypeError(f"{name} is not what it should be")
