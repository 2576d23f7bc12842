"""Names from outside (paths, arguments, phases) as text of a report."""

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Final, TypeVar, cast

from cvtrace.probes.visible import UNSEEN, printable

__all__ = ["UNSEEN", "printable", "shortened", "shown"]

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


Shown = TypeVar("Shown")


def shown(value: Shown) -> Shown:
    """Return a report, or a part of one, in which every text is printable: for what a terminal is to show."""
    found: Any = _shown(value)
    return cast(Shown, found)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple | list):
        kind: Any = type(value[0]) if value else int
        return value if _is_plain(kind) else type(value)([_shown(each) for each in value])
    if isinstance(value, dict):
        return {_shown(name): _shown(each) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in fields(value):
            before = getattr(value, field.name)
            if (after := _shown(before)) is not before and after != before:
                changed[field.name] = after
        return replace(value, **changed) if changed else value
    return value


@cache
def _is_plain(kind: Any) -> bool:
    """Tell whether values of a type hold no text: numbers, and rows of nothing but numbers."""
    if kind in (int, float, bool, type(None)):
        return True
    return is_dataclass(kind) and all(str(field.type) in NUMBERS for field in fields(kind))
