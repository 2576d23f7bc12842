"""onnxruntime's profiles become part of a trace: the files as they are, and their nodes as nodes.parquet."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from cvtrace.probes.events import Events, no_events
from cvtrace.probes.phases.profile import Nodes, Profile, parse_profile, place
from cvtrace.tracer.arrow import pa, pq
from cvtrace.tracer.folder import NODES_PARQUET, PROFILE_PREFIX, PROFILES
from cvtrace.tracer.parquet import read_words
from cvtrace.tracer.safe_open import open_folder, open_regular

MOST_BYTES: Final = 1 << 30
"""Of all profiles: a million events, as many as onnxruntime keeps of a session, take some 300 MB."""
LONGEST_NAME: Final = 4096
"""Bytes of a node's name."""

NONE: Final = (
    "onnxruntime wrote no profile, which it does when a model is destroyed: the target was ended, is not Python, or its "
    "model was made by another library"
)

GARBLED: Final = "onnxruntime's profile cannot be read: there are no times of operators"

SCHEMA: Final = pa.schema(
    [
        ("phase", pa.string()),
        ("token", pa.int64()),
        ("name", pa.string()),
        ("op_type", pa.string()),
        ("start_ns", pa.int64()),
        ("dur_ns", pa.int64()),
    ]
)
"""`token` is -1 where no token was generated, `phase` "" outside of any call. CLOCK_MONOTONIC, as events."""


def read_profiles(folder: Path) -> list[bytes]:
    """Return the profiles in a folder that the target could write to: plain files only, the first few."""
    profiles: list[bytes] = []
    try:
        fd = open_folder(folder)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            names = sorted(each.name for each in entries if each.name.startswith(PROFILE_PREFIX))
        for name in [each for each in names if each.endswith(".json")][: len(PROFILES)]:
            with contextlib.suppress(OSError), open_regular(fd, name) as file:
                profiles.append(file.read(MOST_BYTES - sum(map(len, profiles))))
    finally:
        os.close(fd)
    return [data for data in profiles if data]  # that of a session whose model could not be loaded stays empty


def nodes_of(
    profiles: Sequence[bytes], marks: Sequence[Events], rename: Callable[[str], str] = str
) -> tuple[bytes | None, list[str]]:
    """Return nodes.parquet with nodes `rename` so, and a sentence for each thing that is not in it."""
    if not profiles:
        return None, [NONE]
    calls = np.concatenate(marks) if len(marks) else no_events()
    try:
        parsed = [parse_profile(data) for data in profiles]
    except (ValueError, TypeError, OverflowError, RecursionError):  # the target wrote it, and may have written anything
        return None, [GARBLED]
    placed = [(profile, place(profile, calls)) for profile in parsed]
    missing = [sentence for profile, nodes in placed for sentence in _lacking(profile, nodes)]
    tables = [_table(nodes, rename) for _, nodes in placed if nodes is not None]
    out = io.BytesIO()
    pq.write_table(pa.concat_tables(tables) if tables else SCHEMA.empty_table(), out, compression="zstd")
    return out.getvalue(), missing


def _lacking(profile: Profile, nodes: Nodes | None) -> list[str]:
    if nodes is None and profile.name:
        return [
            f"a profile of {len(profile.name):,} nodes could not be aligned with the trace, because its runs are in no call that was marked"
        ]
    if not profile.is_complete:
        return [
            "onnxruntime's profile is incomplete: it holds at most a million events, or the target ended while it was written"
        ]
    return []


def _table(nodes: Nodes, rename: Callable[[str], str]) -> Any:
    names = {name: rename(name[:LONGEST_NAME]) for name in set(nodes.name)}
    columns = [
        nodes.phase,
        nodes.token,
        [names[name] for name in nodes.name],
        nodes.op_type,
        nodes.start_ns,
        nodes.dur_ns,
    ]
    return pa.Table.from_arrays(
        [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def read_nodes(trace: Path) -> Any | None:
    """Return nodes.parquet of a trace as a pyarrow table, None if there is none that can be read."""
    try:
        folder = open_folder(trace)
        try:
            with open_regular(folder, NODES_PARQUET) as file:
                return read_words(file, SCHEMA, LONGEST_NAME)
        finally:
            os.close(folder)
    except (OSError, ValueError):
        return None
