"""What a release of the client can do, by the version that it says it is of (`user.version`)."""

from __future__ import annotations

from typing import Final

PASSTHROUGH: Final = (2, 14)
"""First release that can let reads pass it by; it needs kernel 6.17 and libfuse 3.17."""
PASSTHROUGH_KERNEL: Final = (6, 17)
REFERENCES: Final = (2, 13)
"""First release that opens an object once, however many use it."""
BUNDLES: Final = (2, 14)
"""First release that prefetches file bundles."""


def numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version or of a kernel's release, as far as they are numbers: 2.14.0 -> (2, 14)."""
    words = version.split()
    parts = words[-1].split(".")[:2] if words else []
    return tuple(int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 6)


def may_pass(version: str, kernel: str = "") -> bool:
    """Return whether reads may pass a client of this version by, on a kernel of this release ("": not known)."""
    client, system = numbers(version), numbers(kernel)
    return (not client or client >= PASSTHROUGH) and (not system or system >= PASSTHROUGH_KERNEL)


def may_count_references(version: str) -> bool:
    """Return whether a client of this version may open an object once for several users."""
    client = numbers(version)
    return not client or client >= REFERENCES


def may_prefetch(version: str) -> bool:
    """Return whether a client of this version may fetch files of a bundle that nobody has opened yet."""
    client = numbers(version)
    return not client or client >= BUNDLES
