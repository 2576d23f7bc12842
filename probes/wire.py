"""What goes over /dev/fuse and over the client's own pipes and sockets, as far as probes look into it."""

from __future__ import annotations

from typing import Final

import numpy as np

# linux/fuse.h: fuse_in_header, fuse_read_in, fuse_out_header.
_FUSE_HEAD: Final = [("len", "<u4"), ("opcode", "<u4"), ("unique", "<u8")]
FUSE_HEAD: Final = np.dtype(_FUSE_HEAD)
"""What fuse_in_header begins with."""
FUSE_IN: Final = np.dtype(
    [*_FUSE_HEAD, ("nodeid", "<u8"), ("uid", "<u4"), ("gid", "<u4"), ("pid", "<u4"), ("pad", "<u4")]
)
FUSE_READ_IN: Final = np.dtype(
    [("fh", "<u8"), ("offset", "<u8"), ("size", "<u4"), ("read_flags", "<u4"), ("lock_owner", "<u8"), ("flags", "<u4"),
     ("pad", "<u4")]
)  # fmt: skip
FUSE_OUT: Final = np.dtype([("len", "<u4"), ("error", "<i4"), ("unique", "<u8")])

# cvmfs/quota_posix.h: LruCommand, which is followed by the object's path in the same write.
LRU_COMMAND_BYTES: Final = 48
LRU_INSERT: Final = 1
LRU_INSERT_VOLATILE: Final = 17
LRU_SIZE_MASK: Final = 2**61 - 1
"""The three highest bits of LruCommand.size hold the hash algorithm."""

TLS_DATA: Final = 0x0317
"""How a record of application data begins: its type 23, and the version's first byte 3."""
TLS_REQUEST_MIN: Final = 64
"""Application data of TLS that is long enough for a request; an alert that closes a connection is not."""

AF_INET: Final = 2
AF_INET6: Final = 10
