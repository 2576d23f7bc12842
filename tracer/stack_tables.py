"""Sampled stacks in a trace: samples.parquet with a row for each sample, frames.parquet with a row for each frame of each stack."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.stacks.frames import LONGEST_FILE, Samples
from cvtrace.tracer.arrow import pa, pq
from cvtrace.tracer.folder import FRAMES_PARQUET, SAMPLES_PARQUET
from cvtrace.tracer.parquet import read_words
from cvtrace.tracer.safe_open import open_folder, open_regular

LONGEST_NAME: Final = 4 * LONGEST_FILE
"""Bytes of a name."""
SAMPLES_SCHEMA: Final = pa.schema([("ts", pa.int64()), ("dur", pa.int64()), ("tid", pa.int64()), ("stack", pa.int64())])
"""The thread had the stack from `ts` until at least `ts + dur` (CLOCK_MONOTONIC)."""
FRAMES_SCHEMA: Final = pa.schema(
    [
        ("stack", pa.int64()),
        ("function", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("library", pa.string()),
        ("is_own", pa.bool_()),
    ]
)
"""Outermost frame of each stack first; `is_own` as `frames.Frame`."""


def tables_of(
    samples: Samples, file: Callable[[str], str] = str, function: Callable[[str], str] = str
) -> tuple[bytes, bytes]:
    """Return the two files, with files and functions under other names; rows are sorted by time, and by stack."""
    rows = pa.table(
        [pa.array(getattr(samples, field.name), type=field.type) for field in SAMPLES_SCHEMA], schema=SAMPLES_SCHEMA
    ).sort_by([("ts", "ascending"), ("tid", "ascending")])
    renamed = [(number, *frame) for number, frames in enumerate(samples.renamed(file, function)) for frame in frames]
    columns = list(zip(*renamed, strict=True)) or [()] * len(FRAMES_SCHEMA)
    frames = pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, FRAMES_SCHEMA, strict=True)],
        schema=FRAMES_SCHEMA,
    )
    return _written(rows), _written(frames)


def _written(table: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def read_stacks(trace: Path) -> tuple[Any, Any] | None:
    """Return samples and frames of a trace as pyarrow tables, None if there are none that can be read."""
    try:
        folder = open_folder(trace)
        try:
            with open_regular(folder, SAMPLES_PARQUET) as rows, open_regular(folder, FRAMES_PARQUET) as frames:
                return read_words(rows, SAMPLES_SCHEMA, LONGEST_NAME), read_words(frames, FRAMES_SCHEMA, LONGEST_NAME)
        finally:
            os.close(folder)
    except (OSError, ValueError):
        return None
