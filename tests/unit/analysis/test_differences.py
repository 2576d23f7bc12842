"""Two runs compared frame by frame: all time of both is there, and an added difference is reported."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtrace.analysis.comparison.differences import Differences, Times, differences, relative
from cvtrace.analysis.contract.classes import LABELS

PHASES = ("import", "load", "decode")
Frame = tuple[str, str, int]


def times(rows: dict[Frame, int], phases: tuple[str, ...] = PHASES, repeated: bool = False) -> Times:
    """Return times of frames by name; `repeated`, each in two rows, as if two threads had spent them."""
    given_rows = [(*frame, ns) for frame, ns in rows.items()]
    if repeated:
        given_rows = [(*frame, part) for *frame, ns in given_rows for part in (ns // 3, ns - ns // 3)]
    parts = tuple(dict.fromkeys(row[1] for row in given_rows if row[1]))
    columns = [
        np.array(item, dtype=np.int64)
        for item in (
            [phases.index(row[0]) for row in given_rows],
            [parts.index(row[1]) if row[1] else -1 for row in given_rows],
            [row[2] for row in given_rows],
            [row[3] for row in given_rows],
        )
    ]
    return Times(phases, parts, *columns)


def by_name(difference: Differences) -> dict[Frame, tuple[int, int]]:
    return {
        (difference.phases[phase], difference.parts[part] if part >= 0 else "", value): (a, b)
        for phase, part, value, a, b in zip(
            *(
                column.tolist()
                for column in (difference.phase, difference.part, difference.value, difference.a_ns, difference.b_ns)
            ),
            strict=True,
        )
    }


FRAMES = st.dictionaries(
    st.tuples(st.sampled_from(PHASES), st.sampled_from(("", "a", "b/c", "d")), st.integers(0, len(LABELS) - 1)),
    st.integers(0, 10**12),
    max_size=30,
)


@given(FRAMES, FRAMES, st.booleans())
def test_every_nanosecond_of_both_runs_is_there_once(a: dict[Frame, int], b: dict[Frame, int], repeated: bool) -> None:
    difference = differences(times(a, repeated=repeated), times(b))

    expected = {frame: (a.get(frame, 0), b.get(frame, 0)) for frame in {**a, **b}}
    assert by_name(difference) == {frame: pair for frame, pair in expected.items() if any(pair)}


@given(FRAMES)
def test_a_run_does_not_differ_from_itself(a: dict[Frame, int]) -> None:
    difference = differences(times(a), times(dict(reversed(a.items())), phases=PHASES[::-1]))

    assert not difference.change_ns.any()
    assert not relative(difference.a_ns, difference.b_ns).any()


def test_an_added_difference_is_reported() -> None:
    # GIVEN two runs whose numbers of files and phases differ, and which differ in three frames
    same = {("load", "weights", 2): 700, ("decode", "", 10): 90}
    a = {("load", "gone", 1): 40, ("decode", "weights", 2): 10, **same}
    b = {**same, ("decode", "weights", 2): 35, ("mine", "new", 6): 5}
    # WHEN they are put side by side
    difference = differences(times(a), times(b, phases=("decode", "mine", "load")))
    # THEN these and no others changed
    changed = difference.change_ns != 0
    rows = dict(zip(by_name(difference), difference.change_ns.tolist(), strict=True))
    assert {frame: change for frame, change in rows.items() if change} == {
        ("load", "gone", 1): -40,
        ("decode", "weights", 2): 25,
        ("mine", "new", 6): 5,
    }
    assert int(changed.sum()) == 3
    assert difference.phases == (*PHASES, "mine")


def test_a_name_that_occurs_twice_in_a_run_counts_once() -> None:
    twice = Times(("load",), ("x", "x"), *(np.array(item) for item in ([0, 0], [0, 1], [2, 2], [30, 12])))

    difference = differences(twice, times({("load", "x", 2): 42}))

    assert (difference.a_ns.tolist(), difference.b_ns.tolist()) == ([42], [42])


def test_a_hundred_thousand_files_are_compared_in_bounded_time() -> None:
    random = np.random.default_rng(3)
    names = tuple(f"file-{number}" for number in range(50_000))
    tables = [
        Times(PHASES, names, *(random.integers(0, most, 100_000) for most in (3, 50_000, len(LABELS), 1000)))
        for _ in range(2)
    ]

    difference = differences(*tables)

    assert (int(difference.a_ns.sum()), int(difference.b_ns.sum())) == tuple(int(table.ns.sum()) for table in tables)


@pytest.mark.parametrize("a, b, expected", [(0, 0, 0), (4, 4, 0), (0, 3, 1), (3, 0, -1), (5, 10, 0.5), (10, 5, -0.5)])
def test_relative_change_is_bounded_and_even(a: int, b: int, expected: float) -> None:
    assert relative([a], [b]).tolist() == [expected]
