"""Offsets of functions in a library, held against where the running process has them."""

import ctypes
import re
from pathlib import Path

import pytest

from cvtrace.probes.ebpf.elf import Elf, NotElf


def mapped_at(address: int) -> tuple[str, int]:
    """Return the file that is mapped at an address of this process, and the offset in it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        match = re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ [1-9]\d*\s+(/.*)", line)
        if match and int(match[1], 16) <= address < int(match[2], 16):
            return match[4], address - int(match[1], 16) + int(match[3], 16)
    pytest.skip("libc is not mapped from a file")


def test_functions_are_where_the_process_has_them():
    # GIVEN a function of the C library that is in this process
    path, offset = mapped_at(ctypes.cast(ctypes.CDLL(None).strtoul, ctypes.c_void_p).value or 0)
    # WHEN / THEN
    assert Elf(path).functions(["strtoul", "no_such_function"]) == {"strtoul": offset}
    assert re.fullmatch("[0-9a-f]{16,}", Elf(path).build_id() or "0" * 16)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\2\1", b"\x7fELF\2\1" + b"\xff" * 58])
def test_what_is_no_elf_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotElf):
        Elf(str(tmp_path / "file"))


def test_a_file_that_is_cut_has_no_functions(tmp_path):
    # GIVEN the first half of a library
    path, _ = mapped_at(ctypes.cast(ctypes.CDLL(None).strtoul, ctypes.c_void_p).value or 0)
    whole = Path(path).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    # WHEN / THEN
    with pytest.raises(NotElf):
        Elf(str(tmp_path / "cut"))
