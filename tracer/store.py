"""The trace on disk: append-only while recording, Parquet when finished, readable after kill -9 at any moment.

A trace is a folder:

    meta.json        what was traced and how (written at the start, replaced atomically as more is known)
    events.blocks    while recording: blocks of EVENT records
    texts.blocks     while recording: blocks of TEXT records
    events.parquet   when finished, sorted by ts; the columns of EVENT
    texts.parquet    when finished: ts, tid, kind, size, text (binary)

A block is a 32-byte header (BLOCK) and its records. `crc` covers the records, so that a reader stops at a block that was
half written when the recorder was killed and says where the trace ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvtrace.probes.events import EVENT, TEXT, Events, Texts

SCHEMA: Final = "cvtrace-trace/1"
VERSION: Final = 1
MAGIC: Final = b"cvtrace\x01"
BLOCK: Final = np.dtype(
    [("magic", "V8"), ("version", "<u2"), ("itemsize", "<u2"), ("count", "<u4"), ("crc", "<u4"), ("pad", "V12")]
)
assert BLOCK.itemsize == 32


class TraceExists(Exception):
    """The folder to record into is already there."""


class TraceUnwritable(Exception):
    """The trace cannot be written; the message says why."""


class TraceDamaged(Exception):
    """The folder is not a trace, or one of a newer cvtrace, or damaged beyond use; the message says which."""


@dataclass(frozen=True)
class Trace:
    """A trace as read back.

    `events` is sorted by ts. `texts` has one record per text. `meta` is meta.json. `damage` is None for a finished
    trace, otherwise one sentence that says where and why it ends.
    """

    path: Path
    meta: dict[str, Any]
    events: Events
    texts: Texts
    damage: str | None
