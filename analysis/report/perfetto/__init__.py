"""A run for Perfetto (https://ui.perfetto.dev): its native protobuf, by the schema of the `perfetto` package.

    stamp      messages of one shape, made by the million
    slices     slices and counters as columns, and their packets; lanes: what overlaps, side by side
    packed     packets compressed
    tracks     processes, threads and what lies below them
    content    what is told: phases, tokens, threads, requests, the client's cache, fetches
    counters   bytes under way, and what is known of the page cache

Times are those of the trace, CLOCK_MONOTONIC. Arrows lead from a token to the requests sent for it, and from a request to the GETs
it caused.
"""

from typing import BinaryIO

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BuiltinClock, Trace, TracePacket

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.report.perfetto.content import Content
from cvtrace.analysis.report.perfetto.counters import counters
from cvtrace.analysis.report.perfetto.packed import packed
from cvtrace.analysis.report.perfetto.slices import SEQUENCE, Counter, Interned, Slices
from cvtrace.analysis.storage.tables import Tables


def write(study: Study, details: Tables, report: Report, stream: BinaryIO) -> None:
    """Write the trace; what is told of single events leaves in chunks, each packed."""
    interned = Interned()
    content = Content(study, details, report, interned)
    parts: list[Slices | Counter] = [*content.slices(), *counters(study, content)]
    tokens = content.tokens()
    for message in (_opening(study, interned), content.tracks.described):
        stream.write(message.SerializeToString())
    stream.write(packed(tokens.SerializeToString()))
    for part in parts:
        for packets in part.packets():
            stream.write(packed(packets.data))


def _opening(study: Study, interned: Interned) -> Trace:
    """Return the first packets: which clock the times are of, and all names."""
    trace = Trace()
    start_ns, _ = life(study.recording)
    clocks = trace.packet.add(timestamp=start_ns, trusted_packet_sequence_id=SEQUENCE).clock_snapshot
    clocks.primary_trace_clock = BuiltinClock.BUILTIN_CLOCK_MONOTONIC
    clocks.clocks.add(clock_id=BuiltinClock.BUILTIN_CLOCK_MONOTONIC, timestamp=start_ns)
    offset_ns = int((study.recording.meta.get("clock") or {}).get("realtime_offset_ns") or 0)
    if offset_ns > 0:
        clocks.clocks.add(clock_id=BuiltinClock.BUILTIN_CLOCK_REALTIME, timestamp=start_ns + offset_ns)
    packet = trace.packet.add(trusted_packet_sequence_id=SEQUENCE)
    packet.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    packet.trace_packet_defaults.timestamp_clock_id = BuiltinClock.BUILTIN_CLOCK_MONOTONIC
    names = packet.interned_data
    for word, number in interned.names:
        names.event_names.add(iid=number, name=word)
    for word, number in interned.keys:
        names.debug_annotation_names.add(iid=number, name=word)
    for word, number in interned.texts:
        names.debug_annotation_string_values.add(iid=number, str=word.encode("utf-8", "replace"))
    return trace
