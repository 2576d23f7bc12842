"""How much of a file the kernel's page cache holds: cachestat(2) since Linux 6.5, else mincore(2). Neither reads the file."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Sequence
from typing import Final

PAGE: Final = mmap.PAGESIZE
_CACHESTAT: Final = 451
"""The system call's number, the same on every architecture."""
_PROT_READ, _MAP_SHARED = 1, 1
_FAILED: Final = ctypes.c_void_p(-1).value


class _Range(ctypes.Structure):
    _fields_ = [("off", ctypes.c_uint64), ("len", ctypes.c_uint64)]


class _Cachestat(ctypes.Structure):
    """struct cachestat (linux/mman.h)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("nr_cache", "nr_dirty", "nr_writeback", "nr_evicted", "nr_recently_evicted")
    ]


def cached_bytes(fd: int, ranges: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return how many bytes of each range (offset, size) are in the page cache; a page counts whole, but no further than its range.

    None if the kernel does not tell this user: it tells the owner of the file, who may write it, and root.
    Raises OSError.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        return [_by_cachestat(libc, fd, offset, size) if size else 0 for offset, size in ranges]
    except PermissionError:
        return None
    except OSError as failure:
        if failure.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return _by_mincore(libc, fd, ranges) if _may_ask(fd) else None


def _by_cachestat(libc: ctypes.CDLL, fd: int, offset: int, size: int) -> int:
    first = offset // PAGE * PAGE
    pages = _Cachestat()
    pages_of_range = _Range(first, -(-(offset + size) // PAGE) * PAGE - first)
    if (
        libc.syscall(ctypes.c_long(_CACHESTAT), ctypes.c_uint(fd), ctypes.byref(pages_of_range), ctypes.byref(pages), 0)
        < 0
    ):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return min(int(pages.nr_cache) * PAGE, size)


def _by_mincore(libc: ctypes.CDLL, fd: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Map the file without touching it, and ask for a byte per page (mincore(2))."""
    size = os.fstat(fd).st_size
    if not size:
        return [0] * len(ranges)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = libc.mmap(None, size, _PROT_READ, _MAP_SHARED, fd, 0)
    if address == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        present = (ctypes.c_ubyte * -(-size // PAGE))()
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), present) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    resident = bytes(present).translate(bytes(number & 1 for number in range(256)))
    ends = [(offset // PAGE, -(-(offset + length) // PAGE), length) for offset, length in ranges]
    return [min(resident.count(1, first, last) * PAGE, length) for first, last, length in ends]


def _may_ask(fd: int) -> bool:
    """Return whether mincore(2) says the truth: to others than the owner, who may write, and root it calls every page present."""
    return os.geteuid() in (0, os.fstat(fd).st_uid) or os.access(f"/proc/self/fd/{fd}", os.W_OK)
