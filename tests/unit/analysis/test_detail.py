"""However much there is: the longest waits of every phase are there one by one, and everything is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report.html import timeline
from cvtrace.analysis.report.html.detail import EACH, longest, merged, shares
from cvtrace.analysis.report.html.scene import scene
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.analysis.trace.intervals import numbered


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(-1, 4)), max_size=300), st.integers(0, 100), st.integers(1, 20)
)
def test_the_longest_of_every_group_are_kept(rows: list[tuple[int, int]], most: int, per_group: int) -> None:
    length, group = np.array(rows, dtype=np.int64).reshape(-1, 2).T

    indexes = longest(length, group, most, per_group)

    for number in np.unique(group):
        in_group = group == number
        expected = np.sort(length[in_group])[::-1][:per_group]
        assert np.sort(length[in_group & indexes])[::-1][: len(expected)].tolist() == expected.tolist()
    assert indexes.all() if len(rows) <= most else indexes.sum() >= min(most, len(rows))


def test_remaining_room_goes_to_the_longest_waits() -> None:
    length = np.arange(1000, dtype=np.int64)

    indexes = longest(length, length % 2, most=100, each=10)

    assert indexes.sum() == 100
    assert indexes[-100:].all()


def test_of_equally_long_ones_the_first_are_kept() -> None:
    length = np.array([7, 5, 5, 9, 5, 5], dtype=np.int64)

    indexes = longest(length, np.zeros(6, dtype=np.int64), most=4, each=4)

    assert np.flatnonzero(indexes).tolist() == [0, 1, 2, 3]


@given(st.lists(st.integers(-5, 2**21), max_size=50))
def test_numbered_equals_numpy_unique(values: list[int]) -> None:
    given_values = np.array(values, dtype=np.int64)

    for sample in (given_values, given_values % 7, given_values.astype(np.int32)):
        numbers, distinct = numbered(sample)
        expected, inverse = np.unique(sample, return_inverse=True)
        assert numbers.tolist() == expected.tolist()
        assert distinct.tolist() == inverse.tolist()


@pytest.mark.parametrize("room", [10, 100, 100_000])
def test_merged_marks_count_everything(room: int) -> None:
    random = np.random.default_rng(1)
    start = np.sort(random.integers(0, 10**9, 5000))
    end = start + random.integers(0, 10**5, 5000)
    keys = random.integers(-1, 3, (5000, 2))

    spans = merged(start, end, keys, 0, 10**9, room)

    assert spans.count.sum() == 5000
    assert spans.total.sum() == (end - start).sum()
    assert spans.longest.max() == (end - start).max()
    for key in np.unique(keys, axis=0):
        of_key = (keys == key).all(axis=1)
        assert spans.count[(spans.keys == key).all(axis=1)].sum() == of_key.sum()
    assert len(spans) <= max(room, 50 * 16)


def test_classes_of_a_stretch_are_stacked_in_their_lane() -> None:
    # GIVEN two classes that fill a stretch of one lane by 60 % and 20 %, and one that overfills that of another
    start = np.array([0, 600, 100, 0], dtype=np.int64)
    end = np.array([600, 800, 1100, 1000], dtype=np.int64)
    keys = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int64)
    spans = merged(start, end, keys, 0, 50_000, 1)
    # WHEN they are stacked
    bottom, top = shares(spans, spans.keys[:, 0])
    # THEN each is as high as its share, one upon the other, and none sticks out
    assert bottom.tolist() == [0, 600, 0, 500]
    assert top.tolist() == [600, 800, 500, 1000]


def test_the_timeline_holds_the_longest_waits_of_every_phase() -> None:
    # GIVEN a run of more requests than are drawn
    study, details, report = full_analysis(big_trace(30_000, tokens=50))
    shared = scene(study, details, report)
    # WHEN its timeline is made
    picture = timeline.picture(shared)
    source = picture.model.select_one({"name": "events"})
    left, right = (np.asarray(source.data[name]) for name in ("left", "right"))
    # THEN each of the longest requests of each phase is drawn on its own, and the picture is not too full
    drawn = {(round(a * 1e9), round(b * 1e9)) for a, b in zip(left, right, strict=True)}
    requests = study.requests
    for row in np.unique(study.request_phase[study.request_phase >= 0]):
        in_phase = np.flatnonzero(study.request_phase == row)
        length = (requests.replied - requests.sent)[in_phase]
        for request in in_phase[np.argsort(-length)[:EACH]]:
            span = (int(requests.sent[request]) - shared.since, int(requests.replied[request]) - shared.since)
            assert span in drawn or length[in_phase == request] == np.sort(length)[-EACH]
    node = picture.model.select_one({"name": "timeline"})
    assert len(left) + len(node.data["left"]) < 12_000
