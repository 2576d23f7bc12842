"""Tensors of a GGUF file (versions 2 and 3, little-endian): metadata, then a list of tensors, then aligned data.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvtrace.analysis.storage.headers.source import LONGEST_NAME, MOST_TENSORS, Source, Unreadable
from cvtrace.analysis.storage.headers.tensor import LARGEST, HeaderTensor, size_of

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
ALIGNMENT_KEY: Final = b"general.alignment"
DEFAULT_ALIGNMENT: Final = 32
WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a metadata value -> its bytes."""
UINT32, STRING, ARRAY = 4, 8, 9
DEEPEST: Final = 4
MOST_DIMS: Final = 8
TYPES: Final = {
    0: ("float32", 1, 4),
    1: ("float16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("int8", 1, 1),
    25: ("int16", 1, 2),
    26: ("int32", 1, 4),
    27: ("int64", 1, 8),
    28: ("float64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bfloat16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
}
"""ggml_type -> name, elements of a block, bytes of a block. Tensors of other types reach to the next one."""


@dataclass(frozen=True)
class _Info:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Cursor:
    """A place in the file that moves on with what is read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.position = 0

    def take(self, length: int) -> bytes:
        content = self.source.bytes_at(self.position, length)
        self.position += length
        return content

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def skip(self, length: int) -> None:
        if length > self.source.size - self.position:
            raise Unreadable("it ends within its header")
        self.position += length

    def text(self) -> bytes:
        """Return the begin of a string, and move behind it."""
        length = self.number(8)
        content = self.source.bytes_at(self.position, min(length, LONGEST_NAME))
        self.skip(length)
        return content


def tensors(source: Source, path: str) -> list[HeaderTensor]:
    """Return the tensors of the file. Raises Unreadable."""
    cursor = _Cursor(source)
    if cursor.take(4) != MAGIC:
        raise Unreadable("it is no GGUF file")
    version = cursor.number(4)
    if version not in VERSIONS:
        raise Unreadable(f"it is GGUF of version {version}")
    count, pairs = cursor.number(8), cursor.number(8)
    if count > MOST_TENSORS:
        raise Unreadable("it has more tensors than are looked at")
    alignment = DEFAULT_ALIGNMENT
    for _ in range(pairs):  # each takes some bytes, of which the file has only so many
        key, kind = cursor.text(), cursor.number(4)
        if key == ALIGNMENT_KEY and kind == UINT32:
            alignment = cursor.number(4)
        else:
            _skip_value(cursor, kind, 0)
    if not 0 < alignment <= LARGEST:
        raise Unreadable("it has an alignment that is none")
    infos = [_info(cursor) for _ in range(count)]
    start = -(-cursor.position // alignment) * alignment
    return _placed(infos, path, start, max(source.size - start, 0))


def _skip_value(cursor: _Cursor, kind: int, depth: int) -> None:
    if kind in WIDTHS:
        cursor.skip(WIDTHS[kind])
    elif kind == STRING:
        cursor.skip(cursor.number(8))
    elif kind == ARRAY and depth < DEEPEST:
        inner, count = cursor.number(4), cursor.number(8)
        if inner in WIDTHS:
            cursor.skip(WIDTHS[inner] * count)
        else:
            for _ in range(count):
                _skip_value(cursor, inner, depth + 1)
    else:
        raise Unreadable("it has a value of an unknown type")


def _info(cursor: _Cursor) -> _Info:
    name = cursor.text().decode("utf-8", "replace")
    rank = cursor.number(4)
    if rank > MOST_DIMS:
        raise Unreadable("it is not made as it should be")
    shape = tuple(cursor.number(8) for _ in range(rank))[::-1]  # ggml names the innermost first
    return _Info(name, shape, cursor.number(4), min(cursor.number(8), LARGEST))


def _placed(infos: list[_Info], path: str, start: int, length: int) -> list[HeaderTensor]:
    ends = sorted({min(info.offset, length) for info in infos} | {length})
    following = dict(zip(ends, ends[1:] + ends[-1:], strict=True))
    tensors = []
    for info in infos:
        name, block, width = TYPES.get(info.kind, (f"type {info.kind}", 0, 0))
        offset = min(info.offset, length)
        size = size_of(info.shape, 8) // block * width if block else following[offset] - offset
        tensors.append(HeaderTensor(info.name, name, info.shape, path, start + offset, min(size, length - offset)))
    return tensors
