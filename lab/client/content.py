"""Content hashes, and what an object of the repository is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

from cvtrace.lab.errors import LabError

ALGORITHMS: Final = ("sha1", "rmd160", "shake128")
"""In the order of the flag bits in catalogs and of the top bits in the quota manager's commands."""

DIGEST_BYTES: Final = 20


class Hasher(Protocol):
    """What `Hash.hasher` returns."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Shake:
    def __init__(self) -> None:
        self._state = hashlib.shake_128()

    def update(self, data: bytes, /) -> None:
        self._state.update(data)

    def hexdigest(self) -> str:
        return self._state.hexdigest(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class Hash:
    """A content hash: 40 hex digits and its algorithm."""

    digits: str
    algorithm: str = "sha1"

    @classmethod
    def parse(cls, text: str) -> Hash:
        """Parse `<40 hex>[-rmd160|-shake128]`; raises LabError."""
        digits, _, algorithm = text.partition("-")
        if (
            len(digits) != 2 * DIGEST_BYTES
            or not set(digits) <= set("0123456789abcdef")
            or (algorithm or "sha1") not in ALGORITHMS
        ):
            raise LabError(f"'{text[:60]}' is not a content hash: the repository is damaged, publish it again")
        return cls(digits, algorithm or "sha1")

    @property
    def digest(self) -> bytes:
        """The raw 20 bytes."""
        return bytes.fromhex(self.digits)

    @property
    def path(self) -> str:
        """Where the object lies below `data/` on the server and below the workspace in the cache, without a suffix letter."""
        suffix = "" if self.algorithm == "sha1" else f"-{self.algorithm}"
        return f"{self.digits[:2]}/{self.digits[2:]}{suffix}"

    def hasher(self) -> Hasher:
        """Return a new hash state of this hash's algorithm."""
        if self.algorithm == "shake128":
            return _Shake()
        return hashlib.new("ripemd160" if self.algorithm == "rmd160" else "sha1", usedforsecurity=False)

    def __str__(self) -> str:
        return self.digits if self.algorithm == "sha1" else f"{self.digits}-{self.algorithm}"


@dataclass(frozen=True, slots=True)
class Object:
    """Something to fetch: where it is, what it is called to the quota manager, and how to unpack it."""

    hash: Hash
    description: str
    """`/path` of a file, `Part of /path` of a chunk."""
    suffix: str = ""
    """P chunk, C catalog, X certificate; empty for a whole file."""
    size_bytes: int | None = None
    """Uncompressed size, when it is known beforehand."""
    compressed: bool = True
    pinned: bool = False
