"""Opening files of strangers: only plain ones, and without doing anything to what is none.

A path may lead to a FIFO, which waits for ever, to a device that acts when it is opened, or to something else a moment later.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import Final

_OPENAT2: Final = 437
"""The same number on every machine, since Linux 5.6 (openat2(2))."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10


class NotPlain(OSError):
    """It is a folder, a FIFO, a device or a socket."""


def open_plain(path: str, root: int | None = None) -> int:
    """Open a plain file for reading, without touching what is none. Raises OSError.

    With `root`, a descriptor of a folder, nothing outside of that folder can be reached: links lead where they lead for a
    process whose root it is.
    """
    if not hasattr(os, "O_PATH"):  # macOS, where nothing runs as root for somebody else
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    place = os.open(path, os.O_PATH | os.O_CLOEXEC) if root is None else _open_in_root(path, root)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise NotPlain(errno.EINVAL, "not a plain file", path)
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(place)


def _open_in_root(path: str, root: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    fd: int = libc.syscall(ctypes.c_long(_OPENAT2), root, os.fsencode(path), ctypes.byref(how), size)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return fd
