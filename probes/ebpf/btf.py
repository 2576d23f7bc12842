"""Reads where the running kernel keeps the members of its structs, and which arguments its functions take, from BTF.

BTF (Documentation/bpf/btf.rst) is what the kernel tells of its own types: /sys/kernel/btf/vmlinux, and a file for each module, whose
types and names go on counting where those of vmlinux end. A header is followed by a table of types (records of different
length, one after another, numbered from 1) and by the names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys/kernel/btf")
_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_PARAMETER: Final = struct.Struct("<II")
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO = 8, 9, 10, 11, 12, 13
_VAR, _DATASEC, _DECL_TAG, _TYPE_TAG, _ENUM64 = 14, 15, 17, 18, 19
_TAIL: Final = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
"""Bytes after the record of a type."""
_TAIL_EACH: Final = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
"""Bytes after the record for each member, parameter or value."""
_MODIFIERS: Final = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)


class NotInBtf(LookupError):
    """The kernel has no such struct, member or function."""


@dataclass(frozen=True)
class _Type:
    kind: int
    name: int
    count: int
    bitfields: bool
    refers: int
    """Type that is pointed to, modified, or returned; size of a struct."""
    tail: int
    """Where in the data its members or parameters begin."""


class Btf:
    """The types of a kernel or, on top of `base`, of one of its modules. Raises ValueError if `data` is not BTF."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        if len(data) < _HEADER.size:
            raise ValueError("no BTF: too short")
        magic, _, _, header, types, types_len, names, names_len = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("no BTF: wrong magic number")
        self._data = data
        self._base = base
        self._names = data[header + names : header + names + names_len]
        self._first_name: int = base._end_name if base else 0
        self._end_name: int = self._first_name + names_len
        self._first_type: int = base._end_type if base else 1
        self._at: list[int] = []
        self._by_name: dict[int, list[int]] = {}
        self._index(header + types, header + types + types_len)
        self._end_type: int = self._first_type + len(self._at)

    def _index(self, at: int, end: int) -> None:
        """Note where each type is, and which structs and functions have which name."""
        number = self._first_type
        unpack = _TYPE.unpack_from
        while at < end:
            name, info, _ = unpack(self._data, at)
            kind = info >> 24 & 0x1F
            self._at.append(at)
            if kind in (_STRUCT, _FUNC) and name:
                self._by_name.setdefault(name, []).append(number)
            at += _TYPE.size + _TAIL.get(kind, 0) + _TAIL_EACH.get(kind, 0) * (info & 0xFFFF)
            number += 1

    def _type(self, number: int) -> _Type:
        if self._base and number < self._first_type:
            return self._base._type(number)
        name, info, refers = _TYPE.unpack_from(self._data, self._at[number - self._first_type])
        tail = self._at[number - self._first_type] + _TYPE.size
        return _Type(info >> 24 & 0x1F, name, info & 0xFFFF, bool(info >> 31), refers, tail)

    def _owner(self, number: int) -> Btf:
        return self._base._owner(number) if self._base and number < self._first_type else self

    def _name(self, offset: int) -> bytes:
        if self._base and offset < self._first_name:
            return self._base._name(offset)
        start = offset - self._first_name
        return self._names[start : self._names.index(b"\0", start)]

    def _name_offset(self, name: str) -> int | None:
        """Return where `name` is among the names of this file: each is there once."""
        place = (b"\0" + self._names).find(b"\0" + name.encode() + b"\0")
        return None if place < 0 else self._first_name + place

    def _named(self, name: str, kind: int) -> int:
        """Return the number of the struct or function `name`. Raises NotInBtf."""
        files = [file for file in (self, self._base) if file]
        # A module's type may have a name that is among those of vmlinux.
        names = [offset for file in files if (offset := file._name_offset(name)) is not None]
        for file in files:
            for number in (number for offset in names for number in file._by_name.get(offset, ())):
                if file._type(number).kind == kind:
                    return number
        raise NotInBtf(f"{'struct ' if kind == _STRUCT else ''}{name} is not in the kernel's BTF")

    def _plain(self, number: int) -> int:
        """Return the type behind typedefs, const and volatile."""
        while number and self._type(number).kind in _MODIFIERS:
            number = self._type(number).refers
        return number

    def _members(self, number: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, type and offset in bits of each member."""
        record, data = self._type(number), self._owner(number)._data
        for index in range(record.count):
            name, member, offset = _MEMBER.unpack_from(data, record.tail + index * _MEMBER.size)
            yield self._name(name), member, offset & 0xFFFFFF if record.bitfields else offset

    def _find(self, number: int, name: bytes) -> tuple[int, int] | None:
        """Return type and offset in bits of member `name`, also when it is in a nameless struct or union inside."""
        for label, member, offset in self._members(number):
            if label == name:
                return self._plain(member), offset
            inner = self._plain(member)
            if not label and self._type(inner).kind in (_STRUCT, _UNION):
                inner_offset = self._find(inner, name)
                if inner_offset:
                    return inner_offset[0], offset + inner_offset[1]
        return None

    def offset(self, name: str, path: str) -> int:
        """Return the offset in bytes of a member of struct `name`; `path` may lead into structs inside: "in.h.unique".

        Raises NotInBtf.
        """
        number, bits = self._named(name, _STRUCT), 0
        for part in path.split("."):
            if self._type(number).kind not in (_STRUCT, _UNION):
                raise NotInBtf(f"struct {name} has no member {path}")
            member = self._find(number, part.encode())
            if member is None:
                raise NotInBtf(f"struct {name} has no member {path}")
            number, bits = member[0], bits + member[1]
        return bits // 8

    def parameter(self, function: str, name: str) -> int:
        """Return which argument of `function`, from 1, is a pointer to struct `name`. Raises NotInBtf."""
        signature = self._type(self._named(function, _FUNC)).refers
        record, data = self._type(signature), self._owner(signature)._data
        for index in range(record.count):
            _, number = _PARAMETER.unpack_from(data, record.tail + index * _PARAMETER.size)
            number = self._plain(number)
            if number and self._type(number).kind == _PTR:
                target = self._plain(self._type(number).refers)
                if (
                    target
                    and self._type(target).kind == _STRUCT
                    and self._name(self._type(target).name) == name.encode()
                ):
                    return index + 1
        raise NotInBtf(f"{function} has no argument that points to a struct {name}")

    def returns(self, function: str) -> bool:
        """Return whether `function` returns a value. Raises NotInBtf."""
        signature = self._type(self._named(function, _FUNC)).refers
        return self._type(signature).refers != 0


@lru_cache(maxsize=1)
def _kernel(folder: Path) -> Btf:
    return Btf((folder / "vmlinux").read_bytes())


def forget() -> None:
    """Give back the memory of the types that were loaded last: some 20 MB."""
    _kernel.cache_clear()


def load(module: str, folder: Path = SYSFS) -> Btf:
    """Return the types of the kernel and, if it is a module and tells its own, of `module`. Raises NotInBtf without BTF."""
    try:
        kernel = _kernel(folder)
        file = folder / module
        return Btf(file.read_bytes(), kernel) if module != "vmlinux" and file.is_file() else kernel
    except (OSError, ValueError) as error:
        raise NotInBtf(f"the kernel does not tell its types ({error})") from error
