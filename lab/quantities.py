"""Amounts as people write them on a command line: `8MiB`, `20MB/s`, `50ms`."""

from __future__ import annotations

import re
from typing import Final

from cvtrace.lab.errors import LabError

SIZES: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "m": 1000**2,
    "mb": 1000**2,
    "g": 1000**3,
    "gb": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
DURATIONS_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0}

_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]*)\s*", re.IGNORECASE | re.ASCII)


def parse_size_bytes(text: str) -> int:
    """Return the bytes in `text`: MB is 10^6, MiB is 2^20. Raises LabError."""
    return round(_parse(text, SIZES, "a size such as 8MiB or 4000MB"))


def parse_duration_s(text: str) -> float:
    """Return the seconds in `text`, such as 50ms. Raises LabError."""
    return _parse(text, DURATIONS_S, "a duration such as 50ms or 1.5s")


def parse_bandwidth_bytes_per_s(text: str) -> float:
    """Return the bytes per second in `text`, such as 20MB/s (the /s may be missing). Raises LabError."""
    return _parse(text.strip().removesuffix("/s"), SIZES, "a bandwidth such as 20MB/s")


def _parse(text: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    match = _AMOUNT.fullmatch(text)
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise LabError(f"'{text}' is not {expected}")
    return float(match[1]) * factor
