"""Files with false or huge sizes are refused in one sentence."""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvtrace.analysis import analyse
from cvtrace.analysis.evidence.access_log import LogUnreadable, read_access_log
from cvtrace.probes.events import EVENT, TEXT, no_texts
from cvtrace.tracer import parquet, room
from cvtrace.tracer.blocks import BlockSource
from cvtrace.tracer.errors import TraceDamaged, TraceTooLarge
from cvtrace.tracer.sorted_groups import SortedGroups
from cvtrace.tracer.store import TraceWriter, read_trace

META = {"clock": {"start_ns": 0, "end_ns": 10**9}, "target": {"argv": ["x.py"]}, "mounts": []}


def trace_of(path: Path, count: int = 1000, finished: bool = True, **meta: Any) -> Path:
    """Write a trace with so many events."""
    writer = TraceWriter(path, {**META, **meta})
    events = np.zeros(count, dtype=EVENT)
    events["ts"] = np.arange(count) * 1000
    events["kind"] = 17
    writer.write(events, no_texts())
    if finished:
        writer.finish(end="exited")
    else:
        writer.flush()
        writer.close()
    return path


def refusal(path: Path) -> str:
    """Return the sentence with which a trace is refused, within a few seconds and some memory."""
    with pytest.raises(TraceDamaged) as refused:
        analyse(read_trace(path))
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def rewrite_meta(path: Path, **changes: Any) -> None:
    meta = json.loads((path / "meta.json").read_bytes())
    (path / "meta.json").write_text(json.dumps({**meta, **changes}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def zeros(rows: int, groups: int = 1, **options: Any) -> bytes:
    """Return events.parquet of so many equal events."""
    out = io.BytesIO()
    with pq.ParquetWriter(out, parquet.EVENT_SCHEMA, compression="zstd", **options) as writer:
        for _ in range(groups):
            writer.write_table(
                pa.table(
                    [pa.array(np.zeros(rows // groups, dtype=EVENT[field.name])) for field in parquet.EVENT_SCHEMA],
                    schema=parquet.EVENT_SCHEMA,
                ),
                row_group_size=rows,
            )
    return out.getvalue()


def test_a_3_mb_file_of_a_hundred_million_rows_is_refused(tmp_path):
    """It took 5.6 GB, and ended in a traceback of MemoryError where there was less."""
    path = trace_of(tmp_path / "t")
    (path / "events.parquet").write_bytes(zeros(100_000_000, groups=100))
    assert (path / "events.parquet").stat().st_size < 4e6
    before = peak_mb()
    assert "claims 100,000,000 records in" in refusal(path)
    assert peak_mb() - before < 200


def test_a_small_file_of_thirty_million_events_is_read(tmp_path, monkeypatch):
    """GIVEN an honest trace whose events are so alike that they take next to nothing THEN it is not refused."""
    room.check_room(tmp_path, 30_000_000, 0, 1_000_000)
    # AND one with more is read if it takes as much room on disk as events do
    monkeypatch.setattr(room, "available_bytes", lambda: 10**12)
    room.check_room(tmp_path, 300_000_000, 1_000_000, 1_800_000_000)


def test_a_trace_larger_than_memory_is_refused_with_the_size_it_needs(tmp_path, monkeypatch):
    """It was killed by the kernel, or ended in a traceback."""
    path = trace_of(tmp_path / "t")
    monkeypatch.setattr(room, "available_bytes", lambda: 50_000)
    with pytest.raises(
        TraceTooLarge, match=r"1,000 events .* need 0\.0 GB of memory, .* read it on a machine with more"
    ):
        read_trace(path)


def test_a_row_group_larger_than_cvtrace_writes_is_refused(tmp_path):
    """All of it was unpacked at once."""
    path = trace_of(tmp_path / "t")
    (path / "events.parquet").write_bytes(zeros(20_000_000))
    assert "a group of a Parquet file has 20,000,000 rows" in refusal(path)


def test_a_page_that_unpacks_to_more_than_cvtrace_writes_is_refused(tmp_path):
    """A page of some 100 kB made Arrow take gigabytes."""
    path = trace_of(tmp_path / "t")
    (path / "events.parquet").write_bytes(
        zeros(4_000_000, data_page_size=1 << 30, max_rows_per_page=1 << 30, use_dictionary=False)
    )
    assert "a page of a Parquet file unpacks to 32,000" in refusal(path)


def texts_parquet(texts: list[bytes], **options: Any) -> bytes:
    out = io.BytesIO()
    count = len(texts)
    columns = {
        "ts": np.arange(count, dtype="u8"),
        "tid": np.zeros(count, "u4"),
        "kind": np.zeros(count, "u2"),
        "size": np.zeros(count, "u2"),
    }
    pq.write_table(
        pa.table({**columns, "text": pa.array(texts, type=pa.binary())}, schema=parquet.TEXT_SCHEMA),
        out,
        compression="zstd",
        **options,
    )
    return out.getvalue()


def test_a_text_of_megabytes_repeated_a_hundred_thousand_times_is_refused(tmp_path):
    """As a dictionary it takes 10 MB on disk; unpacked it was 1 TB."""
    path = trace_of(tmp_path / "t")
    value = pa.array([b"x" * 1_000_000], type=pa.binary())
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, "i4")), value)
    out = io.BytesIO()
    numbers = [pa.array(np.zeros(100_000, dtype=kind)) for kind in ("u8", "u4", "u2", "u2")]
    pq.write_table(
        pa.table([*numbers, text], names=["ts", "tid", "kind", "size", "text"]),
        out,
        compression="zstd",
        store_schema=False,
    )
    (path / "texts.parquet").write_bytes(out.getvalue())
    assert len(out.getvalue()) < 1e6
    before = peak_mb()
    assert "a text is longer than is recorded" in refusal(path)
    assert peak_mb() - before < 500


def test_delta_encoded_texts_are_refused(tmp_path):
    """Each text is the one before and one byte more: 130,000 of them take 1 MB, and unpacked 8.5 GB."""
    path = trace_of(tmp_path / "t")
    data = texts_parquet(
        [b"x" * (number % 400) for number in range(1000)],
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY"},
    )
    (path / "texts.parquet").write_bytes(data)
    assert "an encoding that cvtrace does not use" in refusal(path)


def test_parquet_metadata_of_megabytes_is_refused(tmp_path):
    """It was parsed whole."""
    path = trace_of(tmp_path / "t")
    data = bytearray(zeros(1000))
    data[-8:-4] = (9 << 20).to_bytes(4, "little")
    (path / "events.parquet").write_bytes(b"PAR1" + bytes(10 << 20) + bytes(data))
    assert "the metadata of a Parquet file has" in refusal(path)


@pytest.mark.parametrize("seed", range(30))
def test_broken_pages_are_refused_in_one_sentence(tmp_path, seed):
    """Some of Arrow's complaints were tracebacks, or several lines."""
    path = trace_of(tmp_path / "t", 3000)
    data = bytearray((path / "events.parquet").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(data), 8):
        data[place] = rng.integers(256)
    (path / "events.parquet").write_bytes(bytes(data))
    message = "read"
    try:
        analyse(read_trace(path))
    except TraceDamaged as refused:
        message = str(refused)
    assert "\n" not in message


# meta.json


def test_a_meta_json_of_300_mb_is_refused(tmp_path):
    """It was read and parsed: gigabytes, then a traceback."""
    path = trace_of(tmp_path / "t")
    with (path / "meta.json").open("r+b") as file:
        file.truncate(300_000_000)
    before = peak_mb()
    assert "meta.json is larger than the 16 MB that are read" in refusal(path)
    assert peak_mb() - before < 100


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'{"a":1},', b"0,"])
def test_a_meta_json_with_millions_of_values_is_refused(tmp_path, piece):
    """Each of them takes many times its bytes in memory."""
    path = trace_of(tmp_path / "t")
    content = b'{"schema": "cvtrace-trace/1", "mounts": [' + piece * (15_000_000 // len(piece)) + b"0]}"
    (path / "meta.json").write_bytes(content)
    assert "more than the 1,000,000 values that are read" in refusal(path)


@pytest.mark.parametrize(
    "deep", [b"[" * 500_000, b'{"a":' * 400_000, b'{"mounts":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
)
def test_a_deeply_nested_meta_json_is_refused(tmp_path, deep):
    """A RecursionError, caught in one reader only."""
    path = trace_of(tmp_path / "t")
    (path / "meta.json").write_bytes(deep)
    assert "meta.json" in refusal(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mounts": [{"path": "/cvmfs/a"}] * 5000}, "has 5,000 mounts"),
        ({"missing": ["x"] * 20_000}, "has 20,000 missing"),
        ({"lost": {f"k{number}": 1 for number in range(20_000)}}, "has 20,000 lost"),
        ({"host": "h" * 1_000_000}, "more than 262,144 characters in host"),
        ({"mounts": [{"path": "p" * 1_000_000}]}, "characters in mounts.path"),
        ({"target": {"argv": ["a" * 1_000_000]}}, "characters in target.argv"),
        ({"x" * 1_000_000: 1}, "characters in a name"),
    ],
)
def test_lists_and_texts_longer_than_cvtrace_writes_are_refused(tmp_path, changes, message):
    """The report took minutes, or a line of megabytes went to the terminal."""
    path = trace_of(tmp_path / "t")
    rewrite_meta(path, **changes)
    assert message in refusal(path)


# Blocks


def test_memory_is_not_allocated_for_the_claimed_size_of_sparse_blocks(tmp_path):
    """A header that claims 4 billion records, in a file of 1 TB without a byte of data."""
    path = trace_of(tmp_path / "t", finished=False)
    with (path / "events.blocks").open("r+b") as file:
        file.truncate(1 << 40)
    assert "read it on a machine with more" in refusal(path)


def in_a_child(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120
    )


MAKE = """
import os, sys, numpy as np
from pathlib import Path
from cvtrace.probes.events import EVENT, no_texts
from cvtrace.tracer import parquet, blocks
from cvtrace.tracer.store import TraceWriter, read_trace
path = Path(sys.argv[1])
writer = TraceWriter(path, {"clock": {"start_ns": 0, "end_ns": 1}, "target": {"argv": ["x"]}, "mounts": []})
for number in range(40):
    events = np.zeros(10_000, dtype=EVENT)
    events["ts"] = number * 10**6 + np.arange(10_000)
    writer.write(events, no_texts())
    writer.flush()
"""


def test_a_block_file_that_is_cut_short_does_not_end_the_recorder(tmp_path):
    """GIVEN a target that truncates events.blocks while the trace is finished: the recorder died of SIGBUS."""
    program = MAKE + (
        "parquet.ROWS_PER_GROUP = 50_000\n"
        "writer.finish(lambda done, total: os.truncate(path / 'events.blocks', 700_000), end='exited')\n"
        "print(writer.error)\nprint(read_trace(path).damage)\n"
    )
    result = in_a_child(program, str(tmp_path / "t"))
    assert result.returncode != -signal.SIGBUS
    assert result.returncode == 0, result.stderr
    error, damage = result.stdout.splitlines()
    assert "was cut short while it was read" in error
    assert "what was recorded before is kept" in error
    assert damage.startswith("the trace ends at 0.0 s")


def test_a_block_file_that_is_cut_short_does_not_end_a_reader(tmp_path):
    """GIVEN a trace that is still recorded, cut while it is read: `cvtrace report` died of SIGBUS."""
    program = MAKE + (
        "writer.close()\nreal = os.preadv\n"
        "def cut(*words):\n    os.truncate(path / 'events.blocks', 700_000)\n    return real(*words)\n"
        "blocks.os.preadv = cut\n"
        "trace = read_trace(path)\nprint(len(trace.events), trace.damage)\n"
    )
    result = in_a_child(program, str(tmp_path / "t"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("10000 the trace ends at ")
    assert "a block is cut short" in result.stdout


def test_records_in_a_hostile_order_are_put_in_order_group_by_group(tmp_path):
    """GIVEN blocks whose times are from all over the recording THEN no group is much larger than asked for."""
    writer = TraceWriter(tmp_path / "t", {})
    times = np.random.default_rng(1).permutation(50_000)
    for part in np.split(times, 50):
        events = np.zeros(len(part), dtype=EVENT)
        events["ts"] = part
        writer.write(events, no_texts())
        writer.flush()
    with (tmp_path / "t" / "events.blocks").open("rb") as file:
        groups = list(SortedGroups(BlockSource(file.fileno()), EVENT, rows=2_000))
    writer.close()
    assert np.array_equal(np.concatenate(groups)["ts"], np.arange(50_000))
    assert max(map(len, groups)) < 3_000
    assert len(groups) >= 20


def test_overlong_lines_of_an_access_log_are_skipped(tmp_path, monkeypatch):
    """Paths of 64 kB were kept, as many as there were."""
    line = '1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET {} HTTP/1.1" 200 5\n'
    (tmp_path / "log").write_text(line.format("/cvmfs/a/" + "x" * 50_000) * 3 + line.format("/cvmfs/a/data") * 2)
    log = read_access_log(tmp_path / "log", ("/cvmfs/a/",))
    assert (len(log), log.unreadable) == (2, 3)
    monkeypatch.setattr("cvtrace.analysis.evidence.access_log.MOST_LINES", 1)
    with pytest.raises(LogUnreadable, match="cut it to the hour"):
        read_access_log(tmp_path / "log", ("/cvmfs/a/",))


def test_texts_within_the_limits_are_read(tmp_path):
    path = trace_of(tmp_path / "t")
    (path / "texts.parquet").write_bytes(texts_parquet([b"x" * TEXT["text"].itemsize, b"", b"\xff\x00\xfe"]))
    assert [len(text) for text in read_trace(path).texts["text"]] == [496, 0, 3]
