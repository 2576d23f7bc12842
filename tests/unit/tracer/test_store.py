"""The trace on disk: what is written is read back, whatever happens to the writer or the files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtrace.probes.events import EVENT, TEXT, Events, Kind, Texts, no_texts
from cvtrace.tracer.blocks import BLOCK
from cvtrace.tracer.errors import TraceDamaged, TraceExists, TraceUnwritable
from cvtrace.tracer.folder import EVENTS_BLOCKS, EVENTS_PARQUET, META, TEXTS_BLOCKS
from cvtrace.tracer.store import TraceWriter, read_trace
from cvtrace.tracer.user import User

NOBODY = User(65534, 65534, (65534,), "nobody", "/")
META_FIELDS = {"clock": {"start_ns": 0, "end_ns": None}, "target": {"argv": ["x.py"]}}


def make_events(count: int, start: int = 0) -> Events:
    events = np.zeros(count, dtype=EVENT)
    events["ts"] = start + np.arange(count) * 1000
    events["dur"] = np.arange(count) % 977
    events["kind"] = Kind.SYS_READ
    events["ret"] = -(np.arange(count) % 5)
    for shift, name in enumerate("abc"):
        events[name] = np.arange(count, dtype=np.uint64) << np.uint64(20 * shift)
    return events


def make_texts(count: int, start: int = 0) -> Texts:
    texts = np.zeros(count, dtype=TEXT)
    texts["ts"] = start + np.arange(count) * 1000
    texts["kind"] = Kind.SYS_OPEN
    texts["text"] = [f"/cvmfs/ä/{number}".encode() for number in range(count)]
    texts["size"] = [len(text) for text in texts["text"]]
    return texts


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unfinished(path: Path, blocks: int = 3, events: int = 20) -> None:
    """Write a trace of some blocks and leave it as a killed recorder would."""
    writer = TraceWriter(path, META_FIELDS)
    for number in range(blocks):
        writer.write(make_events(events, number * 1_000_000), make_texts(3, number * 1_000_000))
        writer.flush()
    writer.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=6), st.integers(1, 7), st.booleans(), st.randoms())
def test_a_trace_returns_each_record_ordered_by_time(tmp_path_factory, counts, tied, finished, shuffle):
    # GIVEN records in any order, in blocks of any size, some of the same time but of other kinds or threads
    path = tmp_path_factory.mktemp("traces") / "trace"
    events = make_events(sum(counts))
    texts = make_texts(sum(counts))
    for records in (events, texts):
        number = np.arange(len(records))
        records["ts"] = number // tied * 1000
        records["kind"] = Kind.SYS_OPEN + number % tied // 3
        records["tid"] = number % tied % 3
    order = list(range(sum(counts)))
    shuffle.shuffle(order)
    # WHEN they are written and the trace is finished
    writer = TraceWriter(path, META_FIELDS)
    begin = 0
    for count in counts:
        part = order[begin : begin + count]
        writer.write(events[part], texts[part])
        writer.flush()
        begin += count
    if finished:
        writer.finish(end="exited")
    else:
        writer.close()
    # THEN all of them are read back, sorted by time, kind and thread, and nothing else is in the folder
    trace = read_trace(path)
    assert np.array_equal(trace.events, events)
    assert np.array_equal(trace.texts, texts)
    if not finished:
        assert trace.damage is not None
        return
    assert trace.damage is None
    assert trace.meta["end"] == "exited"
    assert (trace.meta["events"], trace.meta["texts"]) == (len(order), len(order))
    assert names_in(path) == ["events.parquet", "meta.json", "texts.parquet"]


def test_reading_a_trace_starts_no_thread(tmp_path):
    # GIVEN a trace, and a program without threads of numpy
    writer = TraceWriter(tmp_path / "t", META_FIELDS)
    writer.write(make_events(1000), make_texts(10))
    writer.finish(end="exited")
    program = """
import os, sys
from pathlib import Path
from cvtrace.tracer.store import read_trace
threads = set(os.listdir("/proc/self/task"))
read_trace(Path(sys.argv[1]))
print(len(set(os.listdir("/proc/self/task")) - threads))
"""
    # WHEN it reads the trace THEN there is no thread that could still hold a file when the process ends
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "t"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert result.stdout == "0\n"


def test_extreme_values_are_read_back(tmp_path):
    # GIVEN events with the largest numbers that fit, and a text with bytes that are no UTF-8
    events = np.full(2, -1, dtype=np.int8).view(np.uint8).repeat(28).view(EVENT).copy()
    texts = make_texts(1)
    texts["text"] = b"\xff\x00\xfe" + b"x" * 400
    # WHEN they go through a finished trace
    writer = TraceWriter(tmp_path / "t", META_FIELDS)
    writer.write(events, texts)
    writer.finish()
    # THEN nothing is changed
    trace = read_trace(tmp_path / "t")
    assert np.array_equal(trace.events, events)
    assert np.array_equal(trace.texts, texts)


def test_a_realistic_event_takes_less_than_16_bytes(tmp_path):
    # GIVEN a hundred thousand events with times, sizes and offsets as in a cold load
    rng = np.random.default_rng(7)
    events = np.zeros(100_000, dtype=EVENT)
    events["ts"] = 10**15 + np.cumsum(rng.integers(200, 5000, len(events)))
    events["dur"] = rng.lognormal(9, 1.5, len(events)).astype(np.uint64)
    events["kind"] = rng.choice([Kind.FUSE_SEND, Kind.FUSE_DAEMON, Kind.CACHE_READ, Kind.OFFCPU], len(events))
    events["tid"] = rng.integers(1000, 1016, len(events))
    events["a"] = np.arange(len(events)) // 4 * 2
    events["b"] = rng.integers(0, 8000, len(events)) * 131072
    # WHEN the trace is finished
    writer = TraceWriter(tmp_path / "t", META_FIELDS)
    writer.write(events, no_texts())
    writer.finish()
    # THEN it is small
    assert (tmp_path / "t" / EVENTS_PARQUET).stat().st_size / len(events) < 16


def test_truncation_at_every_byte_of_the_last_block_keeps_the_others(tmp_path):
    # GIVEN an unfinished trace of three blocks
    path = tmp_path / "t"
    unfinished(path, events=5)
    content = (path / EVENTS_BLOCKS).read_bytes()
    last = len(content) - len(content) // 3
    for length in range(last, len(content)):
        # WHEN the file ends anywhere in the last one
        (path / EVENTS_BLOCKS).write_bytes(content[:length])
        trace = read_trace(path)
        # THEN the first two are read, and the damage is said
        assert len(trace.events) == 10
        assert trace.damage is not None
        assert "killed" in trace.damage
        assert ("cut short" in trace.damage) == (length > last)


def test_any_flipped_bit_of_a_block_is_detected_or_harmless(tmp_path):
    # GIVEN an unfinished trace of three blocks
    path = tmp_path / "t"
    unfinished(path, events=3)
    content = (path / EVENTS_BLOCKS).read_bytes()
    expected = read_trace(path).events
    size = len(content) // 3
    pad = range(size + BLOCK.itemsize - 12, size + BLOCK.itemsize)
    for place in range(size, 2 * size):
        # WHEN one bit of the second block is flipped
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        (path / EVENTS_BLOCKS).write_bytes(flipped)
        trace = read_trace(path)
        # THEN the trace ends before it (only the header's padding means nothing)
        rows = expected if place in pad else expected[:3]
        assert np.array_equal(trace.events, rows), place


def test_a_finished_trace_whose_blocks_are_still_there_is_read(tmp_path):
    # GIVEN a trace whose recorder was killed between meta.json and the removal of the blocks
    path = tmp_path / "t"
    unfinished(path)
    blocks = {name: (path / name).read_bytes() for name in (EVENTS_BLOCKS, TEXTS_BLOCKS)}
    shutil.rmtree(path)
    writer = TraceWriter(path, META_FIELDS)
    writer.write(make_events(5), no_texts())
    writer.finish()
    for name, data in blocks.items():
        (path / name).write_bytes(data)
    # WHEN it is read THEN the Parquet files count
    assert len(read_trace(path).events) == 5
    # WHEN they are damaged THEN the blocks do
    (path / EVENTS_PARQUET).write_bytes(b"PAR1")
    assert len(read_trace(path).events) == 60


def not_there(path: Path) -> None:
    return


def a_file(path: Path) -> None:
    path.write_text("hello")


def empty_folder(path: Path) -> None:
    path.mkdir()


def foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("hello")


def foreign_meta(path: Path) -> None:
    path.mkdir()
    (path / META).write_text('{"schema": "something-else/1"}')


def garbage_meta(path: Path) -> None:
    unfinished(path)
    (path / META).write_bytes(b"\xff{{{")


def no_meta(path: Path) -> None:
    unfinished(path)
    (path / META).unlink()


def newer(path: Path) -> None:
    unfinished(path)
    meta = json.loads((path / META).read_text())
    (path / META).write_text(json.dumps({**meta, "schema": "cvtrace-trace/2"}))


def wrong_types(path: Path) -> None:
    unfinished(path)
    meta = json.loads((path / META).read_text())
    (path / META).write_text(json.dumps({**meta, "mounts": "none"}))


def no_blocks(path: Path) -> None:
    unfinished(path)
    (path / EVENTS_BLOCKS).unlink()


def cut_parquet(path: Path) -> None:
    writer = TraceWriter(path, META_FIELDS)
    writer.write(make_events(1000), no_texts())
    writer.finish()
    os.truncate(path / EVENTS_PARQUET, 100)


def flipped_parquet(path: Path) -> None:
    writer = TraceWriter(path, META_FIELDS)
    writer.write(make_events(1000), no_texts())
    writer.finish()
    data = bytearray((path / EVENTS_PARQUET).read_bytes())
    data[200] ^= 0x10
    (path / EVENTS_PARQUET).write_bytes(data)


@pytest.mark.parametrize(
    "make, message",
    [
        (not_there, "no such folder"),
        (a_file, "this is a file"),
        (empty_folder, "empty folder"),
        (foreign_folder, "not a trace"),
        (foreign_meta, "not a trace"),
        (garbage_meta, "not a trace"),
        (no_meta, "meta.json is missing"),
        (newer, "update cvtrace"),
        (wrong_types, "no proper mounts"),
        (no_blocks, "damaged"),
        (cut_parquet, "damaged"),
        (flipped_parquet, "damaged"),
    ],
)
def test_a_folder_that_is_not_a_trace_is_refused_in_one_sentence(tmp_path, make, message):
    # GIVEN something that cannot be read as a trace
    make(tmp_path / "t")
    # WHEN it is read THEN one sentence says why
    with pytest.raises(TraceDamaged, match=message) as refusal:
        read_trace(tmp_path / "t")
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_existing_folder_is_unchanged_without_force(tmp_path):
    # GIVEN a trace
    unfinished(tmp_path / "t")
    before = {name: (tmp_path / "t" / name).read_bytes() for name in names_in(tmp_path / "t")}
    # WHEN another is to be recorded there THEN it is refused and nothing is touched
    with pytest.raises(TraceExists, match="--force"):
        TraceWriter(tmp_path / "t", META_FIELDS)
    assert {name: (tmp_path / "t" / name).read_bytes() for name in names_in(tmp_path / "t")} == before


def test_force_replaces_a_trace_and_keeps_what_is_not_part_of_it(tmp_path):
    # GIVEN a trace, and a report that its owner put beside it
    unfinished(tmp_path / "t")
    (tmp_path / "t" / "report.html").write_text("mine")
    # WHEN another is recorded there with force
    writer = TraceWriter(tmp_path / "t", META_FIELDS, force=True)
    writer.write(make_events(1), no_texts())
    writer.finish()
    # THEN the new one is there, and so is the report
    assert len(read_trace(tmp_path / "t").events) == 1
    assert (tmp_path / "t" / "report.html").read_text() == "mine"


@pytest.mark.parametrize("make", [foreign_folder, foreign_meta, a_file])
def test_force_does_not_change_a_folder_that_is_not_a_trace(tmp_path, make):
    # GIVEN a folder or file of somebody else's
    make(tmp_path / "t")
    # WHEN a trace is to be recorded there with force THEN it is refused, and nothing is removed
    with pytest.raises(TraceExists, match="left alone"):
        TraceWriter(tmp_path / "t", META_FIELDS, force=True)
    if make is not a_file:
        assert len(names_in(tmp_path / "t")) == 1


def test_a_trace_that_is_being_recorded_is_not_replaced(tmp_path):
    # GIVEN a recorder at work
    writer = TraceWriter(tmp_path / "t", META_FIELDS)
    writer.write(make_events(1), no_texts())
    writer.flush()
    # WHEN it is read THEN the reader says so
    damage = read_trace(tmp_path / "t").damage
    assert damage is not None
    assert "still being recorded" in damage
    # WHEN another recorder forces its way THEN it is refused
    with pytest.raises(TraceExists, match="being recorded"):
        TraceWriter(tmp_path / "t", META_FIELDS, force=True)
    writer.finish()
    assert len(read_trace(tmp_path / "t").events) == 1


def test_a_planted_link_is_not_followed(tmp_path):
    # GIVEN a link where the trace is to be
    (tmp_path / "victim").mkdir()
    (tmp_path / "t").symlink_to(tmp_path / "victim")
    # WHEN it is recorded, with and without force THEN it is refused
    for force in (False, True):
        with pytest.raises(TraceExists):
            TraceWriter(tmp_path / "t", META_FIELDS, force=force)
    assert names_in(tmp_path / "victim") == []


def test_links_planted_inside_the_folder_are_replaced_not_followed(tmp_path):
    # GIVEN a recorder, and somebody who plants links in its folder before the trace is finished
    writer = TraceWriter(tmp_path / "t", META_FIELDS)
    writer.write(make_events(5), make_texts(5))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "t" / EVENTS_PARQUET).symlink_to(victim)
    (tmp_path / "t" / META).unlink()
    (tmp_path / "t" / META).symlink_to(victim)
    (tmp_path / "t" / "meta.json.new").symlink_to(victim)
    # WHEN it is finished
    writer.finish()
    # THEN the links are gone, and what they pointed to is untouched
    assert victim.read_text() == "precious"
    assert not (tmp_path / "t" / META).is_symlink()
    assert len(read_trace(tmp_path / "t").events) == 5


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    with pytest.raises(TraceUnwritable, match="No such file"):
        TraceWriter(tmp_path / "missing" / "t", META_FIELDS)
