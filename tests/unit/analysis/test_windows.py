"""Windows of the analysis: wherever a trace is cut, what crosses is carried, and the report is the same to the last byte."""

from collections.abc import Callable, Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import US, Scene
from test_golden import COLD
from test_golden import trace as golden_trace
from test_properties import SLOW, cut_after, scenes

from benchmarks.big_trace import big_trace
from cvtrace.analysis import analyse
from cvtrace.analysis.attribution import critical_path
from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.report import json
from cvtrace.analysis.trace.intervals import Ints, Lanes
from cvtrace.analysis.trace.recording import Recording
from cvtrace.tracer import columns, scratch
from cvtrace.tracer.store import Trace


def report(trace: Trace, cuts: Sequence[int]) -> str:
    """Return the report as JSON, the painting cut at some microseconds since the recording's begin."""

    with mock.patch.object(critical_path, "window_edges", edges_at(cuts)):
        return json.render(analyse(trace))


def edges_at(cuts: Sequence[int]) -> Callable[[Recording, Lanes], Ints]:
    """Return what stands in for `window_edges`: windows that are cut at some microseconds since the recording's begin."""

    def edges(_: Recording, lanes: Lanes) -> Ints:
        begin, end = lanes.start_ns, lanes.start_ns + lanes.span_ns - 1
        inner = sorted({begin + cut * US for cut in cuts if begin < begin + cut * US < end})
        return np.array([begin, *inner, end], dtype=np.int64)

    return edges


@given(scenes(), st.lists(st.integers(1, 1010), max_size=8))
@SLOW
def test_windows_cut_anywhere_give_the_same_report(scene: Scene, cuts: list[int]) -> None:
    trace = scene.trace()
    assert report(trace, cuts) == report(trace, ())


@given(scenes(), st.lists(st.integers(1, 1010), max_size=8), st.integers(0, 200))
@SLOW
def test_windows_of_a_recording_that_was_killed_give_the_same_report(
    scene: Scene, cuts: list[int], records: int
) -> None:
    trace = cut_after(scene.trace(), records)
    assert report(trace, cuts) == report(trace, ())


@pytest.mark.parametrize("run", COLD)
def test_windows_of_a_log_of_a_real_client_give_the_same_report(run: str) -> None:
    trace = golden_trace(run)
    whole = report(trace, ())
    span_us = int(trace.events["ts"][-1] - trace.events["ts"][0]) // US
    assert all(report(trace, range(1, span_us, span_us // parts)) == whole for parts in (2, 7, 40))


@given(scenes(), st.integers(1, 40))
@SLOW
def test_events_packed_in_parts_of_any_size_give_the_same_report(scene: Scene, part_events: int) -> None:
    # A part is a window, too.
    trace = scene.trace()
    whole = json.render(analyse(trace))
    with mock.patch.object(columns, "PART_EVENTS", part_events):
        assert json.render(analyse(trace)) == whole


def test_the_windows_of_a_long_trace_give_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a trace in which waits, requests and fetches reach from one window into the next
    trace = big_trace(3_000, tokens=40)
    whole = json.render(analyse(trace))
    # WHEN it is analysed in a hundred windows of 200 events
    monkeypatch.setattr(columns, "PART_EVENTS", 200)
    assert len(trace.columns().parts) > 90
    # THEN nothing of the report is another
    assert json.render(analyse(trace)) == whole


@pytest.mark.parametrize("in_memory", [0, 100_000])
def test_numbers_that_lie_in_a_file_give_the_same_report(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    trace = big_trace(1_000, tokens=40)
    whole = json.render(analyse(trace))
    monkeypatch.setattr(columns, "PART_EVENTS", 500)
    monkeypatch.setattr(scratch, "IN_MEMORY", in_memory)
    assert json.render(analyse(trace)) == whole


@given(scenes(), st.lists(st.integers(1, 1010), max_size=8))
@SLOW
def test_the_parts_of_a_path_are_the_path(scene: Scene, cuts: list[int]) -> None:
    # GIVEN a path whose parts end anywhere
    trace = scene.trace()
    with mock.patch.object(critical_path, "window_edges", edges_at(cuts)):
        study = study_of(trace)
    for path, of in ((study.critical_path, study.segments), (study.call_path, study.phase_calls)):
        # THEN the pieces of each interval follow each other without gap, and no two of them are one
        assert len(path) == sum(len(part) for part in path.parts()) == len(path.of)
        same = path.of[1:] == path.of[:-1]
        assert (path.start[1:] == path.end[:-1])[same].all()
        assert ((path.value[1:] != path.value[:-1]) | (path.request[1:] != path.request[:-1]))[same].all()
        assert (path.of[1:] >= path.of[:-1]).all()
        assert (path.start >= of.start[path.of]).all()


def test_columns_of_a_long_critical_path_are_wide_whatever_they_are_held_in() -> None:
    # GIVEN a path of some hundred pieces: their numbers fit one byte
    study = study_of(big_trace(50, tokens=40))
    path = study.call_path
    assert 40 < len(path.of) < 2**15
    # WHEN they are put into one number with something else THEN nothing overflows
    for column in (path.of, path.value, path.request, path.length, path.start, path.end):
        assert column.dtype == np.int64
    by_call = class_times(path, np.arange(41), 41)
    walls = (study.phase_calls.end - study.phase_calls.start).tolist()
    assert by_call.sum(axis=1).tolist() == walls
