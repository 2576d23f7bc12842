"""The times of a run come from the marks of its calls."""

from __future__ import annotations

import numpy as np
import pytest

from cvtrace.analysis.bench.times import RunTimes, run_times
from cvtrace.probes.events import EVENT, TEXT, Kind, no_texts
from cvtrace.probes.phases.functions import INDEX

Call = tuple[str, int, int]


def events(*calls: Call, owner: int = 1) -> np.ndarray:
    """Return a PHASE event for each call: its name, its begin and its end in milliseconds."""
    rows = np.zeros(len(calls), dtype=EVENT)
    for row, (name, start, end) in zip(rows, calls, strict=True):
        row["kind"], row["a"], row["b"] = Kind.PHASE, INDEX[name], owner
        row["ts"], row["dur"], row["tid"] = start * 1_000_000, (end - start) * 1_000_000, 7
    return rows


PROMPT, TOKEN = "OgaGenerator_AppendTokens", "OgaGenerator_GenerateNextToken"


def test_load_first_token_and_rate() -> None:
    calls = events(
        ("OgaCreateConfig", 0, 10),
        ("OgaCreateModelFromConfig", 20, 120),
        ("OgaCreateGenerator", 200, 210),
        (PROMPT, 300, 350),
        (TOKEN, 360, 370),
        (TOKEN, 370, 390),
        (TOKEN, 390, 470),
    )
    times = run_times(calls, no_texts())
    assert times.load_s == pytest.approx(0.110)
    assert times.first_token_s == pytest.approx(0.070)
    assert times.tokens == 3
    assert times.tokens_per_s == pytest.approx(2 / 0.1)


def test_loads_in_each_other_count_once_and_failed_calls_not_at_all() -> None:
    calls = events(("OgaCreateModel", 0, 100), ("onnxruntime.InferenceSession", 20, 60), ("OgaLoadAdapter", 90, 130))
    assert run_times(calls, no_texts()).load_s == pytest.approx(0.130)
    calls["ret"][2] = -1
    assert run_times(calls, no_texts()).load_s == pytest.approx(0.100)


def test_several_answers_are_timed_each_on_its_own() -> None:
    calls = events(
        (PROMPT, 0, 10),
        (TOKEN, 10, 20),
        (TOKEN, 20, 40),
        (PROMPT, 1000, 1010),
        (TOKEN, 1010, 1020),
        (TOKEN, 1020, 1060),
    )
    times = run_times(calls, no_texts())
    assert times.first_token_s == pytest.approx(0.020)
    assert times.tokens_per_s == pytest.approx(2 / 0.060)


def test_sequences_of_a_batch_make_a_token_each() -> None:
    calls = events((PROMPT, 0, 10), (TOKEN, 10, 20), (TOKEN, 20, 40))
    note = events(("cvtrace.sequences", 0, 1))
    note["c"] = 4
    assert run_times(np.concatenate([note, calls]), no_texts()).tokens == 8


def test_a_phase_that_the_script_names_load_stands_for_a_library_that_is_not_known() -> None:
    calls = events(("cvtrace.phase", 0, 40), ("cvtrace.phase", 50, 90))
    texts = np.zeros(2, dtype=TEXT)
    texts["kind"], texts["tid"], texts["ts"], texts["text"] = Kind.PHASE, 7, calls["ts"], [b"load", b"other"]
    assert run_times(calls, texts).load_s == pytest.approx(0.040)


def test_a_program_without_marks_has_no_times() -> None:
    assert run_times(events(), no_texts()) == RunTimes()
