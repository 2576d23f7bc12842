"""Where functions are in an ELF file (elf(5), 64 bits, little-endian), read in a millisecond: a target may be about to call them."""

from __future__ import annotations

import contextlib
import lzma
import os
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.plain_file import open_plain

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
_RELOCATION: Final = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])
_RELA: Final = 4
_RELATIVE: Final = 8
"""R_X86_64_RELATIVE."""
_EXECUTABLE: Final = 1
_SYMTAB: Final = 2
_DYNAMIC: Final = 6
_NEEDED, _RPATH, _RUNPATH = 1, 15, 29
_DYNSYM: Final = 11
_TABLES: Final = (_DYNSYM, _SYMTAB)
"""Tables of symbols, the exported ones first: that table is the smaller one."""
_NOTE: Final = 7
_LOAD: Final = 1
_INTERP: Final = 3
_FUNCTION: Final = 2
_BUILD_ID: Final = 3


class NotElf(Exception):
    """The file is no ELF file of 64 bits, or is damaged."""


MOST_BYTES: Final = 1 << 29
"""Read of one file at most; the symbol tables of a debug build of onnxruntime take a tenth of it."""
MOST_OF_A_NAME: Final = 4096
"""How often a name is looked for in a table, and how many libraries a file may need."""
_LARGEST: Final = 1 << 28
"""Bytes of a compressed symbol table that are unpacked at most."""
_PIECE: Final = 1 << 24
_LAST_OFFSET: Final = 2**63 - 1 - MOST_BYTES
_LONGEST_PATH: Final = 4096
_LONGEST_NOTE: Final = 1 << 16
_LONGEST_ID: Final = 64

Places = Callable[[bytes], Iterable[int]]
"""Finds names in a table of strings: where those begin that are wanted."""


@dataclass(frozen=True)
class Dynamic:
    """What a file asks of the dynamic loader: names of libraries, and folders to look for them in."""

    needed: tuple[str, ...]
    folders: tuple[str, ...]
    runpath: bool
    """Whether the folders come after those of LD_LIBRARY_PATH (RUNPATH), not before (RPATH)."""


class Elf:
    """An ELF file, which stays open; or `content`, which came from one. Raises OSError, or NotElf.

    The file may be a stranger's: it can say anything of itself, and become shorter while it is read. What it says is read and
    not mapped, in all no more than MOST_BYTES, and of names and tables no more than any compiler makes.
    """

    def __init__(self, path: str, content: bytes | None = None) -> None:
        self.path = path
        self._content = content
        self._budget = MOST_BYTES
        self._fd = -1
        self._relative: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        if content is None:
            self._fd = open_plain(path)
            weakref.finalize(self, os.close, self._fd)
        try:
            head = self._at(0, 64)
            if head[:6] != b"\x7fELF\2\1":
                raise NotElf(f"{path} is no ELF file of 64 bits")
            segments, sections = struct.unpack_from("<QQ", head, 32)
            count_segments, _, count_sections, self._names = struct.unpack_from("<HHHH", head, 56)
            self._segments = self._table(_SEGMENT, segments, count_segments)
            self._sections = self._table(_SECTION, sections, count_sections)
        except (ValueError, OverflowError, struct.error) as error:
            raise NotElf(f"{path} is damaged: {error}") from error

    def _at(self, offset: int, size: int) -> bytes:
        """Return so many bytes of the file, or what there is of them. Raises NotElf if it would be more than any file needs."""
        self._budget -= size
        if self._budget < 0:
            raise NotElf(f"{self.path} says that its tables are larger than {MOST_BYTES >> 20} MiB")
        if self._content is not None:
            return self._content[offset : offset + size]
        if offset > _LAST_OFFSET:
            return b""
        parts = []
        while size > 0 and (part := os.pread(self._fd, min(size, _PIECE), offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def _table(self, dtype: np.dtype[Any], offset: int, count: int) -> npt.NDArray[np.void]:
        if count == 0:
            return np.zeros(0, dtype)
        return np.frombuffer(self._at(offset, count * dtype.itemsize), dtype, count)

    def interpreter(self) -> str:
        """Return the path of the dynamic loader that the file asks for, "" if it asks for none."""
        for segment in self._segments[self._segments["type"] == _INTERP][:1]:
            path = self._at(int(segment["offset"]), min(int(segment["filesz"]), _LONGEST_PATH))
            return path.rstrip(b"\0").decode(errors="replace")
        return ""

    def functions(self, names: Iterable[str]) -> dict[str, int]:
        """Return the offset in the file of each function that is exported; if none is, of each that the symbol tables name.

        A library that exports some of its functions does not have the others. Its other table may be a hundred times as large.
        """
        symbols = list(names)
        places_of = {number: _exactly(name.encode()) for number, name in enumerate(symbols)}
        addresses = self.addresses(places_of, kinds=(_DYNSYM,)) or self.addresses(places_of, kinds=(_SYMTAB,))
        return {symbols[number]: offset for number, offset in self.offsets(addresses).items()}

    def every_function(self, names: Iterable[str]) -> dict[str, int]:
        """Return the offset in the file of each function that the symbol tables name, exported or not."""
        symbols = list(names)
        addresses = self.addresses({number: _exactly(name.encode()) for number, name in enumerate(symbols)})
        return {symbols[number]: offset for number, offset in self.offsets(addresses).items()}

    def extents(self, names: Iterable[str]) -> dict[int, tuple[int, int]]:
        """Return offset in the file and size in bytes of each function that the symbol tables name, by its place in `names`."""
        places_of = {number: _exactly(name.encode()) for number, name in enumerate(names)}
        sizes: dict[int, int] = {}
        offsets = self.offsets(self.addresses(places_of, sizes))
        return {number: (offset, sizes[number]) for number, offset in offsets.items() if number in sizes}

    def addresses(
        self, places_of: Mapping[int, Places], sizes: dict[int, int] | None = None, kinds: Sequence[int] = _TABLES
    ) -> dict[int, int]:
        """Return the address of a function for each of `places_of` that the symbol tables name; fill in `sizes`, too."""
        addresses = dict[int, int]()
        for kind in kinds:
            for section in self._sections[self._sections["type"] == kind]:
                # In a damaged file there is nothing to attach to.
                with contextlib.suppress(ValueError, IndexError, OverflowError, NotElf):
                    remaining = {number: places for number, places in places_of.items() if number not in addresses}
                    if remaining:
                        addresses |= self._addresses_in(section, remaining, sizes)
        return addresses

    def _addresses_in(
        self, section: np.void, places_of: Mapping[int, Places], sizes: dict[int, int] | None
    ) -> dict[int, int]:
        text = self._content_of(self._sections[section["link"]])
        at = {place: number for number, places in places_of.items() for place in islice(places(text), MOST_OF_A_NAME)}
        symbols = self._table(_SYMBOL, int(section["offset"]), int(section["size"]) // _SYMBOL.itemsize)
        is_match = np.isin(symbols["name"], list(at)) & (symbols["info"] & 0xF == _FUNCTION) & (symbols["shndx"] != 0)
        matches = np.flatnonzero(is_match)[: MOST_OF_A_NAME * len(places_of)]
        if sizes is not None:
            sizes |= {at[int(symbol["name"])]: int(symbol["size"]) for symbol in symbols[matches]}
        return {at[int(symbol["name"])]: int(symbol["value"]) for symbol in symbols[matches]}

    def offsets(self, addresses: Mapping[int, int]) -> dict[int, int]:
        """Return where in the file the code is that is loaded at each of `addresses`; without those that are nowhere."""
        loaded = self._segments[self._segments["type"] == _LOAD]
        offsets = dict[int, int]()
        for number, address in addresses.items():
            inside = loaded[(loaded["vaddr"] <= address) & (address < loaded["vaddr"] + loaded["filesz"])]
            if len(inside):
                offsets[number] = address - int(inside["vaddr"][0]) + int(inside["offset"][0])
        return offsets

    def exported(self, name: str) -> int | None:
        """Return the address of an exported function."""
        return self.addresses({0: _exactly(name.encode())}, kinds=(_DYNSYM,)).get(0)

    def are_code(self, addresses: Sequence[int], count: int = 1) -> bool:
        """Whether so many addresses were given, and something that can be executed is loaded at each of them."""
        code = self._segments[(self._segments["type"] == _LOAD) & (self._segments["flags"] & _EXECUTABLE != 0)]
        begin, size = code["vaddr"].astype(np.int64), code["filesz"].astype(np.int64)
        place = np.array(addresses, dtype=np.int64)[:, None] - begin[None, :]
        return len(addresses) == count and bool(((place >= 0) & (place < size[None, :])).any(axis=1).all())

    def code_at(self, address: int, size: int) -> bytes:
        """Return what the file has for an address, b"" for nothing."""
        offset = self.offsets({0: address}).get(0)
        return b"" if offset is None else self._at(offset, size)

    def pointers(self, address: int, count: int = 1) -> list[int]:
        """Return the pointers from an address on once the file is loaded at 0: by its relocations, or as the file has them."""
        if self._relative is None:
            self._relative = self._relative_relocations()
        offsets, addends = self._relative
        content = self.code_at(address, 8 * count)
        words = np.frombuffer(content[: len(content) & ~7], "<u8").astype(np.int64)
        places = address + 8 * np.arange(len(words))
        at = np.minimum(np.searchsorted(offsets, places), max(len(offsets) - 1, 0))
        if len(offsets):
            words = np.where(offsets[at] == places, addends[at], words)
        return [int(word) for word in words]

    def _relative_relocations(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the addresses that are relocated, sorted, and what each will point to."""
        parts = [np.zeros(0, _RELOCATION)]
        for section in self._sections[self._sections["type"] == _RELA]:
            relocations = np.frombuffer(self._content_of(section), _RELOCATION)
            parts.append(relocations[relocations["info"] == _RELATIVE])
        relative = np.concatenate(parts)
        offsets = relative["offset"].astype(np.int64)
        order = np.argsort(offsets, kind="stable")
        return offsets[order], relative["addend"].astype(np.int64)[order]

    def compressed_symbols(self) -> Elf | None:
        """Return what Fedora and RHEL leave of the symbols in a stripped file: a small ELF file in it, for backtraces."""
        with contextlib.suppress(ValueError, IndexError, OverflowError, lzma.LZMAError, NotElf):
            names = self._content_of(self._sections[self._names])
            for section in self._sections[self._sections["size"] > 0]:
                if names.startswith(b".gnu_debugdata\0", int(section["name"])):
                    unpacking = lzma.LZMADecompressor(memlimit=_LARGEST)
                    return Elf(self.path, unpacking.decompress(self._content_of(section), _LARGEST))
        return None

    def dynamic(self) -> Dynamic:
        """Return what the file asks of the dynamic loader; nothing for one that is linked statically, or damaged."""
        entries_of: dict[int, list[str]] = {tag: [] for tag in (_NEEDED, _RPATH, _RUNPATH)}
        for section in self._sections[self._sections["type"] == _DYNAMIC]:
            with contextlib.suppress(ValueError, IndexError, OverflowError, NotElf):
                names = self._content_of(self._sections[section["link"]])
                entries = np.frombuffer(self._content_of(section), "<u8").reshape(-1, 2)
                for tag, place in entries[np.isin(entries[:, 0], list(entries_of))][:MOST_OF_A_NAME].tolist():
                    entries_of[tag].append(os.fsdecode(names[place : place + _LONGEST_PATH].partition(b"\0")[0]))
        folders = entries_of[_RUNPATH] or entries_of[_RPATH]
        split = tuple(folder for each in folders for folder in each.split(":") if folder)
        return Dynamic(tuple(entries_of[_NEEDED]), split, runpath=bool(entries_of[_RUNPATH]))

    def _content_of(self, section: np.void) -> bytes:
        return self._at(int(section["offset"]), int(section["size"]))

    def build_id(self) -> str | None:
        """Return the build id in hexadecimal, None if the file has none."""
        for section in self._sections[self._sections["type"] == _NOTE]:
            if not 16 <= int(section["size"]) <= _LONGEST_NOTE:
                continue
            note = self._content_of(section)
            if len(note) >= 16:
                name_size, size, kind = struct.unpack_from("<III", note)
                if kind == _BUILD_ID and note[12:15] == b"GNU":
                    begin = 12 + (name_size + 3) // 4 * 4
                    return note[begin : begin + min(size, _LONGEST_ID)].hex()
        return None


def occurrences(text: bytes, string: bytes) -> Iterator[int]:
    """Yield where a string is."""
    place = text.find(string)
    while place >= 0:
        yield place
        place = text.find(string, place + 1)


def _exactly(name: bytes) -> Places:
    """Return what finds a name, also as the tail of a longer one: linkers merge them."""
    return lambda text: occurrences(text, name + b"\0")
