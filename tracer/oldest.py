"""`--max-size`: drops the oldest blocks of a recording that becomes too large.

A dropped block becomes a hole in its file, so that no data is moved while a target runs. Before that, `dropped` in meta.json is written: the
number of dropped events and texts; `before_ns`, the end of the last dropped event; and the offsets at which the kept records
begin (`events_at`, `texts_at`). A reader begins at these offsets, also if the recorder was killed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.probes.events import EVENT, Events
from cvtrace.tracer.streams import Stream

MARKS: Final = 32
"""Number of parts of the kept data that can be dropped one by one."""
KEPT: Final = 0.75
"""Share of the limit that is kept when blocks are dropped, so that meta.json is not written too often."""
KEEP_SIZE_AND_PUNCH: Final = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of linux/falloc.h."""
NO_HOLES: Final = "its file system cannot give back a part of a file, which --max-size needs: choose a folder on another one with -o DIR"


@dataclass(frozen=True)
class _Mark:
    """Sizes of the streams at a moment of the recording."""

    offsets: tuple[int, ...]
    written: tuple[int, ...]
    until_ns: int


class Oldest:
    """Drops the oldest blocks of events and texts while there are more than `limit_bytes` of both."""

    def __init__(self, limit_bytes: int, streams: tuple[Stream, ...]) -> None:
        """Test with the empty files whether the file system supports holes. Raises OSError."""
        self._limit, self._streams = limit_bytes, streams
        self._marks: deque[_Mark] = deque()
        self._marked_bytes = 0
        for stream in streams:
            punch(stream.file.fd, 0, 1)

    def pieces(self, events: Events) -> list[Events]:
        """Cut events into pieces that can be dropped one by one."""
        most = max(self._limit // MARKS // EVENT.itemsize, 1)
        return [events[first : first + most] for first in range(0, len(events), most)]

    def make_room(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Drop the oldest blocks above the limit, after `tell` has written this to meta.json. Raises OSError."""
        written = sum(stream.file.size for stream in self._streams)
        here = written - sum(stream.file.begin for stream in self._streams)
        last = None
        while here > (self._limit if last is None else self._limit * KEPT) and self._marks:
            last = self._marks.popleft()
            here = written - sum(last.offsets)
        if last is not None:
            self._drop(last, tell)
        if written - self._marked_bytes >= self._limit // MARKS:  # last: what was written just now is never dropped
            self._marked_bytes = written
            self._marks.append(self._mark())

    def _drop(self, mark: _Mark, tell: Callable[[dict[str, Any]], None]) -> None:
        (events, texts), (events_at, texts_at) = mark.written, mark.offsets
        tell(
            {
                "events": events,
                "texts": texts,
                "before_ns": mark.until_ns,
                "events_at": events_at,
                "texts_at": texts_at,
            }
        )
        for stream, offset in zip(self._streams, mark.offsets, strict=True):
            if offset > stream.file.begin:
                punch(stream.file.fd, stream.file.begin, offset - stream.file.begin)
                stream.file.begin = offset

    def _mark(self) -> _Mark:
        return _Mark(
            tuple(stream.file.size for stream in self._streams),
            tuple(stream.written for stream in self._streams),
            max(stream.until_ns for stream in self._streams),
        )


def punch(fd: int, offset: int, length: int) -> None:
    """Give the room of a part of a file back to the file system. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, KEEP_SIZE_AND_PUNCH, ctypes.c_long(offset), ctypes.c_long(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def cannot(error: OSError) -> str:
    """Return why a trace cannot be created."""
    return NO_HOLES if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS) else os.strerror(error.errno or 0)


def begin_of(meta: Mapping[str, Any]) -> int | None:
    """Return when a trace begins whose oldest blocks were dropped, None if none were."""
    return _number(meta, "before_ns")


def begins_of(meta: Mapping[str, Any]) -> tuple[int, int]:
    """Return where the blocks of events and of texts begin."""
    return _number(meta, "events_at") or 0, _number(meta, "texts_at") or 0


def _number(meta: Mapping[str, Any], name: str) -> int | None:
    dropped = meta.get("dropped")
    number = dropped.get(name) if isinstance(dropped, dict) else None
    return number if type(number) is int and 0 <= number < 2**62 else None


def starting_later(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock of a meta.json, that of a trace whose oldest blocks were dropped with its begin."""
    clock, begin_ns = dict(meta.get("clock") or {}), begin_of(meta)
    start_ns = clock.get("start_ns")
    if begin_ns is None or not isinstance(start_ns, int) or start_ns >= begin_ns:
        return clock
    return {**clock, "start_ns": begin_ns, "recorded_from_ns": start_ns}
