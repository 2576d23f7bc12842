"""The client's counters by phase. The target itself reads them where phases begin and end.

The counters are not per process: they also count the requests of other processes. The time between two readings is a whole call of one phase, or
the time of the script between two calls. The time between the first and the last token counts as decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.joins.mounts import held_mounts
from cvtrace.analysis.joins.phases import DECODE, Phases
from cvtrace.analysis.trace.intervals import Bools, Ints, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.cvmfs.releases import may_prefetch
from cvtrace.probes.events import Kind
from cvtrace.probes.portable.counts import COUNTS, INDEX

OF_PROCESS: Final = -1
"""`mount` of counts that the kernel keeps of a process (NO_MOUNT as a signed number)."""
READS: Final = ("cvmfs.n_fs_read",)
OPENS: Final = ("nopen", "cvmfs.n_fs_open")
FETCHES: Final = ("ndownload", "download.n_requests", "download-external.n_requests")
BYTES: Final = ("rx", "download.sz_transferred_bytes")
METADATA: Final = ("cvmfs.n_fs_lookup", "cvmfs.n_fs_stat", "cvmfs.n_fs_readlink", "cvmfs.n_fs_dir_open")
REQUESTED: Final = (*READS, *OPENS, *METADATA)
"""Counters that grow only if a process sends a request."""
OBJECTS: Final = ("hitrate", "fetch.n_invocations", "fetch.n_downloads")
MOVES: Final = (*READS, *OPENS, *FETCHES, *BYTES, *METADATA, *OBJECTS)
KIB: Final = 1024


@dataclass(frozen=True)
class CounterDeltas:
    """How much a counter grew between two readings that follow each other: one row each, sorted by mount, counter and time.

    `mount` numbers the mounts of the recording (OF_PROCESS for those of a process), `count` numbers COUNTS, `row` phases.NAMES.
    """

    mount: Ints
    count: Ints
    start: Ints
    end: Ints
    grown: Ints
    row: Ints
    held: Bools
    """Whether the target was observed to have files of the mount open, as far as that is known. If not, other processes caused the growth."""
    may_prefetch: Bools
    """Whether the client of the mount may fetch objects without a request."""

    def __len__(self) -> int:
        return len(self.row)

    def total(self, names: tuple[str, ...], *rows: int) -> int | None:
        """Return the growth of these counters of all mounts in the phases, in bytes for `rx`; None if none was read there."""
        chosen = self._of(rows, names)
        if not chosen.any():
            return None
        factor = np.where(self.count[chosen] == INDEX["rx"], KIB, 1)
        return int((self.grown[chosen] * factor).sum())

    def moved(self, *rows: int) -> bool:
        """Return whether the counters show that any mount was used in the phases.

        Fetches alone do not show that if the client may prefetch: there may have been no request for them.
        """
        chosen = self._of(rows, MOVES) & (self.grown != 0)
        by_request = np.isin(self.count, [INDEX[name] for name in REQUESTED])
        return bool((chosen & (by_request | ~self.may_prefetch)).any())

    def prefetched(self, *rows: int) -> bool:
        """Return whether a client that may prefetch fetched something in the phases, and it is unknown whether for a request.

        If reads are counted as well, and there were none, no request caused the fetches.
        """
        has_read_counts = np.isin(self.mount, self.mount[np.isin(self.count, [INDEX[name] for name in READS])])
        fetched = self._of(rows, MOVES) & (self.grown != 0) & self.may_prefetch & ~has_read_counts
        return bool(fetched.any()) and not self.moved(*rows)

    def unheld_mounts_moved(self, *rows: int) -> bool:
        """Return whether a mount was used in phases that the target was not seen to hold anything of."""
        counts = [INDEX[name] for name in MOVES]
        return bool((self.grown[~self.held & np.isin(self.row, rows) & np.isin(self.count, counts)] != 0).any())

    def has_read_counts(self, mounts: int) -> bool:
        """Return whether reads were counted, too, on each of so many mounts."""
        read = np.isin(self.count, [INDEX[name] for name in READS])
        return set(range(mounts)) <= set(self.mount[read].tolist())

    def tail_ns(self, last_token_end: int) -> int:
        """Return how long after the last token the counters were read for decode."""
        ends = self.end[(self.row == DECODE) & (self.mount != OF_PROCESS)]
        return max(int(ends.max()) - last_token_end, 0) if len(ends) else 0

    def _of(self, rows: tuple[int, ...], names: tuple[str, ...]) -> Bools:
        chosen: Bools = self.held & np.isin(self.row, rows) & np.isin(self.count, [INDEX[name] for name in names])
        return chosen


def counter_deltas(recording: Recording, phases: Phases) -> CounterDeltas:
    """Take the differences of the readings, and place each in its phase; of mounts that the target held files of, if that is known."""
    rows = recording.of(Kind.COUNTER)
    rows = rows.where((rows.ret == 0) & (rows.b >= 0) & (rows.b < len(COUNTS)))
    key = np.where(rows.a == OF_PROCESS, -1 - rows.tgid, rows.a) * len(COUNTS) + rows.b
    rows = rows.where(np.lexsort((rows.start, key)))
    key = np.where(rows.a == OF_PROCESS, -1 - rows.tgid, rows.a) * len(COUNTS) + rows.b
    later = np.flatnonzero(key[1:] == key[:-1]) + 1
    start, end = rows.end[later - 1], rows.start[later]
    grown = rows.c[later] - rows.c[later - 1]
    is_rate = rows.b[later] == INDEX["hitrate"]
    return CounterDeltas(
        mount=rows.a[later],
        count=rows.b[later],
        start=start,
        end=end,
        grown=np.where(is_rate, np.abs(grown), np.maximum(grown, 0)),  # a restarted client begins at zero
        row=_rows(phases, start, end),
        held=_held(recording, rows.a[later]),
        may_prefetch=np.isin(
            rows.a[later], [number for number, mount in enumerate(recording.mounts) if may_prefetch(mount.version)]
        ),
    )


def _held(recording: Recording, mount: Ints) -> Bools:
    held = held_mounts(recording)
    return np.ones(len(mount), dtype=bool) if held is None else (mount == OF_PROCESS) | np.isin(mount, held)


def _rows(phases: Phases, start: Ints, end: Ints) -> Ints:
    """Return the phase of each span: decode if a token began in it, else that of the first call, else what lies around it."""
    calls = phases.calls
    first, last = np.searchsorted(calls.start, start), np.searchsorted(calls.start, end)
    tokens = np.concatenate([[0], np.cumsum(calls.row == DECODE)])
    around = pick(phases.segments.row, phases.segments.at((start + end) // 2), -1)
    called = np.where(last > first, pick(calls.row, np.where(last > first, first, -1), -1), around)
    return np.where(tokens[last] > tokens[first], DECODE, called)
