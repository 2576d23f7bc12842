"""Names from outside (paths, arguments, phases) as text of a report."""

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Final, TypeVar, cast

from cvtrace.probes.visible import UNSEEN, printable

__all__ = ["UNSEEN", "printable", "shortened", "with_printable_texts"]

NUMBERS: Final = frozenset(
    f"{each}{empty}" for kind in (int, float, bool) for each in (kind.__name__, str(kind)) for empty in ("", " | None")
)
"""How annotations of numbers are written."""


def shortened(name: str, most: int) -> str:
    """Return a printable name of at most `most` characters: the middle left out, since both ends tell something."""
    name = printable(name)
    if len(name) <= most:
        return name
    head = (most - 1) // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


Value = TypeVar("Value")


def with_printable_texts(value: Value) -> Value:
    """Return a report, or a part of one, in which every text is printable: for what a terminal is to show."""
    printable_value: Any = _with_printable_texts(value)
    return cast(Value, printable_value)


def _with_printable_texts(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple | list):
        kind: Any = type(value[0]) if value else int
        return value if _is_plain(kind) else type(value)([_with_printable_texts(each) for each in value])
    if isinstance(value, dict):
        return {_with_printable_texts(name): _with_printable_texts(each) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in fields(value):
            text_value = getattr(value, field.name)
            if (printable_text := _with_printable_texts(text_value)) is not text_value and printable_text != text_value:
                changed[field.name] = printable_text
        return replace(value, **changed) if changed else value
    return value


@cache
def _is_plain(kind: Any) -> bool:
    """Return whether values of a type hold no text: numbers, and rows of nothing but numbers."""
    if kind in (int, float, bool, type(None)):
        return True
    return is_dataclass(kind) and all(str(field.type) in NUMBERS for field in fields(kind))
