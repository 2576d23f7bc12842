"""Which bytes of which files a run used, in the order of their first use: what a warm-up has to bring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import used_ranges
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.analysis.trace.keys import connection_of_file, file_key, node_of_file
from cvtrace.probes.events import Opcode


@dataclass(frozen=True)
class NeededRange:
    """A stretch of a file; of no size where the file was opened and none of its bytes was seen to be used."""

    path: str
    offset: int
    size: int
    first_ns: int = 0
    """When it was used first."""


STEP: Final = 1 << 20
"""Uses within a stretch of so many bytes count as one."""


def needed_ranges(study: Study) -> list[NeededRange]:
    """Return what the target read with FUSE requests, opened, or used of pages that were in the page cache.

    Files whose path was never seen are left out.
    """
    requests, pages = study.requests, used_ranges(study.recording)
    read = np.flatnonzero(requests.by_target & requests.is_(Opcode.READ) & (requests.offset >= 0))
    opened = np.flatnonzero(requests.by_target & requests.is_(Opcode.OPEN) & ~requests.failed)
    file = file_key(requests.connection, requests.nodeid)
    file = np.concatenate([file[read], file[opened], pages.file])
    start = np.concatenate([requests.offset[read], np.full(len(opened), -1), pages.start])
    end = np.concatenate([requests.offset[read] + requests.size[read], np.full(len(opened), -1), pages.end])
    when = np.concatenate([requests.sent[read], requests.sent[opened], pages.when])
    return _merged(study, file, start, end, when)


def _merged(study: Study, file: Ints, start: Ints, end: Ints, when: Ints) -> list[NeededRange]:
    """Put the uses of a stretch together: its first and its last byte used, at the time of the first."""
    if not len(when):
        return []
    step = np.where(start < 0, -1, start // STEP)
    rows, group = np.unique(np.stack([file, step]), axis=1, return_inverse=True)
    group = group.ravel()
    count = rows.shape[1]
    first, lowest = (np.full(count, np.iinfo(np.int64).max) for _ in range(2))
    highest = np.zeros(count, dtype=np.int64)
    np.minimum.at(first, group, when)
    np.minimum.at(lowest, group, start)
    np.maximum.at(highest, group, end)
    order = np.argsort(first, kind="stable")
    names = study.file_paths.names
    connection, node = connection_of_file(rows[0]), node_of_file(rows[0])
    ranges = []
    for number in order.tolist():
        path = names.get((int(connection[number]), int(node[number])))
        if path is not None and os.path.isabs(path):  # noqa: PTH117 - a text of the trace
            offset = max(int(lowest[number]), 0)
            ranges.append(NeededRange(path, offset, max(int(highest[number]) - offset, 0), int(first[number])))
    return ranges
