"""How large the client's cache may become, as it says itself."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.cvmfs import strict

LIMIT: Final = "cache limit get"
"""The question over the talk socket."""
MEBIBYTE: Final = 1 << 20
MOST_MEGABYTES: Final = 1 << 40
"""An exbibyte; no disk is larger, and what is said of one is no limit."""


def megabytes(text: str | None) -> int | None:
    """Return a limit that the client writes in MB (of 1024² bytes), in bytes; None if it is none that a cache can have."""
    limit = strict.number(text.strip(" \n\0")) if text else None
    return None if limit is None or limit > MOST_MEGABYTES else limit * MEBIBYTE
