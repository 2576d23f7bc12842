"""Reading the kernel's types: a small BTF made by hand, and the running kernel's own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from btf_writer import Writer

from cvtrace.probes.ebpf.btf import SYSFS, Btf, NotInBtf, load


def kernel() -> Writer:
    """Return types as a kernel has them, with what is awkward: typedefs, const, nameless structs and unions, bit fields."""
    types = Writer()
    u64 = types.integer("u64", 8)
    head = types.struct("head", 40, [("len", u64, 0), ("unique", u64, 8)])
    wrapped = types.struct("", 40, [("h", types.typedef("head_t", head), 0)])
    types.struct("request", 80, [("list", u64, 0), ("in", wrapped, 16), ("flags", u64, 56)])
    inner = types.struct("", 16, [("vma", u64, 0), ("pgoff", u64, 8)])
    union = types.union("", 16, [("other", u64, 0), ("", types.const(inner), 0)])
    fault = types.struct("fault", 32, [("first", u64, 0), ("", union, 8)])
    types.function("handle", u64, [u64, types.pointer(types.const(fault))])
    types.function("forget", 0, [types.pointer(fault)])
    types.bitfields("flags", 8, [("low", u64, 0, 3), ("high", u64, 32, 5)])
    return types


def test_offsets_lead_through_named_and_nameless_members() -> None:
    btf = Btf(kernel().data())

    assert btf.offset("request", "flags") == 56
    assert btf.offset("request", "in.h") == 16
    assert btf.offset("request", "in.h.unique") == 24
    assert btf.offset("fault", "pgoff") == 16
    assert btf.offset("flags", "high") == 4


def test_btf_functions_have_their_arguments_and_return_type() -> None:
    btf = Btf(kernel().data())

    assert btf.parameter("handle", "fault") == 2
    assert btf.parameter("forget", "fault") == 1
    assert btf.returns("handle")
    assert not btf.returns("forget")


@pytest.mark.parametrize("name, path", [("nothing", "flags"), ("request", "nothing"), ("request", "flags.deeper")])
def test_a_missing_type_is_reported(name: str, path: str) -> None:
    with pytest.raises(NotInBtf, match=name):
        Btf(kernel().data()).offset(name, path)


def test_a_function_without_the_argument_is_not_used() -> None:
    with pytest.raises(NotInBtf, match="no argument"):
        Btf(kernel().data()).parameter("handle", "request")


def test_type_numbers_of_a_module_continue_those_of_the_kernel(tmp_path: Path) -> None:
    # GIVEN a module whose own struct has the name of a type in the kernel, and members of the kernel's types
    base = kernel()
    module = Writer(base)
    connection = module.struct("connection", 16, [("device", base.number("u64"), 8)])
    module.struct("pair", 16, [("one", connection, 0), ("flags", base.number("head"), 8)])
    (tmp_path / "vmlinux").write_bytes(base.data())
    (tmp_path / "fuse").write_bytes(module.data())

    # WHEN
    with_fuse, without = load("fuse", tmp_path), load("other", tmp_path)

    # THEN
    assert with_fuse.offset("connection", "device") == 8
    assert with_fuse.offset("pair", "flags.unique") == 16
    assert with_fuse.offset("request", "in.h.unique") == 24
    with pytest.raises(NotInBtf, match="connection"):
        without.offset("connection", "device")


def test_a_file_that_is_not_btf_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\0" * 64, struct.pack("<H", 0xEB9F)):
        with pytest.raises(ValueError):
            Btf(data)
    with pytest.raises(NotInBtf, match="does not tell its types"):
        load("fuse", tmp_path)


@pytest.mark.skipif(
    not (SYSFS / "vmlinux").is_file(), reason="this kernel does not tell its types (CONFIG_DEBUG_INFO_BTF)"
)
def test_the_btf_of_the_running_kernel_is_read() -> None:
    btf = load("fuse")

    assert btf.offset("list_head", "prev") == 8
    assert btf.offset("qstr", "name") == 8
    assert btf.parameter("filemap_fault", "vm_fault") == 1
    assert btf.returns("filemap_fault")
