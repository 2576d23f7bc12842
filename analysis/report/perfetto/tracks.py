"""The tracks of a Perfetto trace: processes, threads, and what lies below them."""

from typing import Final

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import CounterDescriptor, Trace, TrackDescriptor

from cvtrace.analysis.report.names import printable
from cvtrace.analysis.report.perfetto.slices import SEQUENCE

UNITS: Final = {"bytes": CounterDescriptor.UNIT_SIZE_BYTES, "count": CounterDescriptor.UNIT_COUNT}


class Tracks:
    """Numbers tracks and keeps their descriptions; tracks of one parent are shown in the order they were made."""

    def __init__(self) -> None:
        self.described = Trace()
        self._last = 0
        self._processes: dict[int, int] = {}

    def process(self, pid: int, name: str) -> int:
        """Return the track of a process."""
        if pid not in self._processes:
            track = self._new()
            track.process.pid = pid
            track.process.process_name = printable(name)
            track.child_ordering = TrackDescriptor.EXPLICIT
            self._processes[pid] = track.uuid
        return self._processes[pid]

    def thread(self, pid: int, tid: int, name: str) -> int:
        """Return a new track of a thread of a process that was named."""
        track = self._new(self._processes[pid])
        track.thread.pid, track.thread.tid, track.thread.thread_name = pid, tid, printable(name)
        return self._last

    def lanes(self, parent: int, name: str, count: int) -> list[int]:
        """Return tracks of one name, which are shown as one."""
        rank = self._last + 1
        tracks = []
        for _ in range(count):
            track = self._new(parent)
            track.name, track.sibling_order_rank = printable(name), rank
            tracks.append(track.uuid)
        return tracks

    def counter(self, parent: int, name: str, unit: str) -> int:
        """Return the track of a counter."""
        track = self._new(parent)
        track.name, track.counter.unit = printable(name), UNITS[unit]
        return self._last

    def _new(self, parent: int = 0) -> TrackDescriptor:
        self._last += 1
        packet = self.described.packet.add(trusted_packet_sequence_id=SEQUENCE)
        track: TrackDescriptor = packet.track_descriptor
        track.uuid = self._last
        track.sibling_order_rank = self._last
        if parent:
            track.parent_uuid = parent
        return track
