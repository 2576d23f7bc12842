"""Attaches to functions of a library: to all of them at once where the kernel can (6.6).

One link for all entries and one for all returns come and go in milliseconds; a perf event per function takes 0.1 s each
to detach.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cvtrace.probes.ebpf.kprobes import release
from cvtrace.probes.elf import Elf, NotElf

_BPF: Final = 321  # number of bpf(2) on x86_64
_LINK_CREATE: Final = 28
_TRACE_UPROBE_MULTI: Final = 48  # enum bpf_attach_type
_MULTI_RETURN: Final = 1  # BPF_F_UPROBE_MULTI_RETURN
_PROG_TYPE_KPROBE: Final = 2
MULTI: Final = (6, 6)
"""The first kernel that attaches to many functions at once."""
_COOKIES: Final = (5, 15)
"""The first kernel with bpf_get_attach_cookie."""


def functions(library: str, symbols: Sequence[str]) -> dict[int, int]:
    """Return the offset in `library` of each of `symbols` that it has, by index in `symbols`. Raises OSError."""
    try:
        offsets = Elf(library).functions(symbols)
    except NotElf:
        return {}
    return {index: offsets[symbol] for index, symbol in enumerate(symbols) if symbol in offsets}


def own_functions(library: str, symbols: Mapping[str, int]) -> list[dict[int, int]]:
    """Return the offsets of functions of a user's own (symbol -> index) as often as an index has several: one attachment each."""
    try:
        offsets = Elf(library).every_function(symbols)
    except NotElf:
        return []
    rounds: list[dict[int, int]] = []
    for symbol, offset in offsets.items():
        place = next((each for each in rounds if symbols[symbol] not in each), None)
        if place is None:
            place = {}
            rounds.append(place)
        place[symbols[symbol]] = offset
    return rounds


def prepare(bpf: Any, programs: str) -> None:
    """Load `programs` (`phase`, `client`), so that attaching to a library that the target is about to call takes no time."""
    if release() < _COOKIES:  # bcc would print the whole program that the kernel refuses
        return
    with contextlib.suppress(Exception):  # a kernel before 6.6: `attach` goes another way
        for program in (f"{programs}_enter_any", f"{programs}_exit_any"):
            bpf.load_func(program.encode(), _PROG_TYPE_KPROBE, attach_type=_TRACE_UPROBE_MULTI)


def attach(bpf: Any, library: str, offsets: dict[int, int], programs: str = "phase") -> list[int]:
    """Attach `programs` to `offsets` (index -> offset) of `library`; return the links to close, none if perf events were used.

    Raises OSError when there is no such file any more.
    """
    if release() < _COOKIES:
        return _attach_each(bpf, library, offsets, programs)
    try:
        # Returns first: the return of a call whose begin was seen must not be missed, as the call would never end.
        return [
            _attach_multi(bpf, f"{programs}_exit_any", library, offsets, _MULTI_RETURN),
            _attach_multi(bpf, f"{programs}_enter_any", library, offsets, 0),
        ]
    except Exception as error:  # bcc raises plain Exception when the kernel does not know the attach type
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESRCH):
            raise  # the file is gone, with the process that had it
        return _attach_each(bpf, library, offsets, programs)


def attach_returns(bpf: Any, path: str, offsets: dict[int, int]) -> list[int]:
    """Attach to the instructions in a program that calls of functions (index -> offset) return to; return the links to close."""
    try:
        if release() < _COOKIES:
            raise OSError(errno.ENOSYS, "no cookies")
        return [_attach_multi(bpf, "phase_exit_any", path, offsets, 0)]
    except Exception:  # bcc raises plain Exception when the kernel does not know the attach type
        for index, offset in offsets.items():
            bpf.attach_uprobe(name=os.fsencode(path), addr=offset, fn_name=f"phase_exit_{index}".encode())
        return []


def _attach_each(bpf: Any, library: str, offsets: dict[int, int], programs: str) -> list[int]:
    """Attach a pair of programs to each function, through perf events."""
    path = os.fsencode(library)
    for index, offset in offsets.items():
        bpf.attach_uretprobe(name=path, addr=offset, fn_name=f"{programs}_exit_{index}".encode())
        bpf.attach_uprobe(name=path, addr=offset, fn_name=f"{programs}_enter_{index}".encode())
    return []


def _attach_multi(bpf: Any, program: str, library: str, offsets: dict[int, int], flags: int) -> int:
    """Link `program` to all `offsets`, with the index as cookie (union bpf_attr, link_create.uprobe_multi)."""
    program_fd = bpf.load_func(program.encode(), _PROG_TYPE_KPROBE, attach_type=_TRACE_UPROBE_MULTI).fd
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
