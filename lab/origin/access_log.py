"""The access log: one JSON object per line and request, written when the response has ended.

It is the truth that what cvtrace says is compared with, so it holds what was done, not what was asked for.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cvtrace.lab.errors import LabError


@dataclass
class AccessEntry:
    """One request; `_ns` are CLOCK_MONOTONIC or lengths of time, `_ms` is the wall clock. Filled in while it is served."""

    start_ns: int
    """The request line had arrived."""
    start_ms: int
    port: int
    """Of the client: tells connections apart."""
    method: str = ""
    path: str = ""
    """As sent, without the query."""
    status: int = 0
    """0 when there was no response."""
    first_byte_ns: int = 0
    """The head of the response was about to be sent; 0 when there was no response."""
    end_ns: int = 0
    """The last byte had been handed to the kernel, or the connection was given up."""
    end_ms: int = 0
    body_bytes: int = 0
    """Taken by the kernel. When `aborted`, the client need not have got them all."""
    delay_ns: int = 0
    """Really waited before the first byte."""
    pace_ns: int = 0
    """Really waited between the slices of the body."""
    truncated: bool = False
    dropped: bool = False
    aborted: bool = False
    """The client went away, or the origin was stopped, before the response was complete."""


class AccessLog:
    """Appends to a file. Safe from several threads: each entry is one write."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, entry: AccessEntry) -> None:
        """Append an entry."""
        os.write(self._descriptor, json.dumps(asdict(entry)).encode() + b"\n")

    def close(self) -> None:
        """Close the file; nothing may be written afterwards."""
        os.close(self._descriptor)


def read_access_log(path: Path) -> list[AccessEntry]:
    """Return the entries in the order in which the responses ended; a last line still being written is left out.

    Raises LabError when the file is not an access log.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise LabError(f"cannot read the access log {path}: {error.strerror}") from error
    names = {field.name for field in fields(AccessEntry)}
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            entries.append(AccessEntry(**{name: values[name] for name in names}))
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path}, line {number}, is not of an access log: {error!r}") from error
    return entries
