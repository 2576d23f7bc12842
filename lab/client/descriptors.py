"""Descriptors of cached objects: one for each open, or, as clients since 2.13 do it, one for each object, with the number of its users.

Counting: opening an object that is open makes no open(2), and both users have the same descriptor. Source: fd_refcount_mgr.cc.
"""

from __future__ import annotations

import os
import threading

from cvtrace.lab.client.content import Hash
from cvtrace.lab.client.syscalls import open_read_only


class Descriptors:
    """Opens and closes cached objects; with `counting`, each object once."""

    def __init__(self, *, counting: bool = False) -> None:
        self._counting = counting
        self._lock = threading.Lock()
        self._open: dict[Hash, int] = {}
        self._users: dict[int, list[Hash]] = {}
        """Descriptor -> its object, once for each user."""

    def open(self, hash_: Hash, path: str) -> int:
        """Return a descriptor of an object that lies at `path`; raises OSError."""
        if not self._counting:
            return open_read_only(path)
        with self._lock:
            fd = self._open.get(hash_)
            if fd is None:
                fd = self._open[hash_] = open_read_only(path)
            self._users.setdefault(fd, []).append(hash_)
            return fd

    def duplicate(self, fd: int) -> int:
        """Return a descriptor for another user; raises OSError."""
        if not self._counting:
            return os.dup(fd)
        with self._lock:
            self._users[fd].append(self._users[fd][0])
            return fd

    def close(self, fd: int) -> None:
        """Let one user go."""
        if not self._counting:
            os.close(fd)
            return
        with self._lock:
            users = self._users[fd]
            hash_ = users.pop()
            if not users:
                del self._users[fd]
                del self._open[hash_]
                os.close(fd)
