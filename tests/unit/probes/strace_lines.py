"""Parsing of a few lines of strace, for tests."""

from __future__ import annotations

from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.probes.strace import Parsed, parse_daemon, parse_target

U64 = 1 << 64


def daemon(*lines: str) -> Parsed:
    return parse_daemon([line.encode() for line in lines], realtime_offset_ns=0)


def target(*lines: str) -> Parsed:
    return parse_target([line.encode() for line in lines], realtime_offset_ns=0)


def rows(parsed: Parsed) -> list[tuple[str, int, int, int, int, int, int]]:
    """Return (kind, ts, dur, ret, a, b, c) per event."""
    kinds = parsed.events["kind"].tolist()
    names = [Kind(kind & ~UNFINISHED).name + "*" * bool(kind & UNFINISHED) for kind in kinds]
    fields = ("ts", "dur", "ret", "a", "b", "c")
    return [(name, *(int(row[f]) for f in fields)) for name, row in zip(names, parsed.events, strict=True)]  # type: ignore[misc]


def texts(parsed: Parsed) -> list[bytes]:
    texts: list[bytes] = parsed.texts["text"].tolist()
    return texts
