"""What the kernel knows of the error of this machine's clock: adjtimex(2), which needs no right to read."""

from __future__ import annotations

import ctypes
from typing import Final

UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC (linux/timex.h)."""
_LONG_FIELDS: Final = ("offset", "freq", "maxerror", "esterror")


class _Timex(ctypes.Structure):
    """struct timex up to `status`, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in _LONG_FIELDS),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def clock_error_ns() -> int | None:
    """Return the largest error that the wall clock may have, in ns; None where nothing (NTP, PTP) keeps it right, or that is not known."""
    answer = _Timex()  # modes 0: nothing is changed
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(answer))
    except (OSError, AttributeError):  # no such function in this C library
        return None
    if state < 0 or answer.status & UNSYNCHRONISED:
        return None
    return int(answer.maxerror) * 1_000
