"""Slices and counters of a Perfetto trace, as columns, and how they become packets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from cvtrace.analysis.report.names import printable
from cvtrace.analysis.report.perfetto.stamp import FIXED64, ID, TIME, Bytes, Stamp, interleaved
from cvtrace.analysis.trace.intervals import Ints

SEQUENCE: Final = 1
"""All packets are of one sequence, so that all share its interned names."""
CHUNK: Final = 20_000
"""Slices that are made at a time."""
Hole = Callable[[str, int], int]


class Words:
    """Strings told once and named by number; 0 is none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __getitem__(self, word: str) -> int:
        return self._numbers.setdefault(printable(word), len(self._numbers) + 1)

    def all(self, words: Sequence[str]) -> Ints:
        """Return the numbers of words."""
        return np.array([self[word] for word in words], dtype=np.int64)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._numbers.items())


@dataclass(frozen=True)
class Interned:
    """The three kinds of strings that packets name by number."""

    names: Words = field(default_factory=Words)
    keys: Words = field(default_factory=Words)
    texts: Words = field(default_factory=Words)


@dataclass(frozen=True)
class Slices:
    """Slices of some tracks, times in ns: those of one track disjoint and in order.

    `track` is a uuid, `name` a number of Interned.names. Arguments go by numbers of Interned.keys; one below 0 is left out, of
    `texts` (numbers of Interned.texts) below 1. `inner` slices (name, start, end) lie one after the other within; those without length are left
    out. `flows` are (slice, id): arrows lead from slice to slice of the same id.
    """

    start: Ints
    end: Ints
    track: Ints
    name: Ints
    numbers: dict[int, Ints] = field(default_factory=dict)
    texts: dict[int, Ints] = field(default_factory=dict)
    inner: tuple[tuple[int, Ints, Ints], ...] = ()
    flows: tuple[Ints, Ints] | None = None

    def packets(self) -> Iterator[Bytes]:
        """Return the packets, a chunk at a time."""
        shape, flow = self._shapes()
        for first in range(0, len(self.start), CHUNK):
            yield self._chunk(np.arange(first, min(first + CHUNK, len(self.start))), shape, flow)

    def _shapes(self) -> tuple[Ints, Ints]:
        """Return what each slice has (a number for each combination), and where its flows begin."""
        shape = np.zeros(len(self.start), dtype=np.int64)
        present = [values >= 0 for values in self.numbers.values()]
        present += [values >= 1 for values in self.texts.values()]
        present += [end > start for _, start, end in self.inner]
        for bit, there in enumerate(present):
            shape |= there.astype(np.int64) << bit
        count = np.bincount(self.flows[0], minlength=len(shape)) if self.flows else np.zeros(len(shape), dtype=np.int64)
        begin = np.append(0, np.cumsum(count))
        return shape | count << len(present), begin

    def _chunk(self, rows: Ints, shape: Ints, flow: Ints) -> Bytes:
        parts = []
        for one in np.unique(shape[rows]).tolist():
            places = np.flatnonzero(shape[rows] == one)
            parts.append((places, self._press(rows[places], one, flow)))
        return interleaved(parts, len(rows))

    def _press(self, rows: Ints, shape: int, flow: Ints) -> Bytes:
        keys = (*self.numbers, *self.texts)
        is_present = [bool(shape >> bit & 1) for bit in range(len(keys) + len(self.inner))]
        flows = shape >> len(is_present)
        stamp = _stamp(
            tuple((key, place < len(self.numbers)) for place, key in enumerate(keys) if is_present[place]),
            tuple(name for (name, _, _), there in zip(self.inner, is_present[len(keys) :], strict=True) if there),
            flows,
        )
        values = [*self.numbers.values(), *self.texts.values()]
        columns = {"start": self.start[rows], "end": self.end[rows], "track": self.track[rows], "name": self.name[rows]}
        columns |= {f"end track {place}": self.track[rows] for place in range(len(self.inner) + 1)}
        columns |= {f"inner track {place}": self.track[rows] for place in range(len(self.inner))}
        present = [value for value, there in zip(values, is_present, strict=False) if there]
        columns |= {f"argument {place}": value[rows] for place, value in enumerate(present)}
        inner = [each for each, there in zip(self.inner, is_present[len(keys) :], strict=True) if there]
        for place, (_, start, end) in enumerate(inner):
            columns |= {f"inner start {place}": start[rows], f"inner end {place}": end[rows]}
        if self.flows is not None:
            columns |= {f"flow {place}": self.flows[1][flow[rows] + place] for place in range(flows)}
        return stamp.press(columns, len(rows))


@lru_cache(maxsize=1000)
def _stamp(arguments: tuple[tuple[int, bool], ...], inner: tuple[int, ...], flows: int) -> Stamp:
    """Return the packets of one slice: its begin with arguments (key, whether a number), inner slices, its end."""

    def build(hole: Hole) -> Any:
        trace = Trace()
        event = begin(trace.packet.add(), hole("start", TIME), hole("track", ID), hole("name", ID))
        for place, (key, is_number) in enumerate(arguments):
            annotation = event.debug_annotations.add(name_iid=key)
            if is_number:
                annotation.uint_value = hole(f"argument {place}", TIME)
            else:
                annotation.string_value_iid = hole(f"argument {place}", ID)
        event.flow_ids.extend([hole(f"flow {place}", FIXED64) for place in range(flows)])
        for place, name in enumerate(inner):
            begin(trace.packet.add(), hole(f"inner start {place}", TIME), hole(f"inner track {place}", ID), name)
            finish(trace.packet.add(), hole(f"inner end {place}", TIME), hole(f"end track {place}", ID))
        finish(trace.packet.add(), hole("end", TIME), hole(f"end track {len(inner)}", ID))
        return trace

    return Stamp(build)


def begin(packet: TracePacket, time_ns: int, track: int, name: int) -> TrackEvent:
    """Fill in the packet of a slice's begin; returns its event."""
    packet.timestamp = time_ns
    packet.trusted_packet_sequence_id = SEQUENCE
    packet.sequence_flags = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
    event = packet.track_event
    event.type, event.track_uuid, event.name_iid = TrackEvent.TYPE_SLICE_BEGIN, track, name
    return event


def finish(packet: TracePacket, time_ns: int, track: int) -> None:
    """Fill in the packet of a slice's end."""
    packet.timestamp = time_ns
    packet.trusted_packet_sequence_id = SEQUENCE
    packet.track_event.type, packet.track_event.track_uuid = TrackEvent.TYPE_SLICE_END, track


@dataclass(frozen=True)
class Counter:
    """Values (not below 0) of one track at times in ns."""

    track: int
    time: Ints
    value: Ints

    def packets(self) -> Iterator[Bytes]:
        """Return the packets, a chunk at a time."""

        def build(hole: Hole) -> Any:
            trace = Trace()
            packet = trace.packet.add(timestamp=hole("time", TIME), trusted_packet_sequence_id=SEQUENCE)
            packet.track_event.type, packet.track_event.track_uuid = TrackEvent.TYPE_COUNTER, self.track
            packet.track_event.counter_value = hole("value", TIME)
            return trace

        stamp = Stamp(build)
        for first in range(0, len(self.time), CHUNK):
            part = slice(first, first + CHUNK)
            yield stamp.press({"time": self.time[part], "value": self.value[part]}, len(self.time[part])).reshape(-1)
