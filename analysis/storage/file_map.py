"""Files laid out on one axis, with a number on each stretch of them: which chunk or tensor do these bytes belong to?"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import Ints, Pieces, Steps, cut, disjoint, distinct, overlay

LARGEST_FILE: Final = 1 << 42
"""4 TiB; offsets behind it are cut to this."""


@dataclass(frozen=True)
class Axis:
    """A stretch of one common axis for each file, by any number for the file."""

    files: Ints
    width: int

    @classmethod
    def of(cls, files: Ints, *ends: Ints) -> "Axis":
        """Make room for each distinct file, up to the largest of `ends` (bytes). Raises OverflowError if that is too much."""
        files = distinct(files)
        last = max((int(np.clip(end, 0, LARGEST_FILE).max()) for end in ends if len(end)), default=0)
        if len(files) * (last + 2) >= 2**63:
            raise OverflowError(f"{len(files)} files of {last} bytes are more than the axis holds")
        return cls(files, last + 2)

    def at(self, file: Ints, offset: Ints) -> Ints:
        """Return the position of a byte of a file, -1 for files that have no place."""
        rank = np.searchsorted(self.files, file).astype(np.int64)
        known = rank < len(self.files)
        known[known] = self.files[rank[known]] == file[known]
        return np.where(known, rank * self.width + np.clip(offset, 0, self.width - 2), -1)

    def file(self, position: Ints) -> Ints:
        """Return the file around a position."""
        return self.files[position // self.width]

    def offset(self, position: Ints) -> Ints:
        """Return the offset in its file of a position."""
        return position % self.width


@dataclass(frozen=True)
class FileMap:
    """Numbers on stretches of files; -1 elsewhere. Where stretches overlap, the one that starts first has the bytes."""

    axis: Axis
    steps: Steps

    @classmethod
    def of(cls, axis: Axis, file: Ints, start: Ints, end: Ints, number: Ints) -> "FileMap":
        """Put `number` on [start, end) of each file; what has no place or is empty is left out."""
        begin, stop = axis.at(file, start), axis.at(file, end)
        not_empty = (begin >= 0) & (stop > begin)
        return cls(axis, overlay(Steps.constant(-1), begin[not_empty], stop[not_empty], number[not_empty]))

    def split(self, file: Ints, start: Ints, end: Ints) -> Pieces:
        """Cut ranges of files at the borders of the stretches: piece of which range, from, to (positions), number there.

        Ranges of files that have no place give no piece.
        """
        begin, stop = self.axis.at(file, start), self.axis.at(file, end)
        known = np.flatnonzero(begin >= 0)
        pieces = cut(self.steps, begin[known], stop[known])
        return Pieces(known[pieces.which], pieces.start, pieces.end, pieces.value)

    def at(self, file: Ints, offset: Ints) -> Ints:
        """Return the number on each byte, -1 for none."""
        position = self.axis.at(file, offset)
        return np.where(position >= 0, self.steps.value_at(position), -1)


def union(axis: Axis, file: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Return (file, start, end) of ranges that do not touch each other, and together are the bytes of the given ones, each once."""
    begin, stop = axis.at(file, start), axis.at(file, end)
    known = begin >= 0
    _, begin, stop = disjoint(begin[known], stop[known])
    goes_on = begin[1:] == stop[:-1]
    begin, stop = begin[np.append(True, ~goes_on)[: len(begin)]], stop[np.append(~goes_on, True)[: len(stop)]]
    return axis.file(begin), axis.offset(begin), axis.offset(begin) + (stop - begin)
