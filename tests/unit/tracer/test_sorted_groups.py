"""Blocks put in order group by group: the same as all of them put in order at once."""

import tempfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtrace.probes.events import EVENT, in_order
from cvtrace.tracer.blocks import BlockFile, BlockSource
from cvtrace.tracer.sorted_groups import SortedGroups, kept

RECORDS = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(0, 2), st.sampled_from((5, 40)))


@given(
    st.lists(st.lists(RECORDS, min_size=1, max_size=20), max_size=8), st.integers(1, 30), st.none() | st.integers(0, 70)
)
@settings(deadline=None)
def test_groups_are_all_records_in_order(blocks, rows, since_ns):
    with tempfile.TemporaryFile() as file:
        written = BlockFile(file.fileno())
        every = [np.empty(0, dtype=EVENT)]
        for number, block in enumerate(blocks):
            records = np.zeros(len(block), dtype=EVENT)
            for place, (ts, dur, tid, kind) in enumerate(block):
                records[place] = (ts, dur, 1, tid, kind, 0, 0, number, place, 0)
            written.append([records])
            every.append(records)
        groups = SortedGroups(BlockSource(file.fileno()), EVENT, rows, since_ns)
        expected = in_order(kept(np.concatenate(every), since_ns))
        found_groups = list(groups)
    assert np.concatenate([np.empty(0, dtype=EVENT), *found_groups]).tobytes() == expected.tobytes()
    assert groups.total == len(expected)


@given(st.lists(RECORDS, max_size=20), st.integers(0, 110))
@settings(deadline=None)
def test_nothing_kept_begins_before_the_begin_and_nothing_ends_elsewhere(rows, since_ns):
    records = np.zeros(len(rows), dtype=EVENT)
    for place, (ts, dur, tid, kind) in enumerate(rows):
        records[place] = (ts, dur, 1, tid, kind, 0, 0, 0, place, 0)
    after = kept(records, since_ns)
    before = records[after["b"].astype(np.int64)]
    assert (after["ts"] >= since_ns).all()
    assert (after["ts"] + after["dur"] == before["ts"] + before["dur"]).all()
    assert len(after) == int((records["ts"] + records["dur"] >= since_ns).sum())
