"""Where the functions of onnxruntime's C API are in a library that exports none of them but OrtGetApiBase.

OrtGetApiBase() returns a structure of two pointers, the first of them GetApi. GetApi(version) returns a table of function pointers, the
same for every version (new functions are appended). All of these are constants of the library, so the code of both functions names
their addresses, and the relocations of the file name what they point to: the file is read, and nothing of it is run.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

from cvtrace.probes.elf import Elf, NotElf

ENTRY: Final = "OrtGetApiBase"
FEWEST_SLOTS: Final = 119
"""Slots of the table of version 2, of the year 2020."""
CODE_BYTES: Final = 512
_LEA: Final = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](.{4})", re.DOTALL)
"""`lea` of an address that is relative to the next instruction: x86-64."""


def slots(path: str, slot_of: Mapping[int, int]) -> dict[int, int]:
    """Return the offset in the file of each function of `slot_of` (number -> slot of the table) that the table has. Raises OSError."""
    try:
        elf = Elf(path)
        table = _table(elf)
        if table is None:
            return {}
        pointers = elf.pointers(table, max(slot_of.values()) + 1)
        return elf.offsets(
            {number: pointers[slot] for number, slot in slot_of.items() if elf.are_code([pointers[slot]])}
        )
    except (NotElf, struct.error, ValueError, OverflowError, IndexError):
        return {}


def _table(elf: Elf) -> int | None:
    """Return the address of the table, None if the file has none that looks like it."""
    entry = elf.exported(ENTRY)
    for base in _named(elf, entry, 64) if entry else ():
        get_api = elf.pointers(base)
        if not elf.are_code(get_api):
            continue
        for table in _named(elf, get_api[0], CODE_BYTES):
            if elf.are_code(elf.pointers(table, FEWEST_SLOTS), FEWEST_SLOTS):
                return table
    return None


def _named(elf: Elf, address: int, size: int) -> list[int]:
    """Return the addresses that the code at `address` names."""
    code = elf.code_at(address, size)
    return [address + match.end() + int.from_bytes(match[1], "little", signed=True) for match in _LEA.finditer(code)]
