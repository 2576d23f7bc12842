"""Events as columns by kind, each number in as few bytes as its neighbours need: some 15 to 25 bytes per event instead of 56.

Most columns of a kind hold one number, or numbers that lie close together: a descriptor, the length of a READ, the times of a second. So a
column is kept in parts, for each the smallest number and the distances from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, UNFINISHED, Events, no_events
from cvtrace.tracer.scratch import Kept, Scratch

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

PART_EVENTS: Final = 1 << 20
"""Events whose columns are packed together."""
WIDTHS: Final = (np.uint8, np.uint16, np.uint32)
NAMES: Final = tuple(name for name in EVENT.names or () if name != "kind")


@dataclass(frozen=True, slots=True)
class Packed:
    """A part of a column: `base` and the distances from it; None where all are `base`."""

    base: int
    distances: Kept | None

    @classmethod
    def of(cls, values: Column, scratch: Scratch) -> Packed:
        """Pack a column, unsigned numbers of 64 bits as signed ones. It is not empty."""
        signed = values.view(np.int64) if values.dtype == np.uint64 else values
        low, high = int(signed.min()), int(signed.max())
        if low == high:
            return cls(low, None)
        for width in WIDTHS:
            if high - low <= np.iinfo(width).max:
                return cls(low, scratch.keep((signed - signed.dtype.type(low)).astype(width)))
        return cls(0, scratch.keep(signed.astype(np.int64)))

    def write(self, target: Ints) -> None:
        """Write the numbers into `target`."""
        if self.distances is None:
            target[:] = self.base
        else:
            np.add(self.distances.read(), self.base, out=target, dtype=np.int64, casting="unsafe")

    def unpacked(self, count: int) -> Ints:
        """Return the numbers, of which there are so many."""
        values = np.empty(count, dtype=np.int64)
        self.write(values)
        return values


@dataclass(frozen=True)
class Part:
    """Events that follow each other: of each kind (with its flag) how many, and their columns in the order of time."""

    first_ns: int
    last: tuple[int, int, int]
    """(ts, kind, tid) of the last event."""
    counts: Mapping[int, int]
    columns: Mapping[tuple[int, str], Packed]

    @classmethod
    def of(cls, columns: Mapping[str, Column], scratch: Scratch) -> Part | None:
        """Pack events of these columns; None if they are not in order. There is at least one."""
        ts, kind, tid = columns["ts"], columns["kind"], columns["tid"]
        if not _in_order(ts, kind, tid):
            return None
        order = np.argsort(kind, kind="stable")
        present, first = np.unique(kind[order], return_index=True)
        ends = np.append(first[1:], len(kind)).tolist()
        packed: dict[tuple[int, str], Packed] = {}
        for name in NAMES:
            column = columns[name][order]
            for number, begin, end in zip(present.tolist(), first.tolist(), ends, strict=True):
                packed[number, name] = Packed.of(column[begin:end], scratch)
        counts = {
            number: end - begin for number, begin, end in zip(present.tolist(), first.tolist(), ends, strict=True)
        }
        return cls(int(ts[0]), (int(ts[-1]), int(kind[-1]), int(tid[-1])), counts, packed)

    def precedes(self, columns: Mapping[str, Column]) -> bool:
        """Return whether events of these columns may follow."""
        following = tuple(int(columns[name][0]) for name in ("ts", "kind", "tid"))
        return self.last <= following


def _in_order(ts: Column, kind: Column, tid: Column) -> bool:
    if not bool((ts[1:] >= ts[:-1]).all()):
        return False
    tied = np.flatnonzero(ts[1:] == ts[:-1])
    later, earlier = (kind[tied + 1], tid[tied + 1]), (kind[tied], tid[tied])
    return bool(((later[0] > earlier[0]) | ((later[0] == earlier[0]) & (later[1] >= earlier[1]))).all())


class EventColumns:
    """Events in the order (ts, kind, tid), by kind. `kind` is as recorded: with UNFINISHED where that flag was set."""

    def __init__(self, parts: tuple[Part, ...], scratch: Scratch | None = None) -> None:
        self.parts = parts
        self.scratch = scratch or Scratch()
        self.counts: dict[int, int] = {}
        for part in parts:
            for kind, count in part.counts.items():
                self.counts[kind] = self.counts.get(kind, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    @classmethod
    def of(cls, events: Events, scratch: Scratch | None = None) -> EventColumns:
        """Pack events that are in order."""
        parts, scratch = [], scratch or Scratch()
        for first in range(0, len(events), PART_EVENTS):
            some = events[first : first + PART_EVENTS]
            part = Part.of({name: np.ascontiguousarray(some[name]) for name in EVENT.names or ()}, scratch)
            assert part is not None, "the events are not in order"
            parts.append(part)
        return cls(tuple(parts), scratch)

    def windows(self) -> Iterator[EventColumns]:
        """Return the events of each part as such; parts are in one window if one begins at the time at which the one before ends."""
        window: list[Part] = []
        for part in self.parts:
            if window and window[-1].last[0] < part.first_ns:
                yield EventColumns(tuple(window), self.scratch)
                window = []
            window.append(part)
        if window:
            yield EventColumns(tuple(window), self.scratch)

    def kinds(self, kind: int) -> list[int]:
        """Return the numbers under which events of a kind are here: without the flag, with it."""
        return [number for number in (kind, kind | UNFINISHED) if number in self.counts]

    def column(self, kind: int, name: str) -> Ints:
        """Return a column of the events of a kind, in the order of time; numbers of 64 bits as signed ones."""
        column = np.empty(self.counts[kind], dtype=np.int64)
        filled = 0
        for part in self.parts:
            count = part.counts.get(kind, 0)
            if count:
                part.columns[kind, name].write(column[filled : filled + count])
                filled += count
        return column

    def split(self, chosen: Mapping[int, npt.NDArray[np.bool_]]) -> tuple[EventColumns, Events]:
        """Return the events without those chosen, by kind, and the chosen ones as records."""
        if not chosen:
            return self, no_events()
        kept: list[Part] = []
        taken = [no_events()]
        passed = dict.fromkeys(chosen, 0)
        for part in self.parts:
            records = np.empty(sum(part.counts.values()), dtype=EVENT)
            _unpack(part, records, 0)
            is_taken = np.zeros(len(records), dtype=bool)
            for kind in chosen:
                count = part.counts.get(kind, 0)
                is_taken[records["kind"] == kind] = chosen[kind][passed[kind] : passed[kind] + count]
                passed[kind] += count
            taken.append(records[is_taken])
            kept += EventColumns.of(records[~is_taken], self.scratch).parts
        return EventColumns(tuple(kept), self.scratch), np.concatenate(taken)

    def events(self) -> Events:
        """Return the events as records."""
        records = np.empty(len(self), dtype=EVENT)
        filled = 0
        for part in self.parts:
            filled = _unpack(part, records, filled)
        return records

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.counts))


def _unpack(part: Part, records: Events, filled: int) -> int:
    """Write the events of a part behind those that are there; return how many there are then."""
    count = sum(part.counts.values())
    every = np.empty(count, dtype=EVENT)
    place = 0
    for kind in sorted(part.counts):
        rows = every[place : place + part.counts[kind]]
        rows["kind"] = kind
        for name in NAMES:
            wide = np.empty(len(rows), dtype=np.int64)
            part.columns[kind, name].write(wide)
            rows[name] = wide.view(np.uint64) if EVENT[name] == np.uint64 else wide
        place += len(rows)
    # By kind, and within it by time and thread, they are already: what is left is the order of time.
    records[filled : filled + count] = every[np.argsort(every["ts"], kind="stable")]
    return filled + count
