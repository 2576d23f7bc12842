"""Gives the memory of the compiler back: LLVM and clang are needed for half a second, and mapped for as long as bcc is."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Final

import psutil

_MADV_DONTNEED: Final = 4
_COMPILER: Final = re.compile(r"lib(bcc|clang|LLVM)[^/]*\.so")


def release_compiler() -> None:
    """Unmap what the process has touched of the compiler's files; they stay in the page cache, and come back when touched.

    Only mappings without a page of their own: what the loader has relocated would be lost. Each mapping of the process counts
    as its memory (RSS), 80 MB for LLVM.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # of glibc
        libc.malloc_trim(0)
    madvise = libc.madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for mapping in psutil.Process(_own_number()).memory_maps(grouped=False):
        if _COMPILER.search(os.path.basename(mapping.path)) and mapping.anonymous == 0:  # noqa: PTH119 - a text
            begin, end = (int(address, 16) for address in mapping.addr.split("-"))
            madvise(begin, end - begin, _MADV_DONTNEED)


def _own_number() -> int:
    """Return the number that /proc shows this process by: another one than its own if /proc is of another PID namespace."""
    return int(Path("/proc/self").readlink().name)
