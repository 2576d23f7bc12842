"""Wraps a function or method of the user's own (`--phases FILE`), whatever kind it is.

Runs in any Python from 3.9 on and imports nothing of cvtrace. It is loaded when a module of which functions were named is imported.
"""

from __future__ import annotations

from _thread import get_native_id
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

COROUTINE = 0x80
"""CO_COROUTINE of inspect, which is slow to import."""
OWN_DECODE = 102
"""A call of this function makes a token."""


def wrap_own(original: Any, index: int, marks: Any) -> Any:
    """Return what stands in for a function, class method, static method or coroutine: each call marks `index`."""
    if isinstance(original, (classmethod, staticmethod)):
        return type(original)(wrap_own(original.__func__, index, marks))
    return _wrapped(original, index, marks)


def _wrapped(original: Callable[..., Any], index: int, marks: Any) -> Callable[..., Any]:
    from functools import update_wrapper

    def done(begin: int, failed: bool) -> None:
        marks.mark(index, begin, monotonic_ns(), failed, get_native_id(), int(index == OWN_DECODE))

    def call(*args: Any, **kwargs: Any) -> Any:
        marks.before(index)
        begin, failed = monotonic_ns(), True
        try:
            result = original(*args, **kwargs)
            failed = False
            return result
        finally:
            done(begin, failed)

    async def call_later(*args: Any, **kwargs: Any) -> Any:
        marks.before(index)
        begin, failed = monotonic_ns(), True
        try:
            result = await original(*args, **kwargs)
            failed = False
            return result
        finally:
            done(begin, failed)

    flags = getattr(getattr(original, "__code__", None), "co_flags", 0)
    return update_wrapper(call_later if flags & COROUTINE else call, original)
