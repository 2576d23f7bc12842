"""The phases that a script names itself (`cvtrace.phase`): which are there, and who has which moment of the target's life.

Where they nest or overlap, in one thread or several, the one that began last has the time.
"""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.trace.intervals import Ints, covered, pick
from cvtrace.analysis.trace.recording import Recording
from cvtrace.probes.events import Kind
from cvtrace.probes.phases.functions import USER_PHASE

UNNAMED = "unnamed"


@dataclass(frozen=True)
class UserPhases:
    """The script's phases within the target's life, sorted by start; `row` numbers `names`.

    `owner` tells which of them has the time from each of `edges` on, -1: none.
    """

    start: Ints
    end: Ints
    thread: Ints
    process: Ints
    row: Ints
    names: tuple[str, ...]
    edges: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.start)

    def owner_at(self, time_ns: Ints) -> Ints:
        """Return the phase that has each moment, -1 for none."""
        return pick(self.owner, np.searchsorted(self.edges, time_ns, side="right") - 1, -1)

    @property
    def counts(self) -> Ints:
        """How many there are, by row."""
        return np.bincount(self.row, minlength=len(self.names)).astype(np.int64)

    @property
    def spans(self) -> Ints:
        """All the time within them, by row."""
        since = int(self.start.min()) if len(self) else 0
        return covered(self.row, self.start - since, self.end - since, len(self.names))


def user_phases(recording: Recording, start_ns: int, end_ns: int, names: tuple[str, ...]) -> UserPhases:
    """Find the script's phases; names that are not among `names` are added to them."""
    marks = recording.of(Kind.PHASE)
    marks = marks.where((marks.a == USER_PHASE) & (marks.end > start_ns) & (marks.start < end_ns))
    labels = [name or UNNAMED for name in recording.text(marks)]
    names = tuple(dict.fromkeys([*names, *labels]))
    number = {name: place for place, name in enumerate(names)}
    begin, end = np.clip(marks.start, start_ns, end_ns), np.clip(marks.end, start_ns, end_ns)
    edges = np.unique(np.concatenate([begin, end]))
    owner = np.full(len(edges), -1, dtype=np.int64)
    spans = zip(np.searchsorted(edges, begin).tolist(), np.searchsorted(edges, end).tolist(), strict=True)
    for mark, (first, last) in enumerate(spans):  # as many as the script writes out, not as many as events
        owner[first:last] = mark
    return UserPhases(
        start=begin,
        end=end,
        thread=marks.tid,
        process=marks.tgid,
        row=np.array([number[name] for name in labels], dtype=np.int64),
        names=names,
        edges=edges,
        owner=owner,
    )
