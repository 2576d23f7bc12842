"""The object store: content addressed by the SHA-1 of what is stored, as clients fetch it.

An object lies at data/XX/YYYY…S: XX the first two hex digits of its hash, S a suffix that says what it is.
The hash is that of the stored, i.e. compressed, bytes (format: cvmfs crypto/hash.h,
compression/compression.h).
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

Compression = Literal["zlib", "none"]

DEFAULT_LEVEL: Final = 1
"""zlib level. Weights hardly compress; the higher levels cost time and gain nothing."""


class Suffix(StrEnum):
    """What an object is; the last letter of its name."""

    FILE = ""
    CHUNK = "P"
    CATALOG = "C"
    CERTIFICATE = "X"


@dataclass(frozen=True)
class StoredObject:
    """An object that is in the store."""

    digest: bytes
    """SHA-1 of the stored bytes, 20 bytes."""
    suffix: Suffix
    stored_bytes: int
    added: bool
    """False when the store had it already."""


def object_path(digest: bytes, suffix: Suffix) -> str:
    """Return where an object lies, relative to the folder of the repository and to its URL."""
    text = digest.hex()
    return f"data/{text[:2]}/{text[2:]}{suffix}"


class ObjectStore:
    """The objects of one repository. Methods may be called from several threads."""

    def __init__(self, repository: Path, level: int = DEFAULT_LEVEL) -> None:
        self._repository = repository
        self._level = level
        self._stored_paths: set[str] = set()
        self._lock = threading.Lock()
        self._incoming = repository / "data" / "txn"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def add(self, content: bytes, suffix: Suffix, compression: Compression = "zlib") -> StoredObject:
        """Store `content` unless it is there; the GIL is free while it is compressed and hashed."""
        stored = zlib.compress(content, self._level) if compression == "zlib" else content
        digest = hashlib.sha1(stored).digest()
        path = object_path(digest, suffix)
        target = self._repository / path
        with self._lock:
            added = path not in self._stored_paths and not _is_whole(target, len(stored))
            self._stored_paths.add(path)
        if added:
            self._write(target, stored)
        return StoredObject(digest, suffix, len(stored), added)

    def read(self, digest: bytes, suffix: Suffix, compression: Compression = "zlib") -> bytes:
        """Return the content of an object. Raises OSError if it is not there, zlib.error if damaged."""
        stored = (self._repository / object_path(digest, suffix)).read_bytes()
        return zlib.decompress(stored) if compression == "zlib" else stored

    def _write(self, target: Path, stored: bytes) -> None:
        target.parent.mkdir(exist_ok=True)
        incoming = self._incoming / f"{target.parent.name}{target.name}.{os.getpid()}"
        incoming.write_bytes(stored)
        incoming.replace(target)  # readers see the whole object or none


def _is_whole(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False
