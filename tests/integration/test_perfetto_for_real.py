"""A real cold run as a Perfetto trace: arrows lead from a token over its request to the fetch it waited for."""

from __future__ import annotations

import subprocess
import zlib
from collections import defaultdict
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, cvtrace, example
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from cvtrace.lab.stack import Options, temporary

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a cold load and 8 tokens of a model in small chunks, so that tokens fetch."""
    folder = tmp_path_factory.mktemp("perfetto") / "trace"
    with temporary(Options(size_bytes=20_000_000, client="lab", chunk_bytes=1 << 20)) as stack:
        options = ["--probes", "ebpf", "-o", folder, "--no-summary", "--mount", stack.mountpoint]
        cvtrace("run", *options, "--", *example(stack.model, 8))
    return folder


def test_an_arrow_leads_from_a_token_to_its_fetch(trace: Path) -> None:
    # WHEN the trace is written for Perfetto
    result = subprocess.run([*CVTRACE, "report", str(trace), "--format", "perfetto"], capture_output=True, check=True)
    perfetto_trace = Trace.FromString(result.stdout)
    for packet in [packet for packet in perfetto_trace.packet if packet.HasField("compressed_packets")]:
        perfetto_trace.MergeFromString(zlib.decompress(packet.compressed_packets))

    # THEN the slices that share an arrow are a token, a request of its time, and a GET within that
    names: dict[int, str] = {}
    for packet in perfetto_trace.packet:
        names.update({name.iid: name.name for name in packet.interned_data.event_names})
    carried = defaultdict(list)
    for packet in perfetto_trace.packet:
        if packet.track_event.type == TrackEvent.TYPE_SLICE_BEGIN:
            for flow in packet.track_event.flow_ids:
                carried[flow].append((packet.timestamp, names[packet.track_event.name_iid]))
    chains = [[name for _, name in sorted(chain)] for chain in carried.values()]
    complete = [chain for chain in chains if len(chain) == 3]
    assert complete, chains
    assert all(chain[0].startswith("token ") and chain[1:] == ["READ", "GET"] for chain in complete), complete
    assert all(chain[-1] == "GET" or chain[0].startswith("token ") for chain in chains)
