"""The objects that a file on CVMFS consists of, as the client lists them, and which of them its disk cache holds."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cvtrace.probes.cvmfs.xattrs import getxattr

_LINE: Final = re.compile(r"([0-9a-f]{40,64}(?:-[a-z0-9]{1,16})?),([0-9]{1,15}),([0-9]{1,15})", re.ASCII)
_HASH: Final = re.compile(r"([0-9a-f]{2})([0-9a-f]{38,62}(?:-[a-z0-9]{1,16})?)", re.ASCII)
_PAGES: Final = re.compile(r"num_pages, ([0-9]{1,6})", re.ASCII)
MOST_PAGES: Final = 1000
"""Of the list of chunks, some 40 kB each: half a million chunks."""


@dataclass(frozen=True)
class Object:
    """A part of a file that is fetched and cached as one."""

    hash: str
    offset: int
    size: int


def objects_of(path: str) -> list[Object] | None:
    """Return the objects of a file, sorted by offset; None if the client does not list them. Asks no server. Raises OSError."""
    try:
        pages = _PAGES.fullmatch(_text(path, "user.chunk_list~?"))
        count = min(int(pages[1]), MOST_PAGES) if pages else 1
        text = "\n".join(
            _text(path, f"user.chunk_list~{number}" if pages else "user.chunk_list") for number in range(count)
        )
    except OSError:
        return None
    listed = (_LINE.fullmatch(line) for line in text.splitlines())
    objects = [Object(match[1], int(match[2]), int(match[3])) for match in listed if match]
    return sorted(objects, key=lambda each: each.offset) or None


def _text(path: str, name: str) -> str:
    return getxattr(path, name).decode("ascii", "replace").strip("\0\n ")


def cached_objects(pid: int, hashes: Iterable[str]) -> dict[str, int] | None:
    """Return the size of each object that is in the cache in which the client `pid` works; the key is the hash.

    None if this user may not look into it, or if it is no plain disk cache (folders 00 to ff). Only names and sizes are looked at.
    """
    try:
        folder = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not all(_is_folder(folder, name) for name in ("00", "ff", "txn")):
            return None
        sizes = {name: _size(folder, name) for name in set(hashes)}
    except OSError:
        return None
    finally:
        os.close(folder)
    return {name: size for name, size in sizes.items() if size is not None}


def _is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def cache_path(text: str) -> str | None:
    """Return where in the cache folder the object of a hash is; None for what is no hash."""
    match = _HASH.fullmatch(text)
    return None if match is None else f"{match[1]}/{match[2]}"


def _size(folder: int, text: str) -> int | None:
    path = cache_path(text)
    if path is None:
        return None
    try:
        return os.stat(path, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
