"""The files in the disk cache of a client, as files of the local disk: whether their pages are in memory, and having them there or not.

A client reads an object from such a file, so the page cache of the disk stands between a client that has an object and the disk itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.residency.objects import cache_path
from cvtrace.probes.residency.page_cache import cached_bytes

PART_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class InMemory:
    """Bytes of the cache files that are there, and how many of them are in the page cache; None if the kernel does not tell."""

    bytes: int
    resident_bytes: int | None


def in_memory(pid: int, hashes: Iterable[str]) -> InMemory:
    """Return how much of the cache files of some objects is in the page cache. Raises OSError."""
    total, resident = 0, 0
    known = True
    for descriptor, size in opened(pid, hashes):
        total += size
        answer = cached_bytes(descriptor, [(0, size)])
        known &= answer is not None
        resident += answer[0] if answer else 0
    return InMemory(total, resident if known else None)


def drop_from_memory(pid: int, hashes: Iterable[str]) -> None:
    """Have the kernel drop the pages of the cache files of some objects, once they are on the disk. Raises OSError."""
    for descriptor, _ in opened(pid, hashes):
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_memory(pid: int, hashes: Iterable[str]) -> None:
    """Read the cache files of some objects, past the client. Raises OSError."""
    buffer = bytearray(PART_BYTES)
    for descriptor, _ in opened(pid, hashes):
        while os.readv(descriptor, [buffer]):
            pass


def opened(pid: int, hashes: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield a descriptor and the size of each cache file that is there; links are not followed, and nothing but plain files is opened."""
    folder = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in dict.fromkeys(map(cache_path, hashes)):
            with contextlib.suppress(FileNotFoundError):
                if path is None or not stat.S_ISREG(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode):
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                try:
                    yield descriptor, os.fstat(descriptor).st_size
                finally:
                    os.close(descriptor)
    finally:
        os.close(folder)
