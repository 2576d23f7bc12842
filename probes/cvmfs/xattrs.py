"""Extended attributes of a path, on systems where Python reads them and on macOS, where the C library does."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

LONGEST: int = 1 << 16


def getxattr(path: str, name: str) -> bytes:
    """Return the value of an attribute. Raises OSError, ENOTSUP on systems that have none."""
    if hasattr(os, "getxattr"):
        return os.getxattr(path, name)
    if sys.platform == "darwin":
        return getxattr_of_libc(path, name)
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)


def getxattr_of_libc(path: str, name: str) -> bytes:
    """Call getxattr(2) with the arguments of macOS: position and options after the size. Others ignore those two."""
    function = ctypes.CDLL(None, use_errno=True).getxattr
    function.restype = ctypes.c_ssize_t
    function.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_uint32,
        ctypes.c_int,
    ]
    value = ctypes.create_string_buffer(LONGEST)
    size = function(os.fsencode(path), name.encode(), value, LONGEST, 0, 0)
    if size < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return value.raw[:size]
