"""Where a large file is cut into chunks.

The chunks have a fixed size. The real publisher cuts where the content says so (4/8/16 MiB
minimum/average/maximum), which keeps chunks stable when bytes are inserted in the middle of a file; clients
only see offsets and sizes and treat both alike. Model weights are replaced, not edited, so the simpler cut
is enough here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_CHUNK_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Span:
    """A range of a file."""

    offset: int
    size_bytes: int


def is_chunked(size_bytes: int, chunk_bytes: int) -> bool:
    """Return whether a file of this size is stored in chunks: only when it needs more than one."""
    return size_bytes > chunk_bytes


def spans(size_bytes: int, chunk_bytes: int) -> list[Span]:
    """Return the ranges that cover the file exactly, in order; one empty range for an empty file."""
    if size_bytes == 0:
        return [Span(0, 0)]
    return [Span(at, min(chunk_bytes, size_bytes - at)) for at in range(0, size_bytes, chunk_bytes)]
