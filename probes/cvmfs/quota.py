"""How large the client's cache may become, as it says itself."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.cvmfs.mounts import Mount
from cvtrace.probes.cvmfs.talk import ANSWER_S, ask

MEBIBYTE: Final = 1 << 20


def quota_bytes(mount: Mount) -> int | None:
    """Return the limit of the cache of `mount`, None if there is none or the client does not tell. Never hangs or raises."""
    try:
        return megabytes(ask(mount, "cache limit get", ANSWER_S))
    except OSError:
        return None


def megabytes(text: str | None) -> int | None:
    """Return a limit that the client writes in MB (of 1024² bytes)."""
    return int(text.strip()) * MEBIBYTE if text and text.strip().isdecimal() else None
