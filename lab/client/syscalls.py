"""The few C library calls whose exact system call matters to an observer.

Python's own `os.open` adds O_CLOEXEC, `tempfile.mkstemp` adds O_NOFOLLOW, and `os.preadv` is another call than pread64.
ctypes releases the GIL around each of them.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OPEN: Final = _LIBC.open
_OPEN.argtypes = (ctypes.c_char_p, ctypes.c_int)
_PREAD: Final = getattr(_LIBC, "pread64", _LIBC.pread)
_PREAD.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_PREAD.restype = ctypes.c_ssize_t
_MKSTEMP: Final = _LIBC.mkstemp
_PRCTL: Final = _LIBC.prctl

_PR_SET_NAME: Final = 15


def _failed(operation: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), operation)


def open_read_only(path: str) -> int:
    """Open a file as `openat(AT_FDCWD, path, O_RDONLY)` and return the descriptor; raises OSError."""
    fd: int = _OPEN(path.encode(), os.O_RDONLY)
    if fd < 0:
        raise _failed(path)
    return fd


def pread_into(fd: int, address: int, size: int, offset: int) -> int:
    """Read with one pread64 into memory at `address`; return the bytes read, raises OSError."""
    count: int = _PREAD(fd, address, size, offset)
    if count < 0:
        raise _failed(f"descriptor {fd}")
    return count


def make_temporary(template: str) -> tuple[int, str]:
    """Create a new file from a template that ends in XXXXXX; return (descriptor, path), raises OSError."""
    path = ctypes.create_string_buffer(template.encode())
    fd: int = _MKSTEMP(path)
    if fd < 0:
        raise _failed(template)
    return fd, path.value.decode()


def name_thread(name: str) -> None:
    """Name the calling thread; threads it starts inherit the name."""
    _PRCTL(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0)
