"""Offsets of functions in a library, compared with their addresses in a running process."""

import ctypes
import os
import re
import struct
import time
from pathlib import Path

import pytest

from cvtrace.probes.ebpf.symbols import qualified
from cvtrace.probes.elf import MOST_OF_A_NAME, Elf, NotElf


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
def test_a_file_that_is_not_elf_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotElf):
        Elf(str(tmp_path / "file"))


def test_a_file_that_is_cut_has_no_functions(tmp_path):
    # GIVEN the first half of a library
    path, _ = mapped_at(ctypes.cast(ctypes.CDLL(None).strtoul, ctypes.c_void_p).value or 0)
    content = Path(path).read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    # WHEN / THEN
    with pytest.raises(NotElf):
        Elf(str(tmp_path / "cut"))


def section(kind: int, offset: int, size: int, link: int = 0) -> bytes:
    return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, link, 0, 0, 0)


def hostile(path: Path, sections: list[bytes], more: bytes = b"", size: int = 0) -> str:
    """Write an ELF file that has nothing but sections, and `more` behind them; it claims to be `size` bytes long."""
    head = b"\x7fELF\2\1" + bytes(58)
    head = bytearray(head)
    struct.pack_into("<QQ", head, 32, 0, 64)
    struct.pack_into("<HHHH", head, 56, 0, 64, len(sections), 0)
    path.write_bytes(bytes(head) + b"".join(sections) + more)
    if size:
        os.truncate(path, size)
    return str(path)


def test_reading_an_elf_file_with_huge_tables_is_bounded(tmp_path):
    # GIVEN a sparse file of a terabyte with 60,000 symbol tables that all of it is WHEN / THEN that takes no time and no memory
    tables = [section(2, 0, 1 << 40)] * 60_000
    began_s = time.monotonic()
    elf = Elf(hostile(tmp_path / "huge", tables, size=1 << 40))
    assert elf.functions(["OgaCreateModel"]) == {}
    assert (elf.build_id(), elf.compressed_symbols(), elf.dynamic().needed) == (None, None, ())
    assert time.monotonic() - began_s < 20
    # AND what each of many tables claims is added up
    small = Elf(hostile(tmp_path / "many", [section(2, 0, 1 << 26)] * 60_000, size=1 << 30))
    assert small.functions(["OgaCreateModel"]) == {}


def test_the_number_of_inspected_symbol_names_is_bounded(tmp_path):
    # GIVEN a table of nothing but one name, and a symbol for each
    name, count = b"OgaCreateModel\0", MOST_OF_A_NAME * 20
    begin = 64 + 2 * 64
    symbols = b"".join(struct.pack("<IBBHQQ", at * len(name), 2, 0, 1, at, 0) for at in range(count))
    sections = [section(3, begin, len(name) * count), section(2, begin + len(name) * count, len(symbols), 0)]
    elf = Elf(hostile(tmp_path / "repeated", sections, name * count + symbols))
    # WHEN / THEN one of them is taken
    assert len(elf.addresses({0: lambda text: range(0, len(text), len(name))})) == 1


def test_an_unterminated_symbol_name_is_read_in_linear_time(tmp_path):
    text = b"7Fetcher5FetchE" * 200_000
    began_s = time.monotonic()
    assert list(qualified("Fetcher::Fetch")(text)) == []
    assert time.monotonic() - began_s < 20


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_a_file_that_is_not_regular_is_not_opened(tmp_path, make):
    # GIVEN a FIFO that nobody writes to WHEN / THEN it is refused at once
    make(tmp_path / "file")
    with pytest.raises(OSError, match="not a plain file"):
        Elf(str(tmp_path / "file"))


def test_a_file_truncated_while_it_is_read_is_reported_as_damaged(tmp_path):
    # GIVEN a library whose end is cut off after its header was read; a mapping would end the process by SIGBUS
    path, _ = mapped_at(ctypes.cast(ctypes.CDLL(None).strtoul, ctypes.c_void_p).value or 0)
    copy = tmp_path / "cut"
    copy.write_bytes(Path(path).read_bytes())
    elf = Elf(str(copy))
    os.truncate(copy, 100)
    # WHEN / THEN
    assert elf.functions(["strtoul"]) == {}
