"""Where functions are in an ELF file (elf(5), 64 bits, little-endian), read in a millisecond: a target may be about to call them."""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

_SYMBOL: Final = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_SECTION: Final = np.dtype(
    [("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("addr", "<u8"), ("offset", "<u8"), ("size", "<u8"),
     ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entsize", "<u8")]
)  # fmt: skip
_SEGMENT: Final = np.dtype(
    [("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("vaddr", "<u8"), ("paddr", "<u8"), ("filesz", "<u8"),
     ("memsz", "<u8"), ("align", "<u8")]
)  # fmt: skip
_SYMTAB: Final = 2
_DYNSYM: Final = 11
_NOTE: Final = 7
_LOAD: Final = 1
_FUNCTION: Final = 2
_BUILD_ID: Final = 3


class NotElf(Exception):
    """The file is no ELF file of 64 bits, or is damaged."""


class Elf:
    """An ELF file, mapped. Raises OSError, or NotElf."""

    def __init__(self, path: str) -> None:
        with Path(path).open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise NotElf(f"{path} is empty") from error
        try:
            if self._map[:6] != b"\x7fELF\2\1":
                raise NotElf(f"{path} is no ELF file of 64 bits")
            segments, sections = struct.unpack_from("<QQ", self._map, 32)
            count_segments, _, count_sections = struct.unpack_from("<HHH", self._map, 56)
            self._segments = np.frombuffer(self._map, _SEGMENT, count_segments, segments).copy()
            self._sections = np.frombuffer(self._map, _SECTION, count_sections, sections).copy()
        except (ValueError, OverflowError, struct.error) as error:
            raise NotElf(f"{path} is damaged: {error}") from error

    def functions(self, names: Iterable[str]) -> dict[str, int]:
        """Return the offset in the file of each function that the symbol tables name, exported or not."""
        wanted, found = list(names), dict[str, int]()
        for kind in (_DYNSYM, _SYMTAB):  # the exported ones first: that table is the smaller one
            for section in self._sections[self._sections["type"] == kind]:
                # In a damaged file there is nothing to attach to.
                with contextlib.suppress(ValueError, IndexError, OverflowError):
                    found |= self._functions_in(section, [name for name in wanted if name not in found])
        return found

    def _functions_in(self, section: np.void, names: list[str]) -> dict[str, int]:
        strings = self._sections[section["link"]]
        text = self._map[int(strings["offset"]) : int(strings["offset"]) + int(strings["size"])]
        at = {place: name for name in names for place in _places(text, name.encode() + b"\0")}
        count = int(section["size"]) // _SYMBOL.itemsize
        symbols = np.frombuffer(self._map, _SYMBOL, count, int(section["offset"]))
        chosen = np.isin(symbols["name"], list(at)) & (symbols["info"] & 0xF == _FUNCTION) & (symbols["shndx"] != 0)
        return {at[int(symbol["name"])]: self._offset(int(symbol["value"])) for symbol in symbols[chosen].copy()}

    def _offset(self, address: int) -> int:
        loaded = self._segments[self._segments["type"] == _LOAD]
        inside = loaded[(loaded["vaddr"] <= address) & (address < loaded["vaddr"] + loaded["filesz"])]
        return address - int(inside["vaddr"][0]) + int(inside["offset"][0])

    def build_id(self) -> str | None:
        """Return the build id in hexadecimal, None if the file has none."""
        for section in self._sections[self._sections["type"] == _NOTE]:
            start = int(section["offset"])
            note = self._map[start : start + int(section["size"])]
            if len(note) >= 16:
                name_size, size, kind = struct.unpack_from("<III", note)
                if kind == _BUILD_ID and note[12:15] == b"GNU":
                    begin = 12 + (name_size + 3) // 4 * 4
                    return note[begin : begin + size].hex()
        return None


def _places(text: bytes, string: bytes) -> Iterator[int]:
    """Yield where a string is, also as the tail of a longer one: linkers merge them."""
    place = text.find(string)
    while place >= 0:
        yield place
        place = text.find(string, place + 1)
