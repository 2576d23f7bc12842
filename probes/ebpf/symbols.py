"""Where C++ functions are in a library: by its own symbols, or by debug symbols that lie elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cvtrace.probes.elf import Elf, NotElf, Places, occurrences

DEBUG: Final = "usr/lib/debug/.build-id"
"""Where packages of debug symbols put them, by build id (gdb, "Separate Debug Files")."""

MOST_NAMES: Final = 1 << 16
LONGEST_NAME: Final = 1 << 14
"""Bytes of a mangled name that are looked at; a table may be a stranger's, of one name without an end."""


@dataclass(frozen=True)
class Located:
    """What is known of a library's functions: `offsets` in the file, by the number of the function."""

    build_id: str | None
    offsets: dict[int, int]


def locate(path: str, functions: Mapping[int, str], roots: Sequence[str]) -> Located:
    """Return where the functions of these names (`DownloadManager::Fetch`) are; debug symbols are looked for below `roots`.

    Raises OSError, or NotElf.
    """
    library = Elf(path)
    build_id = library.build_id()
    places_of = {number: qualified(name) for number, name in functions.items()}
    addresses = dict[int, int]()
    for symbols in _tables(library, build_id, roots):
        addresses |= symbols.addresses(
            {number: places for number, places in places_of.items() if number not in addresses}
        )
        if len(addresses) == len(places_of):
            break
    return Located(build_id, library.offsets(addresses))


def debug_file(build_id: str) -> str:
    """Return where a package would put the debug symbols of a library, below the root."""
    return f"{DEBUG}/{build_id[:2]}/{build_id[2:]}.debug"


def _tables(library: Elf, build_id: str | None, roots: Sequence[str]) -> Iterator[Elf]:
    yield library
    compressed = library.compressed_symbols()
    if compressed is not None:
        yield compressed
    for root in roots if build_id else ():
        path = Path(root) / debug_file(build_id or "")
        with contextlib.suppress(OSError, NotElf):
            if path.is_file() and (symbols := Elf(str(path))).build_id() == build_id:
                yield symbols


def qualified(name: str) -> Places:
    """Return what finds a function by its class and name, in whatever namespace and with whatever arguments.

    Names are mangled as the Itanium C++ ABI says. Copies that the compiler made of parts of a function have a dot in their name.
    """
    scoped = "".join(f"{len(part)}{part}" for part in name.split("::")).encode() + b"E"

    def places(text: bytes) -> Iterator[int]:
        for place in islice(occurrences(text, scoped), MOST_NAMES):
            begin = text.rfind(b"\0", max(place - LONGEST_NAME, 0), place) + 1
            end = text.find(b"\0", place, place + LONGEST_NAME)
            if text.startswith(b"_ZN", begin) and b"." not in text[begin:end]:
                yield begin

    return places
