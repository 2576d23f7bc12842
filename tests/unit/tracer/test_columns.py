"""Events as packed columns: what is unpacked is what was packed, whatever the numbers."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtrace.probes.events import EVENT, UNFINISHED, Events, in_order, no_texts
from cvtrace.tracer import columns
from cvtrace.tracer.columns import EventColumns
from cvtrace.tracer.store import Trace, TraceWriter, read_trace

U64 = st.sampled_from((0, 1, 255, 256, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)) | st.integers(
    0, 300
)
I32 = st.sampled_from((-(2**31), -110, -1, 0, 1, 2**31 - 1))
KIND = st.sampled_from((5, 40, 40 | UNFINISHED, 999))
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 20),
        U64,
        st.integers(0, 2**32 - 1),
        st.integers(0, 3),
        KIND,
        st.integers(0, 7),
        I32,
        U64,
        U64,
        U64,
    ),
    max_size=40,
)


def made(rows: list[tuple[int, ...]]) -> Events:
    return in_order(np.array(rows, dtype=EVENT))


@given(EVENTS, st.integers(1, 50))
@settings(deadline=None)
def test_events_are_unpacked_as_they_were(rows: list[tuple[int, ...]], part_events: int) -> None:
    events = made(rows)
    with mock.patch.object(columns, "PART_EVENTS", part_events):
        packed = EventColumns.of(events)
    assert len(packed) == len(events)
    assert packed.events().tobytes() == events.tobytes()
    for kind in packed:
        of_kind = events[events["kind"] == kind]
        for name in columns.NAMES:
            assert packed.column(kind, name).tolist() == of_kind[name].astype(np.int64).tolist()


@given(EVENTS, st.integers(1, 50), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_events_that_are_split_off_are_those_that_were_chosen(
    rows: list[tuple[int, ...]], part_events: int, random: object
) -> None:
    events = made(rows)
    with mock.patch.object(columns, "PART_EVENTS", part_events):
        packed = EventColumns.of(events)
        is_taken = np.array([random.random() < 0.5 for _ in events], dtype=bool)  # type: ignore[attr-defined]
        is_taken &= np.isin(events["kind"], (5, 999))
        chosen = {kind: is_taken[events["kind"] == kind] for kind in packed if kind in (5, 999)}
        kept, taken = packed.split(chosen)
    assert kept.events().tobytes() == events[~is_taken].tobytes()
    assert taken.tobytes() == events[is_taken].tobytes()


def test_a_column_takes_the_bytes_that_its_numbers_need() -> None:
    events = np.zeros(10_000, dtype=EVENT)
    events["ts"] = 10**15 + np.arange(10_000) * 1000
    events["c"], events["a"] = 131_072, np.uint64(2**63) + np.arange(10_000, dtype=np.uint64) % np.uint64(200)
    packed = EventColumns.of(events)
    sizes = {name: each.distances for (_, name), each in packed.parts[0].columns.items()}
    assert {name: each.read().itemsize for name, each in sizes.items() if each is not None} == {"ts": 4, "a": 1}


def test_a_file_that_is_not_in_order_is_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a finished trace whose events are in no order, as another program may write them
    events = np.zeros(300, dtype=EVENT)
    events["ts"], events["kind"] = np.random.default_rng(1).permutation(300) // 2, 5
    events["tid"] = np.arange(300)
    monkeypatch.setattr("cvtrace.tracer.sorted_groups.in_order", lambda records: records)
    writer = TraceWriter(tmp_path / "t", {})
    writer.write(events, no_texts())
    writer.finish()
    # WHEN it is read
    monkeypatch.setattr(columns, "PART_EVENTS", 64)
    monkeypatch.setattr("cvtrace.tracer.store.PART_EVENTS", 64)
    trace = read_trace(tmp_path / "t")
    # THEN its events are in order
    assert trace.columns().events().tobytes() == in_order(events).tobytes()
    assert isinstance(trace, Trace)
    assert trace.events.tobytes() == in_order(events).tobytes()
