"""A track of the lines of code on the critical path: one slice for each stretch with the same stack, which is an argument of it."""

from collections.abc import Iterator

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.report.perfetto.slices import Interned, Slices
from cvtrace.analysis.report.perfetto.tracks import Tracks
from cvtrace.analysis.storage.lines import lines, name, own_frames


def code_slices(study: Study, interned: Interned, tracks: Tracks, process: int) -> Iterator[Slices]:
    """Yield the track, if stacks were sampled."""
    table = lines(study)
    if table is None or not len(table):
        return
    stack, value = table.stack[table.of_piece], table.value[table.of_piece]
    start, end = table.piece_start, table.piece_start + table.piece_ns
    goes_on = (stack[1:] == stack[:-1]) & (value[1:] == value[:-1]) & (start[1:] == end[:-1])
    begins = np.flatnonzero(np.append(True, ~goes_on)[: len(stack)])
    ends = np.append(begins[1:], len(stack)) - 1
    names = interned.names.all([name(own_frames(frames)[-1]) if frames else "?" for frames in table.code])
    whole = interned.texts.all(["\n".join(map(name, reversed(frames))) for frames in table.code])
    labels = interned.texts.all(LABELS)
    chosen = begins[(stack[begins] >= 0) & (end[ends] > start[begins])]
    until = end[ends[(stack[begins] >= 0) & (end[ends] > start[begins])]]
    order = np.argsort(start[chosen], kind="stable")
    chosen, until = chosen[order], until[order]
    # Segments of different threads follow each other; where they overlap by a moment, the earlier slice ends.
    until = np.minimum(until, np.append(start[chosen][1:], np.iinfo(np.int64).max)[: len(until)])
    track = tracks.lanes(process, "Lines of code", 1)[0]
    yield Slices(
        start[chosen],
        until,
        np.full(len(chosen), track, dtype=np.int64),
        names[stack[chosen]],
        texts={interned.keys["stack"]: whole[stack[chosen]], interned.keys["class"]: labels[value[chosen]]},
    )
