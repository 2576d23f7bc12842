"""Records on their way to the disk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvtrace.tracer.blocks import BlockFile
from cvtrace.tracer.sorted_groups import LONGEST_NS


class Stream:
    """One kind of record on its way to the disk: gathered to blocks of a good size."""

    def __init__(self, file: BlockFile, *, keeps_time: bool = False) -> None:
        self.file = file
        self._keeps_time = keeps_time
        self.waiting: list[npt.NDArray[np.void]] = []
        self.waiting_records = 0
        self.written = 0
        self.lost = 0
        self.until_ns = 0
        """When the last of what was written was over; 0 unless it `keeps_time`."""

    def add(self, part: npt.NDArray[np.void]) -> None:
        if len(part):
            self.waiting.append(part)
            self.waiting_records += len(part)

    def flush(self) -> None:
        """Write what waits as one block. Raises OSError; what waited is then counted as lost."""
        if not self.waiting:
            return
        parts, count = self.waiting, self.waiting_records
        self.waiting, self.waiting_records = [], 0
        try:
            self.file.append(parts)
        except OSError:
            self.lost += count
            raise
        self.written += count
        for part in parts if self._keeps_time else ():
            self.until_ns = max(self.until_ns, _until_ns(part))

    def give_up(self) -> None:
        """Count what waits as lost."""
        self.lost += self.waiting_records
        self.waiting, self.waiting_records = [], 0

    def drop_last(self) -> None:
        """Give up the last block, for room."""
        count = self.file.drop_last()
        self.written -= count
        self.lost += count


def _until_ns(records: npt.NDArray[np.void]) -> int:
    """Return when the last of these records (at least one) was over; texts have no length."""
    if "dur" not in (records.dtype.names or ()):
        return 0
    return int((records["ts"] + np.minimum(records["dur"], LONGEST_NS)).max())
