"""`--max-size`: the oldest blocks go, what is left is a whole trace of the time since, and it says what went."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cvtrace.analysis import analyse
from cvtrace.probes.events import EVENT, TEXT, Events, Kind, no_texts
from cvtrace.tracer import oldest
from cvtrace.tracer.errors import TraceUnwritable
from cvtrace.tracer.store import TraceWriter, read_trace

LIMIT = 2_000_000
SECOND = 1_000_000_000
META = {"clock": {"start_ns": 0, "end_ns": None}, "probe": "ebpf", "target": {"pid": 7, "argv": ["server.py"]}}


def calls(second: int) -> Events:
    """Return 1,000 calls of 0.1 ms in a second of the recording."""
    events = np.zeros(1000, dtype=EVENT)
    events["ts"], events["dur"] = second * SECOND + np.arange(1000) * 1_000_000, 100_000
    events["kind"], events["tid"], events["tgid"], events["a"] = Kind.SYS_WAIT, 7, 7, 202
    return events


def record(path: Path, seconds: int, late: Events | None = None) -> TraceWriter:
    """Write so many seconds, a block for each; `late` comes with the last of them."""
    writer = TraceWriter(path, META, max_bytes=LIMIT)
    for second in range(seconds):
        texts = np.zeros(1, dtype=TEXT)
        texts["ts"], texts["tid"], texts["kind"] = second * SECOND, 7, Kind.SYS_WAIT
        texts["text"], texts["size"] = b"text", 4
        writer.write(calls(second), texts)
        writer.flush()
    if late is not None:
        writer.write(late, no_texts())
        writer.flush()
    return writer


@pytest.mark.parametrize("finished", [True, False])
def test_a_trace_keeps_the_newest_and_says_what_went(tmp_path: Path, finished: bool) -> None:
    # GIVEN a recording of 100 seconds, of which some 32 fit
    writer = record(tmp_path / "t", 100)
    blocks = (tmp_path / "t" / "events.blocks").stat().st_blocks * 512
    assert blocks + (tmp_path / "t" / "texts.blocks").stat().st_blocks * 512 < 1.2 * LIMIT
    # WHEN it ends, or is killed
    if finished:
        writer.finish(clock={"start_ns": 0, "end_ns": 100 * SECOND})
    else:
        writer.close()
    # THEN all of its last seconds is there, and nothing older
    trace = read_trace(tmp_path / "t")
    dropped = trace.meta["dropped"]
    first = dropped["events"] // 1000
    assert 60 <= first <= 75
    assert trace.events.tobytes() == np.concatenate([calls(second) for second in range(first, 100)]).tobytes()
    assert len(trace.texts) == 100 - dropped["texts"] == 100 - first
    assert len(trace) == 100_000 - dropped["events"]
    # AND the report says so
    report = analyse(trace)
    begin_s = dropped["before_ns"] / 1e9
    sentence = (
        f"the first {begin_s:.1f} s of the recording and {first * 1000:,} events were dropped for room (--max-size)"
    )
    assert report.trace.missing[0].startswith(sentence)
    if finished:
        assert trace.meta["events"] == len(trace)
        assert report.trace.duration_s == pytest.approx(100 - begin_s)
    assert report.verdict.answer == "inconclusive"
    assert sentence in report.verdict.missing


def test_what_was_under_way_at_the_begin_of_a_trace_begins_with_it(tmp_path: Path) -> None:
    # GIVEN a call of 90 seconds, one that was over long before, and one after the begin: all are recorded at the end
    late = calls(5)[:3]
    late["ts"][0], late["dur"][0] = 5 * SECOND, 90 * SECOND
    late["ts"][2], late["dur"][2] = 95 * SECOND, SECOND
    # WHEN the oldest blocks go
    writer = record(tmp_path / "t", 100, late)
    writer.finish()
    trace = read_trace(tmp_path / "t")
    begin_ns = trace.meta["dropped"]["before_ns"]
    # THEN the first one lasts from the begin of the trace to its end, and the second one is not there
    events = trace.events[trace.events["dur"] > 100_000]
    assert events["ts"].tolist() == [begin_ns, 95 * SECOND]
    assert events["dur"].tolist() == [95 * SECOND - begin_ns, SECOND]
    assert not (trace.events["ts"] < begin_ns).any()


def test_a_trace_that_fits_is_whole(tmp_path: Path) -> None:
    writer = record(tmp_path / "t", 10)
    writer.finish()
    trace = read_trace(tmp_path / "t")
    assert "dropped" not in trace.meta
    assert len(trace) == 10_000


def test_a_file_system_that_cannot_drop_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(oldest, "punch", refuse)
    with pytest.raises(
        TraceUnwritable, match="its file system cannot give back a part of a file, which --max-size needs"
    ):
        TraceWriter(tmp_path / "t", META, max_bytes=LIMIT)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("dropped", [7, {"before_ns": "x"}, {"events_at": -1}, {"events_at": 2**61, "texts_at": 3}, {}])
def test_a_forged_account_of_what_went_is_no_traceback(tmp_path: Path, dropped: object) -> None:
    writer = TraceWriter(tmp_path / "t", {**META, "dropped": dropped})
    writer.write(calls(1), no_texts())
    writer.flush()
    writer.close()
    trace = read_trace(tmp_path / "t")
    assert len(trace) in (0, 1000)
