"""Events and texts as they are made: packed into two growing buffers, turned into arrays in one step."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from cvtrace.probes.events import EVENT, TEXT, TEXT_MAX, UNFINISHED, Events, Texts
from cvtrace.probes.layouts import struct_format

EVENT_RECORD: Final = struct.Struct(struct_format(EVENT))
TEXT_RECORD: Final = struct.Struct(struct_format(TEXT))

MAX_RET: Final = 2**31 - 1
U64: Final = 2**64 - 1


class Columns:
    """Buffers of EVENT and TEXT records."""

    def __init__(self) -> None:
        self._events = bytearray()
        self._texts = bytearray()

    def event(
        self,
        kind: int,
        ts: int,
        dur: int,
        tgid: int,
        tid: int,
        ret: int | None,
        a: int = 0,
        b: int = 0,
        c: int = 0,
    ) -> None:
        """Append one event; `ret` None flags it UNFINISHED. Raises struct.error where a number does not fit."""
        if ret is None:
            kind, ret = kind | UNFINISHED, 0
        self._events += EVENT_RECORD.pack(ts, dur, tgid, tid, kind, 0, min(ret, MAX_RET), a & U64, b & U64, c & U64)

    def text(self, kind: int, ts: int, tid: int, text: bytes, size: int | None = None) -> None:
        """Append one text; `size` is its full length where the log holds only its beginning."""
        full = len(text) if size is None else size
        self._texts += TEXT_RECORD.pack(ts, tid, kind, min(full, 0xFFFF), text[:TEXT_MAX])

    def take(self) -> tuple[Events, Texts]:
        """Return what was appended since the last call, in the order of appending."""
        events = np.frombuffer(self._events, dtype=EVENT)
        texts = np.frombuffer(self._texts, dtype=TEXT)
        self._events, self._texts = bytearray(), bytearray()
        return events, texts
