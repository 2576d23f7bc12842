"""Page faults that a run has only because pages come in pieces: with all pages in memory, one fault maps a page and its neighbours.

A fault first maps what is there of the window around its page (fault-around: 64 KiB, `fault_around_bytes` of the kernel). READs end inside of windows,
so a window that was mapped in part is tried again when the rest is touched, and that fault reads. In memory the first fault would have mapped it all.
"""

import numpy as np

from cvtrace.analysis.joins.faults import Spans
from cvtrace.analysis.trace.intervals import Bools, Lanes, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind


def is_extra(recording: Recording, lanes: Lanes, faults: Spans) -> Bools:
    """Tell which faults began with a window that their thread had mapped right before."""
    maps = recording.of(Kind.PAGE_MAP)
    if not len(maps):
        return np.zeros(len(faults.start), dtype=np.bool_)
    place = lanes.at(maps.tid, maps.start)
    order = np.argsort(place, kind="stable")
    maps, place = maps.where(order), place[order]
    again = np.zeros(len(maps), dtype=np.bool_)
    again[1:] = maps.tid[1:] == maps.tid[:-1]
    for column in (maps.a, maps.b, maps.c):
        again[1:] &= column[1:] == column[:-1]
    begin = lanes.at(faults.tid, faults.start)
    first_try = np.searchsorted(place, begin)
    extra: Bools = (
        (pick(place, first_try, -1) == begin) & (begin >= 0) & (pick(again.astype(np.int64), first_try, 0) == 1)
    )
    return extra
