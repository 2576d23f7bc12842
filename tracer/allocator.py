"""What the C library keeps of freed memory for later, given back to the system: in a long trace, that is as much as is in use."""

from __future__ import annotations

import ctypes
from typing import Final

LONG: Final = 4_000_000
"""Events of a trace from which on it is worth the time."""


def give_back(events: int) -> None:
    """Give freed memory back after a step of the analysis of so many events; a C library without malloc_trim(3) keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if events >= LONG else None
    if trim is not None:
        trim(0)
