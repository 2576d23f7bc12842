"""The Perfetto trace, read back with the protobuf of Perfetto's own package; its trace processor reads it in tests/browser."""

import io
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hostile import NAMES, hostile_run
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket, TrackEvent
from runs import cold_run, hot_run
from scene import MODEL, START, TARGET

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report import perfetto
from cvtrace.analysis.report.names import UNSEEN, printable
from cvtrace.analysis.report.perfetto.lanes import side_by_side
from cvtrace.analysis.report.perfetto.stamp import FIXED64, ID, TIME, Stamp
from cvtrace.analysis.storage.residency import residency
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.analysis.trace.intervals import ints
from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import Trace

MS = 1_000_000


@dataclass
class Slice:
    """A slice as it was read back."""

    name: str
    start: int
    end: int
    depth: int
    arguments: dict[str, Any]
    flows: list[int]


@dataclass
class Read:
    """A Perfetto trace read back: slices and counters by the name of their track."""

    slices: dict[str, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    parents: dict[str, str] = field(default_factory=dict)


def read(trace: Trace) -> Read:
    """Write a trace, parse it, and follow it as a reader must: sorted by time, in the order of the file where times are equal."""
    stream = io.BytesIO()
    perfetto.write(*full_analysis(trace), stream)
    return parsed(unpacked(stream.getvalue()))


def unpacked(data: bytes) -> PerfettoTrace:
    """Return a trace with the packets that lie compressed in it, as a reader of Perfetto's unpacks them."""
    trace, plain = PerfettoTrace.FromString(data), PerfettoTrace()
    for packet in trace.packet:
        if packet.HasField("compressed_packets"):
            inside = PerfettoTrace.FromString(zlib.decompress(packet.compressed_packets))
            assert not any(packet.HasField("compressed_packets") for packet in inside.packet)
            plain.packet.extend(inside.packet)
        else:
            plain.packet.append(packet)
    return plain


def parsed(trace: PerfettoTrace) -> Read:
    names, keys, texts = {}, {}, {}
    tracks: dict[int, Any] = {}
    events = []
    for packet in trace.packet:
        for field_name, into in (("event_names", names), ("debug_annotation_names", keys)):
            into.update({item.iid: item.name for item in getattr(packet.interned_data, field_name)})
        texts.update({value.iid: value.str.decode() for value in packet.interned_data.debug_annotation_string_values})
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            events.append(packet)
    parsed = Read()
    titles = {uuid: _title(track) for uuid, track in tracks.items()}
    parsed.parents = {titles[uuid]: titles.get(track.parent_uuid, "") for uuid, track in tracks.items()}
    open_now: dict[int, list[Slice]] = defaultdict(list)
    for packet in sorted(events, key=lambda packet: packet.timestamp):
        event, title = packet.track_event, titles[packet.track_event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            parsed.counters[title].append((packet.timestamp, event.counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_END:
            open_now[event.track_uuid].pop().end = packet.timestamp
        else:
            assert packet.sequence_flags & TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            arguments = {
                keys[annotation.name_iid]: texts[annotation.string_value_iid]
                if annotation.string_value_iid
                else annotation.uint_value
                for annotation in event.debug_annotations
            }
            stack = open_now[event.track_uuid]
            piece = Slice(names[event.name_iid], packet.timestamp, -1, len(stack), arguments, list(event.flow_ids))
            stack.append(piece)
            parsed.slices[title].append(piece)
    assert not any(open_now.values())
    return parsed


def _title(track: Any) -> str:
    if track.HasField("process"):
        return f"process {track.process.pid}"
    return f"thread {track.thread.tid}" if track.HasField("thread") else track.name


def test_phases_tokens_and_classes_are_those_of_the_report() -> None:
    study, _, report = full_analysis(cold_run().trace())

    parsed = read(cold_run().trace())

    spent: dict[str, float] = defaultdict(float)
    for phase in parsed.slices["Phases"]:
        spent[phase.name] += (phase.end - phase.start) / 1e9
    assert spent == pytest.approx({row.name: row.wall_s for row in report.phases})
    tokens = [(token.name, token.start, token.end) for token in parsed.slices["Tokens"]]
    assert tokens == [
        (f"token {row.index}", START + round(row.start_s * 1e9), START + round((row.start_s + row.wall_s) * 1e9))
        for row in report.tokens
    ]
    waited = sum(
        slice_.end - slice_.start for slice_ in parsed.slices[f"thread {TARGET}"] if slice_.name == "network.transfer"
    )
    assert waited == 80 * MS
    assert len(study.requests) == len(parsed.slices["FUSE requests"])


def test_a_request_slice_has_file_offset_and_size() -> None:
    parsed = read(cold_run().trace())

    read_in_load = next(request for request in parsed.slices["FUSE requests"] if request.name == "READ")
    assert read_in_load.start == START + 199_999_000
    assert read_in_load.end == START + 400_010_000
    assert read_in_load.arguments == {
        "file": MODEL,
        "phase": "load",
        "from": "network",
        "cause": "first_touch",
        "offset": 0,
        "bytes": 131072,
        "thread": TARGET,
        "unique": 4,
        "queued_ns": 101_000,
    }


def test_arrows_lead_from_token_to_request_to_fetch() -> None:
    parsed = read(big_trace(2000, tokens=20))

    starts = {
        track: {flow: slice_ for slice_ in parsed.slices[track] for flow in slice_.flows}
        for track in ("Tokens", "FUSE requests", "HTTP")
    }
    tokens, requests, gets = starts.values()
    of_tokens = [request for request in parsed.slices["FUSE requests"] if "token" in request.arguments]
    assert of_tokens
    for request in of_tokens:
        for flow in request.flows:
            assert tokens[flow].name == f"token {request.arguments['token']}"
            assert tokens[flow].start <= request.start <= tokens[flow].end
    assert set(tokens) == {flow for token in of_tokens for flow in token.flows}
    assert gets
    for flow, get in gets.items():
        assert requests[flow].start <= get.start
        assert get.end <= requests[flow].end
        assert requests[flow].arguments["from"] == "network"
    assert set(gets) & set(tokens)


def test_a_get_has_a_slice_for_each_part() -> None:
    parsed = read(cold_run().trace())

    get, *parts = parsed.slices["HTTP"]
    assert (get.name, get.depth, get.arguments["status"], get.arguments["bytes"]) == ("GET", 0, 200, 1_000_000)
    assert get.arguments["url"].endswith("0001P")
    assert get.arguments["waited_for_bytes_ns"] == 80 * MS
    assert [part.name for part in parts] == ["queue", "request", "transfer and fill"]
    assert [part.depth for part in parts] == [1, 1, 1]
    assert sum(part.end - part.start for part in parts) == get.end - get.start


@pytest.mark.parametrize(
    "trace", [cold_run().trace(), hot_run().trace(), hostile_run().trace(), big_trace(3000, tokens=30)]
)
def test_slices_of_a_track_overlap_only_where_they_nest(trace: Trace) -> None:
    parsed = read(trace)

    for track, slices in parsed.slices.items():
        assert {slice_.depth for slice_ in slices} <= ({0, 1} if track == "HTTP" else {0}), track
        assert all(slice_.end >= slice_.start for slice_ in slices)


def test_tracks_belong_to_their_process() -> None:
    parents = read(cold_run().trace()).parents

    assert parents["Phases"] == parents["Tokens"] == parents["FUSE requests"] == parents[f"thread {TARGET}"]
    assert parents["Phases"] == f"process {TARGET}"
    assert parents["HTTP"] == parents["Cache"] == parents["thread 201"] == "process 200"


def test_bytes_in_flight_begin_and_end_with_the_request() -> None:
    counters = read(cold_run().trace()).counters

    assert counters["HTTP bytes in flight"] == [(START + 200_300_000, 1_000_000), (START + 379_999_000, 0)]
    assert counters["READ bytes in flight"][0] == (START + 199_999_000, 131_072)
    assert counters["READ bytes in flight"][-1][1] == 0


def test_hostile_names_are_text() -> None:
    parsed = read(hostile_run().trace())

    files = {request.arguments["file"] for request in parsed.slices["FUSE requests"] if "file" in request.arguments}
    for name in NAMES:
        cleaned_name = printable(name.encode("utf-8", "replace").decode())
        assert any(file.endswith(f"/{cleaned_name}") for file in files)
    names = [slice_.name for slices in parsed.slices.values() for slice_ in slices]
    assert not any(UNSEEN.search(name) for name in [*files, *names, *parsed.parents])


def test_an_empty_recording_is_a_valid_perfetto_trace() -> None:
    scene = cold_run()
    scene.events, scene.texts = [], []

    assert set(read(scene.trace(mounts=[])).slices) <= {"Phases", f"thread {TARGET}"}


# Stamps.


def test_stamped_packets_equal_those_of_protobuf() -> None:
    def build(hole: Any) -> Any:
        packet = TracePacket(timestamp=hole("time", TIME))
        packet.track_event.track_uuid = hole("track", ID)
        packet.track_event.flow_ids.append(hole("flow", FIXED64))
        return packet

    columns = {"time": ints([0, 1, 2**63 - 1]), "track": ints([0, 127, 2**28 - 1]), "flow": ints([0, 255, 2**62])}
    rows = Stamp(build).press(columns, 3)

    for row in range(3):
        packet = TracePacket.FromString(rows[row].tobytes())
        assert packet.timestamp == columns["time"][row]
        assert packet.track_event.track_uuid == columns["track"][row]
        assert list(packet.track_event.flow_ids) == [columns["flow"][row]]


# Lanes.


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=60))
def test_lanes_are_disjoint_and_no_more_than_twice_what_is_needed(intervals: list[tuple[int, int]]) -> None:
    intervals.sort(key=lambda item: item[0])
    start = ints([begin for begin, _ in intervals])
    end = start + ints([length for _, length in intervals])

    lane = side_by_side(start, end)

    for number in range(int(lane.max(initial=-1)) + 1):
        of_lane = lane == number
        assert of_lane.any()
        assert (start[of_lane][1:] >= end[of_lane][:-1]).all()
    depth = max((int(((start <= at) & (end > at)).sum()) for at in range(90)), default=0)
    assert int(lane.max(initial=-1)) + 1 <= max(2 * depth, 1)


def test_one_thread_takes_one_lane() -> None:
    assert not side_by_side(np.arange(0, 1000, 10), np.arange(10, 1010, 10)).any()


# What is known of the page cache.


def test_pages_count_once_and_repeated_reads_are_reported() -> None:
    scene = cold_run()
    scene.add(Kind.PAGE_MAP, 450_000, tid=TARGET, a=42, b=7, c=16 << 48)  # pages that the READ had brought
    scene.add(Kind.PAGE_READ, 460_000, tid=TARGET, a=42, b=9, c=5 | 3 << 48)  # of a file that was cached
    scene.request(Opcode.READ, 700_000, 700_050, 700_100, sent=699_000, offset=65_536)

    cached = residency(full_analysis(scene.trace())[0])

    at = {round((time - START) / 1000): row for row, time in enumerate(cached.time.tolist())}
    page = 4096
    assert cached.seen_bytes[at[399_990]] == 131_072
    assert 450_000 not in at
    assert cached.seen_bytes[at[460_000]] == 131_072 + 3 * page
    assert cached.again_bytes[at[632_900]] == 0
    assert cached.again_bytes[at[700_050]] == 65_536
    assert cached.seen_bytes[-1] == 131_072 + 3 * page + 131_072 + 65_536


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 8)), min_size=1, max_size=40))
def test_the_residency_counter_equals_a_count_page_by_page(reads: list[tuple[int, int, int]]) -> None:
    scene = cold_run()
    scene.events, scene.texts = [], []
    present: set[tuple[int, int]] = set()
    again = 0
    for number, (node, page, pages) in enumerate(reads):
        at = 1000 + 100 * number
        scene.request(
            Opcode.READ, at, at + 10, at + 20, sent=at - 1, node=node + 2, offset=page * 4096, size=pages * 4096
        )
        pages_read = {(node, number) for number in range(page, page + pages)}
        again += len(pages_read & present)
        present |= pages_read

    cached = residency(full_analysis(scene.trace())[0])

    assert cached.seen_bytes[-1] == 4096 * len(present)
    assert cached.again_bytes[-1] == 4096 * again
