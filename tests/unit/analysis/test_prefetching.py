"""The replay of a run with a bundle: who fetches what when, on one link and with one thread that unpacks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cvtrace.analysis.whatif.prefetching import POOL, Cost, Need, queued, replay

MS = 1_000_000
SMALL = Cost(20 * MS, 0, MS)
BUNDLE = Cost(20 * MS, 0, 0)


def one_after_the_other(number: int, each: Cost = SMALL, pause: int = 0) -> list[Need]:
    """Return the needs of a run that waits for so many objects, the first when the trigger is opened."""
    return [Need(place * (each.alone + pause), each.alone, (place,)) for place in range(number)]


def test_many_files_come_eight_at_a_time() -> None:
    # GIVEN 64 files, each of which the run awaited for 21 ms
    needs = one_after_the_other(64)
    # WHEN they are prefetched
    done = replay([SMALL] * 64, [[place] for place in range(64)], needs, BUNDLE)
    # THEN they are there after the bundle and eight rounds of eight, and the run waits no longer than that
    assert done.background <= BUNDLE.alone + 64 // POOL * (20 + POOL) * MS
    waited = sum(need.waited for need in needs) + done.change
    assert 64 * SMALL.unpacking <= waited <= done.background


def test_chunks_of_one_file_come_one_after_the_other() -> None:
    # GIVEN a file of 16 chunks that the run needs without a pause
    needs = one_after_the_other(16)
    # WHEN it is prefetched as a file, or as 16 files
    as_one = replay([SMALL] * 16, [list(range(16))], needs, BUNDLE)
    as_many = replay([SMALL] * 16, [[place] for place in range(16)], needs, BUNDLE)
    # THEN one file is hardly faster, and many are
    assert -as_one.change < SMALL.alone
    assert -as_many.change > 8 * SMALL.alone


def test_a_file_is_prefetched_while_the_run_computes() -> None:
    # GIVEN a run that computes for 30 ms between two chunks
    needs = one_after_the_other(16, pause=30 * MS)
    # WHEN the file is prefetched / THEN all waits but the first ones vanish
    done = replay([SMALL] * 16, [list(range(16))], needs, BUNDLE)
    assert sum(need.waited for need in needs) + done.change <= BUNDLE.alone + 2 * SMALL.alone


def test_the_link_is_shared() -> None:
    # GIVEN objects that take 10 ms on the link each / WHEN eight are fetched at a time / THEN they take that long together
    wide = Cost(MS, 10 * MS, 0)
    done = replay([wide] * 16, [[place] for place in range(16)], one_after_the_other(16, wide), BUNDLE)
    assert done.background >= 16 * 10 * MS


def test_what_is_in_no_file_is_fetched_when_it_is_needed() -> None:
    # GIVEN needs of which none is prefetched / WHEN they are replayed / THEN nothing changes
    assert replay([SMALL] * 5, [], one_after_the_other(5, pause=MS), BUNDLE).change == 0


@given(
    st.lists(st.tuples(*[st.integers(0, 50 * MS)] * 3), min_size=1, max_size=30),
    st.lists(st.integers(1, 5), max_size=12),
    st.integers(0, 20 * MS),
)
def test_a_replay_ends_and_no_wait_is_negative(
    times: list[tuple[int, int, int]], lengths: list[int], pause: int
) -> None:
    # GIVEN any objects, files and pauses
    costs = [Cost(*each) for each in times]
    numbers = iter(range(len(costs)))
    files = [[place for place, _ in zip(numbers, range(length), strict=False)] for length in lengths]
    needs, at = [], 0
    for place, cost in enumerate(costs):
        needs.append(Need(at, cost.alone, (place,)))
        at += cost.alone + pause
    # WHEN they are replayed / THEN each need waits no negative time, and the sum is right
    done = replay(costs, files, needs, BUNDLE)
    assert len(done.changes) == len(needs)
    assert all(need.waited + change >= 0 for need, change in zip(needs, done.changes, strict=True))


def test_paths_beyond_what_the_queue_takes_are_counted() -> None:
    # GIVEN paths of 116 bytes, which take 128 in the queue / THEN 32 find room in each of 16 pages
    assert queued(["/" + "x" * 115] * 1000) == 16 * 32
    assert queued(["/short"] * 100) == 100
    assert queued(["/" + "x" * 5000]) == 0
