"""Writes BTF, for tests of what reads it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Member = tuple[str, int, int]


class Writer:
    """Types of a kernel, or with `base` of a module; each method returns the number of the type."""

    def __init__(self, base: Writer | None = None) -> None:
        self._names = bytearray() if base else bytearray(b"\0")
        self._first_name = len(base._names) if base else 0
        self._types: list[bytes] = []
        self._first_type = base._first_type + len(base._types) if base else 1
        self._numbers: dict[str, int] = {}

    def _name(self, name: str) -> int:
        if not name:
            return 0
        offset = (b"\0" + self._names).find(b"\0" + name.encode() + b"\0")
        if offset >= 0:
            return self._first_name + offset
        at = self._first_name + len(self._names)
        self._names += name.encode() + b"\0"
        return at

    def _add(self, kind: int, name: str, value: int, tail: bytes = b"", count: int = 0, flag: int = 0) -> int:
        self._types.append(struct.pack("<III", self._name(name), flag << 31 | kind << 24 | count, value) + tail)
        number = self._first_type + len(self._types) - 1
        self._numbers[name] = number
        return number

    def number(self, name: str) -> int:
        return self._numbers[name]

    def integer(self, name: str, size: int) -> int:
        return self._add(1, name, size, struct.pack("<I", size * 8))

    def pointer(self, target: int) -> int:
        return self._add(2, "", target)

    def typedef(self, name: str, target: int) -> int:
        return self._add(8, name, target)

    def const(self, target: int) -> int:
        return self._add(10, "", target)

    def struct(self, name: str, size: int, members: Sequence[Member], kind: int = 4) -> int:
        """`members`: name, type, offset in bytes."""
        tail = b"".join(struct.pack("<III", self._name(member), number, at * 8) for member, number, at in members)
        return self._add(kind, name, size, tail, len(members))

    def union(self, name: str, size: int, members: Sequence[Member]) -> int:
        return self.struct(name, size, members, kind=5)

    def bitfields(self, name: str, size: int, members: Sequence[tuple[str, int, int, int]]) -> int:
        """`members`: name, type, offset in bits, width in bits."""
        tail = b"".join(
            struct.pack("<III", self._name(member), number, width << 24 | at) for member, number, at, width in members
        )
        return self._add(4, name, size, tail, len(members), flag=1)

    def function(self, name: str, returns: int, arguments: Sequence[int]) -> int:
        tail = b"".join(struct.pack("<II", 0, number) for number in arguments)
        return self._add(12, name, self._add(13, "", returns, tail, len(arguments)))

    def data(self) -> bytes:
        types = b"".join(self._types)
        return (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self._names))
            + types
            + bytes(self._names)
        )
