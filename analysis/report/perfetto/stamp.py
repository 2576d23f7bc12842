"""Messages of one shape, made by the million: protobuf serialises one of them, numpy fills the numbers into copies of it.

A number that varies is a varint of fixed width, padded with empty groups of 7 bits as the wire format allows
(https://protobuf.dev/programming-guides/encoding/#varints; Perfetto's own writer pads lengths so), or a fixed64.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.trace.intervals import Ints

Bytes = npt.NDArray[np.uint8]
FIXED64: Final = 0
"""Width of a number that is no varint."""
ID: Final = 4
"""Width of numbers below 2**28: those of tracks and names."""
TIME: Final = 9
"""Width of numbers below 2**63."""


class Message(Protocol):
    """What protobuf calls a message."""

    def SerializeToString(self) -> bytes:
        """Return its bytes."""


class Stamp:
    """The bytes of a message with holes in it: `build` is called with a function that returns what to put into a hole."""

    def __init__(self, build: Callable[[Callable[[str, int], int]], Message]) -> None:
        self._holes: list[tuple[str, int, int]] = []
        marks: list[tuple[str, int, bytes]] = []
        random = np.random.default_rng(1)

        def hole(name: str, width: int) -> int:
            bits = 63 if width == FIXED64 else 7 * width
            value = int(random.integers(1 << (bits - 1), (1 << bits) - 1))
            marks.append((name, width, _plain(value, width)))
            return value

        data = build(hole).SerializeToString()
        self._bytes = np.frombuffer(data, dtype=np.uint8)
        for name, width, mark in marks:
            if data.count(mark) != 1:
                raise ValueError(f"the place of {name} in a message of {len(data)} bytes is not clear")
            self._holes.append((name, width, data.index(mark)))

    def __len__(self) -> int:
        return len(self._bytes)

    def press(self, columns: dict[str, Ints], count: int) -> Bytes:
        """Return `count` messages, shape (count, length); a column for each hole, its values below 128 ** width."""
        messages = np.tile(self._bytes, (count, 1))
        for name, width, place in self._holes:
            values = columns[name]
            if width == FIXED64:
                messages[:, place : place + 8] = values.astype("<u8").view(np.uint8).reshape(count, 8)
                continue
            for group in range(width):
                part = (values >> (7 * group)) & 0x7F
                messages[:, place + group] = part | (0x80 if group < width - 1 else 0)
        return messages


def _plain(value: int, width: int) -> bytes:
    if width == FIXED64:
        return value.to_bytes(8, "little")
    groups = [value >> 7 * group & 0x7F | 0x80 for group in range(width)]
    return bytes([*groups[:-1], groups[-1] & 0x7F])


def interleaved(parts: list[tuple[Ints, Bytes]], count: int) -> Bytes:
    """Put records of several lengths in one order: each part has the places of its records and their bytes, shape (n, length)."""
    if len(parts) == 1:
        return parts[0][1].reshape(-1)
    length = np.zeros(count + 1, dtype=np.int64)
    for places, records in parts:
        length[places + 1] = records.shape[1]
    begin = np.cumsum(length)
    out = np.empty(int(begin[-1]), dtype=np.uint8)
    for places, records in parts:
        out[begin[places][:, None] + np.arange(records.shape[1])] = records
    return out
