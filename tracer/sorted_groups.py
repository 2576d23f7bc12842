"""The records of a file of blocks in the order of time, a group at a time: what is held is a group, however long the file is.

Blocks follow each other as the recorder got the records, and a record comes when what it tells of is over: nearly in the order of time. So the
file is read three times. The first reading takes samples of the times, which tell where to cut them into groups of about equal size; the
second tells which blocks have records of which group; then each group is put together from its blocks, a few in most cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import in_order
from cvtrace.tracer.blocks import BLOCK, Blocks, BlockSource, read_block, scan

SAMPLES: Final = 256
"""Samples of a group."""
LONGEST_NS: Final = np.uint64(2**50)

Records = npt.NDArray[np.void]


class SortedGroups:
    """Records sorted by (ts, kind, tid). `since_ns` is where the trace begins, if its oldest blocks were dropped (see `kept`)."""

    def __init__(self, source: BlockSource, dtype: np.dtype[Any], rows: int, since_ns: int | None = None) -> None:
        """Read the file twice. Raises OSError, CutShort."""
        self._source, self._dtype, self._since_ns = source, dtype, since_ns
        times: list[npt.NDArray[np.uint64]] = [np.empty(0, dtype="<u8")]
        weights: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        stride = max(rows // SAMPLES, 1)

        def sample(records: Records) -> None:
            ts = kept(records, since_ns)["ts"][::stride].copy()
            times.append(ts)
            weights.append(np.full(len(ts), stride, dtype=np.int64))

        self._blocks: Blocks = scan(source, dtype, sample)
        self._edges = _edges(np.concatenate(times), np.concatenate(weights), rows)
        self._blocks_of: list[list[int]] = [[] for _ in range(len(self._edges) + 1)]
        self.total = 0
        self._count_groups()

    def _count_groups(self) -> None:
        number = 0

        def count(records: Records) -> None:
            nonlocal number
            records = kept(records, self._since_ns)
            self.total += len(records)
            for group in np.unique(self._group(records)).tolist():
                self._blocks_of[group].append(number)
            number += 1

        scan(self._source, self._dtype, count)

    def _group(self, records: Records) -> npt.NDArray[np.intp]:
        return np.searchsorted(self._edges, records["ts"], side="right")

    def __iter__(self) -> Iterator[Records]:
        """Return the groups that have records. Raises OSError, CutShort."""
        for group, blocks in enumerate(self._blocks_of):
            parts = [np.empty(0, dtype=self._dtype)]
            for number in blocks:
                offset, count = int(self._blocks.offsets[number]), int(self._blocks.counts[number])
                records = kept(read_block(self._source, offset - BLOCK.itemsize, count, self._dtype), self._since_ns)
                parts.append(records[self._group(records) == group])
            records = np.concatenate(parts)
            if len(records):
                yield in_order(records)


def _edges(times: npt.NDArray[np.uint64], weights: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.uint64]:
    """Return the times at which to cut, so that about so many records lie between two."""
    order = np.argsort(times, kind="stable")
    reached = np.cumsum(weights[order])
    if not len(reached) or reached[-1] <= rows:
        return times[:0]
    cuts = np.searchsorted(reached, np.arange(rows, reached[-1], rows, dtype=np.int64))
    return np.unique(times[order][np.minimum(cuts, len(order) - 1)])


def kept(records: Records, since_ns: int | None) -> Records:
    """Return what of the records belongs to a trace that begins at `since_ns`, None for its begin.

    What was over before is left out. What was under way then begins then, and so does its text.
    """
    if since_ns is None:
        return records
    since = np.uint64(since_ns)
    names = records.dtype.names or ()
    if "dur" in names:
        length = np.minimum(records["dur"], LONGEST_NS)
        records = records[records["ts"] + length >= since]
    records = records.copy()
    early = records["ts"] < since
    if "dur" in names:
        records["dur"][early] -= since - records["ts"][early]
    records["ts"][early] = since
    return records
