"""`run --watch`: one line on the terminal, refreshed while a recording runs: phase, tokens, reads, fetches, cache, losses.

The line stands in the last row, outside of the rows that scroll (DECSTBM; apt's progress bar does the same), so that what the target
writes stays as it is. Nothing is drawn where that could hold up the recording: on a terminal that is stopped or that belongs to
another job.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.probes.events import UNFINISHED, Events, Kind
from cvtrace.probes.phases.functions import COUNTED, FUNCTIONS, INDEX
from cvtrace.probes.phases.runtimes.declaration import MANY
from cvtrace.probes.visible import printable

EVERY_S: Final = 0.4
WINDOW_S: Final = 2.0
"""Rates are over so long."""
TOKEN: Final = INDEX["OgaGenerator_GenerateNextToken"]
KINDS: Final = max(Kind) + 1
SAVE, RESTORE, CLEAR = "\0337", "\0338", "\033[2K"


@dataclass(frozen=True)
class Counts:
    """What was seen so far."""

    time_s: float
    reads: int = 0
    fetches: int = 0
    fetched_bytes: int = 0
    waited: int = 0
    tokens: int = 0


class Watch:
    """Counts what is drained, and draws it on the terminal `fd`."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._clock = clock
        self._began_s = clock()
        self._drawn_s = self._began_s
        self._kinds = np.zeros(KINDS, dtype=np.int64)
        self._tokens = 0
        self._received = 0
        self._phase = ""
        self._past: deque[Counts] = deque([Counts(self._began_s)])
        self._size: tuple[int, int] | None = None
        """Columns and rows that the line was set up for."""
        self._closed = False

    def take(self, events: Events, lost: Callable[[], int], under_way: Callable[[], Sequence[int]] = tuple) -> None:
        """Count a block, and draw if it is time; then only is asked how many are `lost` and which calls are `under_way`."""
        if len(events):
            self._count(events)
        now_s = self._clock()
        if not self._closed and now_s - self._drawn_s >= EVERY_S:
            self._drawn_s = now_s
            if _may_draw(self._fd):
                self._draw(lost(), under_way())

    def _count(self, events: Events) -> None:
        kind = events["kind"] & np.uint16(~UNFINISHED & 0xFFFF)
        self._kinds += np.bincount(np.minimum(kind, KINDS - 1), minlength=KINDS)
        self._received += int(np.maximum(events["ret"][kind == Kind.HTTP_RECV], 0).sum())
        marks = events["a"][kind == Kind.PHASE]
        if len(marks):
            self._tokens += int((marks == TOKEN).sum()) + _counted(events[kind == Kind.PHASE])
            last = int(marks[-1])
            self._phase = FUNCTIONS[last].phase if last < len(FUNCTIONS) else self._phase

    def line(self, lost: int, columns: int, under_way: Sequence[int] = ()) -> str:
        """Return what is drawn, rates over the last seconds and sums: as much as there is room for.

        `under_way` are the calls (indices into FUNCTIONS) that threads are known to be in, the one that began first first.
        """
        now = Counts(
            self._clock(),
            int(self._kinds[Kind.FUSE_READ]),
            int(self._kinds[Kind.HTTP_SEND]),
            self._received,
            int(self._kinds[Kind.HANDOVER]),
            self._tokens,
        )
        self._past.append(now)
        while len(self._past) > 2 and now.time_s - self._past[1].time_s >= WINDOW_S:
            self._past.popleft()
        phase = _phase(self._phase, under_way)
        time = f"cvtrace {now.time_s - self._began_s:.1f} s"
        variants = (_parts(now, self._past[0], phase, f"{lost:,} lost", detail) for detail in (3, 2, 1, 0))
        lines = [" · ".join([time, *parts]) for parts in variants]
        return next((line for line in lines if len(line) <= columns), lines[-1][:columns])

    def _draw(self, lost: int, under_way: Sequence[int]) -> None:
        columns, rows = os.get_terminal_size(self._fd)
        if rows < 2 or columns < 2:
            return
        setup = ""
        if self._size != (columns, rows):
            # A line feed first: the cursor may stand in the last row, which is no longer the target's.
            setup = f"\n{SAVE}\033[1;{rows - 1}r{RESTORE}\033[1A"
            self._size = (columns, rows)
        self._write(f"{setup}{SAVE}\033[{rows};1H{CLEAR}{printable(self.line(lost, columns - 1, under_way))}{RESTORE}")

    def close(self) -> None:
        """Give the last row back; nothing is drawn any more."""
        if not self._closed and self._size is not None:
            self._write(f"{SAVE}\033[r\033[{self._size[1]};1H{CLEAR}{RESTORE}")
        self._closed = True

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody may be there any more; the recording goes on
            os.write(self._fd, text.encode())


@contextlib.contextmanager
def watching(is_wanted: bool, fd: int = 2) -> Iterator[Watch | None]:
    """Draw on a terminal, and leave it as it was; None where it is not wanted, there is none, or it knows no escapes."""
    if not is_wanted or not os.isatty(fd) or os.environ.get("TERM", "dumb") == "dumb":
        yield None
        return
    watch = Watch(fd)
    try:
        yield watch
    finally:
        watch.close()


def _may_draw(fd: int) -> bool:
    """Return whether a write neither waits (Ctrl-S) nor stops the writer (a job in the background)."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp() and bool(select.select([], [fd], [], 0)[1])
    except OSError:
        return False


def _parts(now: Counts, before: Counts, phase: str, lost: str, detail: int) -> list[str]:
    """Return the parts of the line: with detail 3 sums, too; with 1 no bytes, with 0 no share of the cache."""
    span_s = max(now.time_s - before.time_s, 1e-3)
    reads, fetches = now.reads - before.reads, now.fetches - before.fetches
    tokens = f"{(now.tokens - before.tokens) / span_s:.1f} tokens/s"
    fetched = f"{fetches / span_s:,.0f} fetches/s"
    megabytes = f" {(now.fetched_bytes - before.fetched_bytes) / span_s / 1e6:,.1f} MB/s"
    sums = [f" ({each:,})" if detail == 3 else "" for each in (now.tokens, now.reads, now.fetches)]
    cached = f"{100 * max(reads - now.waited + before.waited, 0) / reads:.0f} % cached" if reads and detail else ""
    parts = [
        phase,
        tokens + sums[0] if now.tokens else "",
        f"{reads / span_s:,.0f} reads/s{sums[1]}",
        fetched + sums[2] + (megabytes if detail > 1 else ""),
        cached,
        lost,
    ]
    return [part for part in parts if part]


def _counted(calls: Events) -> int:
    """Return how many tokens the calls made that say it."""
    count = calls["c"][np.isin(calls["a"], COUNTED) & (calls["ret"] == 0)] & np.uint64(MANY)
    return int(np.where(count == MANY, 1, count).sum())


def _phase(last: str, under_way: Sequence[int]) -> str:
    """Name what runs: the call that a thread is in, else the one that returned last, as a call is told when it returns."""
    inside = [FUNCTIONS[each].phase for each in under_way if each < len(FUNCTIONS)]
    if inside and inside[0] != "user":
        return inside[0] if inside[0] == "decode" else f"in {inside[0]}"
    return {"": "not loaded yet", "decode": "decode", "user": ""}.get(last, f"after {last}")
