"""Borders of the parts of a file, where they are known: tensors of an ONNX model, chunks of the repository."""

from dataclasses import dataclass

import numpy as np

from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.report.names import printable
from cvtrace.analysis.trace.intervals import Ints, ints, latest


@dataclass(frozen=True)
class Borders:
    """Parts of one file, sorted by offset: bytes [start, end), `tensor` or `chunk`, and the name of a tensor."""

    start: Ints
    end: Ints
    kind: tuple[str, ...]
    name: tuple[str, ...]

    def of_kind(self, kind: str) -> Ints:
        """Return the offsets at which parts of that kind begin."""
        return self.start[[each == kind for each in self.kind]] if len(self.start) else self.start

    def names_at(self, offset: Ints) -> list[str]:
        """Return the tensor at each offset, empty where none is known."""
        tensors = np.flatnonzero([each == "tensor" for each in self.kind])
        latest_start = latest(self.start[tensors], offset)
        return [
            self.name[tensors[place]] if place >= 0 and self.end[tensors[place]] > at else ""
            for place, at in zip(latest_start.tolist(), offset.tolist(), strict=True)
        ]


def borders(scene: Scene, file: int) -> Borders:
    """Return what the report tells of the parts of a file."""
    path, report = scene.files.names[file], scene.report
    parts = [
        (row.offset_bytes, row.offset_bytes + (row.size_bytes or 0), "chunk", "")
        for row in report.chunks
        if row.path == path and row.offset_bytes is not None
    ]
    parts += [
        (row.offset_bytes, row.offset_bytes + row.size_bytes, "tensor", printable(row.name))
        for row in report.tensors
        if row.path == path and row.name
    ]
    parts.sort()
    start, end, kinds, names = zip(*parts, strict=True) if parts else ((), (), (), ())
    return Borders(ints(start), ints(end), kinds, names)
