"""Attaches to the functions of a library that mark phases: to all of them at once where the kernel can (6.6).

One link for all entries and one for all returns come and go in milliseconds; a perf event per function takes 0.1 s each
to detach.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Any, Final

_BPF: Final = 321  # number of bpf(2) on x86_64
_LINK_CREATE: Final = 28
_TRACE_UPROBE_MULTI: Final = 48  # enum bpf_attach_type
_MULTI_RETURN: Final = 1  # BPF_F_UPROBE_MULTI_RETURN
_PROG_TYPE_KPROBE: Final = 2


def functions(bpf: Any, library: str, symbols: Sequence[str]) -> dict[int, int]:
    """Return the offset in `library` of each of `symbols` that it exports, by index in `symbols`."""
    wanted = {symbol.encode(): index for index, symbol in enumerate(symbols)}
    exported = bpf.get_user_functions_and_addresses(os.fsencode(library), b"^Oga")
    return {wanted[name]: address for name, address in exported if name in wanted}


def attach(bpf: Any, library: str, offsets: dict[int, int]) -> list[int]:
    """Attach to `offsets` (index -> offset) of `library`; return the links to close, none if perf events were used."""
    try:
        return [
            _attach_multi(bpf, b"phase_enter_any", library, offsets, 0),
            _attach_multi(bpf, b"phase_exit_any", library, offsets, _MULTI_RETURN),
        ]
    except Exception:  # bcc raises plain Exception when the kernel does not know the attach type
        path = os.fsencode(library)
        for index, offset in offsets.items():
            bpf.attach_uprobe(name=path, addr=offset, fn_name=b"phase_enter_%d" % index)
            bpf.attach_uretprobe(name=path, addr=offset, fn_name=b"phase_exit_%d" % index)
        return []


def _attach_multi(bpf: Any, program: bytes, library: str, offsets: dict[int, int], flags: int) -> int:
    """Link `program` to all `offsets`, with the index as cookie (union bpf_attr, link_create.uprobe_multi)."""
    program_fd = bpf.load_func(program, _PROG_TYPE_KPROBE, attach_type=_TRACE_UPROBE_MULTI).fd
    path = ctypes.create_string_buffer(os.fsencode(library))
    count = len(offsets)
    addresses = (ctypes.c_uint64 * count)(*offsets.values())
    cookies = (ctypes.c_uint64 * count)(*offsets.keys())
    attr = struct.pack(
        "<IIIIQQQQIIII",
        program_fd, 0, _TRACE_UPROBE_MULTI, 0,
        ctypes.addressof(path), ctypes.addressof(addresses), 0, ctypes.addressof(cookies),
        count, flags, 0, 0,
    )  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    link: int = libc.syscall(_BPF, _LINK_CREATE, ctypes.create_string_buffer(attr, len(attr)), len(attr))
    if link < 0:
        code = ctypes.get_errno()
        raise OSError(code, errno.errorcode.get(code, str(code)), library)
    return link
