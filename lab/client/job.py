"""A download: what is to be fetched, and where its bytes go."""

from __future__ import annotations

from typing import Protocol

from cvtrace.lab.client.content import Hash


class Sink(Protocol):
    """Where the unpacked bytes go."""

    def write(self, data: bytes) -> None: ...

    def reset(self) -> None: ...


class MemorySink:
    """Keeps what was received."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def reset(self) -> None:
        self.data = b""


class Job:
    """One download as the worker sees it."""

    __slots__ = ("attempts", "compressed", "expected", "handed_ns", "path", "reply", "retry_at_s", "sink")

    def __init__(self, path: str, sink: Sink, expected: Hash | None = None, compressed: bool = False) -> None:
        self.path = path
        self.sink = sink
        self.expected = expected
        self.compressed = compressed
        self.attempts = 0
        self.retry_at_s = 0.0
        self.reply = -1
        self.handed_ns = 0
