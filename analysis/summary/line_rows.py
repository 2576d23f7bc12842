"""The rows of the report on lines of code that waited."""

from typing import Any, Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import BLOCKED_ON_CVMFS, LABELS, WAITING
from cvtrace.analysis.contract.stack_schema import CodeLine, StackSampling
from cvtrace.analysis.storage.lines import Lines, line_of_row, lines
from cvtrace.analysis.trace.intervals import Ints
from cvtrace.probes.stacks.frames import Frame

MOST_LINES: Final = 1000
MOST_SENTENCES: Final = 20


def line_rows(study: Study) -> tuple[tuple[CodeLine, ...], StackSampling | None]:
    """Return the lines that waited, those that waited longest for CVMFS first, and how they were sampled; None if they were not."""
    table = lines(study)
    if table is None:
        return (), None
    line, known = line_of_row(table)
    times = _times(table, line, len(known))
    waited, blocked = times[:, list(WAITING)].sum(axis=1), times[:, list(BLOCKED_ON_CVMFS)].sum(axis=1)
    order = np.lexsort((-waited[1:], -blocked[1:]))[:MOST_LINES]
    rows = tuple(
        _row(known[number], times[number + 1], int(waited[number + 1]), int(blocked[number + 1]))
        for number in order.tolist()
        if waited[number + 1]
    )
    return rows, _sampling(study.recording.meta["stacks"], waited, blocked)


def _times(table: Lines, line: Ints, count: int) -> Ints:
    """Return nanoseconds by line (the first row: no sample) and class."""
    key = (line + 1) * len(LABELS) + table.value
    total = np.bincount(key, weights=table.ns, minlength=(count + 1) * len(LABELS))
    return total.astype(np.int64).reshape(count + 1, len(LABELS))


def _row(frame: Frame, times: Ints, waited_ns: int, blocked_ns: int) -> CodeLine:
    return CodeLine(
        file=frame.file,
        line=frame.line or None,
        function=frame.function,
        library=frame.library or None,
        waited_s=waited_ns / 1e9,
        blocked_s=blocked_ns / 1e9,
        classes={LABELS[value]: int(times[value]) / 1e9 for value in WAITING if times[value]},
    )


def _sampling(meta: dict[str, Any], waited: Ints, blocked: Ints) -> StackSampling:
    by, missing = meta.get("by"), meta.get("missing")
    return StackSampling(
        by=tuple(map(str, by)) if isinstance(by, list) else (),
        samples=_count(meta.get("samples")),
        stacks=_count(meta.get("stacks")),
        waited_s=int(waited.sum()) / 1e9,
        unsampled_s=int(waited[0]) / 1e9,
        blocked_s=int(blocked.sum()) / 1e9,
        unsampled_blocked_s=int(blocked[0]) / 1e9,
        missing=tuple(map(str, missing[:MOST_SENTENCES])) if isinstance(missing, list) else (),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
