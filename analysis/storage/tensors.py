"""Reads, faults, waits, fetched bytes and evictions by tensor and by layer of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.joins.bytes_used import file_of, used_ranges
from cvtrace.analysis.joins.phases import DECODE, RUN
from cvtrace.analysis.storage.causes import EVICTED_OBJECT, EVICTED_PAGE
from cvtrace.analysis.storage.chunks import Chunks, blocked_ns
from cvtrace.analysis.storage.file_map import Axis, FileMap
from cvtrace.analysis.storage.headers import Headers, HeaderTensor
from cvtrace.analysis.storage.headers.tensor import layer_of
from cvtrace.analysis.trace.intervals import Ints, add_by_group, empty, match, pick
from cvtrace.probes.events import Kind, Opcode

GENERATION: Final = (DECODE, RUN)
"""Rows of phases in which a model is used after it was loaded and has read its prompt."""


@dataclass(frozen=True)
class Tensors:
    """Tensors of the files that the target used, sorted by file and place; then, for each of these files, a row without a tensor
    (`header` None) for what belongs to none. Counts as in model.Tensor; `layer` is -1 for none.

    `main` is the row that each READ of the target counts for, -1 for other requests and files without tensors.
    """

    header: tuple[HeaderTensor | None, ...] = ()
    path: tuple[str, ...] = ()
    layer: Ints = field(default_factory=empty)
    offset: Ints = field(default_factory=empty)
    size: Ints = field(default_factory=empty)
    reads: Ints = field(default_factory=empty)
    read_bytes: Ints = field(default_factory=empty)
    faults: Ints = field(default_factory=empty)
    fetched: Ints = field(default_factory=empty)
    evictions: Ints = field(default_factory=empty)
    blocked_ns: Ints = field(default_factory=empty)
    generation_reads: Ints = field(default_factory=empty)
    generation_blocked_ns: Ints = field(default_factory=empty)
    main: Ints = field(default_factory=empty)

    def __len__(self) -> int:
        return len(self.header)


@dataclass(frozen=True)
class _Files:
    """Files that the target opened or read: their paths, and the number of the path for any file (keys.file_key), -1 for others."""

    paths: tuple[str, ...]
    keys: Ints
    number: Ints

    def of(self, key: Ints) -> Ints:
        return pick(self.number, match(self.keys, key), -1)


def look_up(study: Study, headers: Headers | None) -> tuple[list[HeaderTensor], list[str]]:
    """Return the tensors of the files that the target opened or read, and a sentence for what could not be looked up."""
    if headers is None or not study.recording.sees_requests:
        return [], []
    if study.recording.meta.get("redacted"):
        return [], ["the tensors of the model (this trace has the names of files as hashes only)"]
    return headers(_files(study).paths)


def _files(study: Study) -> _Files:
    requests = study.requests
    chosen = np.flatnonzero(requests.by_target & np.isin(requests.opcode, (Opcode.OPEN, Opcode.READ)))
    keys, first = np.unique(file_of(requests)[chosen], return_index=True)
    names = study.file_paths.of(requests.connection[chosen[first]], requests.nodeid[chosen[first]])
    paths = tuple(dict.fromkeys(names))
    place = {path: number for number, path in enumerate(paths)}
    return _Files(paths, keys, np.array([place[name] for name in names], dtype=np.int64))


def tensors(study: Study, chunks: Chunks, cause: Ints, headers: Sequence[HeaderTensor]) -> Tensors:
    """Tell what was read, faulted on, fetched and waited for of each tensor."""
    files = _files(study)
    place = {path: number for number, path in enumerate(files.paths)}
    known = sorted(
        (each for each in headers if each.path in place), key=lambda each: (each.path, each.offset, each.name)
    )
    if not known:
        return Tensors()
    of = np.array([place[each.path] for each in known], dtype=np.int64)
    start = np.array([each.offset for each in known], dtype=np.int64)
    size = np.array([each.size for each in known], dtype=np.int64)
    with_tensors = np.unique(of)
    layout = _Layout(
        files,
        with_tensors,
        FileMap.of(Axis.of(with_tensors, start + size), of, start, start + size, np.arange(len(of))),
        len(of),
    )
    layers = [layer_of(each.name) for each in known]
    return Tensors(
        header=(*known, *(None for _ in with_tensors)),
        path=(*(each.path for each in known), *(files.paths[number] for number in with_tensors.tolist())),
        layer=np.array([-1 if layer is None else layer for layer in layers] + [-1] * len(with_tensors), dtype=np.int64),
        offset=np.append(start, np.zeros(len(with_tensors), dtype=np.int64)),
        size=np.append(size, np.zeros(len(with_tensors), dtype=np.int64)),
        **_counts(study, layout, cause),
        faults=_faults(study, layout),
        fetched=_fetched(chunks, layout),
    )


@dataclass(frozen=True)
class _Layout:
    """Where the tensors lie; files with tensors are `with_tensors`, and have the rows from `tensors` on for what belongs to none."""

    files: _Files
    with_tensors: Ints
    map: FileMap
    tensors: int

    @property
    def rows(self) -> int:
        return self.tensors + len(self.with_tensors)

    def rest(self, file: Ints) -> Ints:
        """Return the row of each file (number of its path) for what belongs to no tensor, -1 for files without tensors."""
        place = match(self.with_tensors, file)
        return np.where((place >= 0) & (file >= 0), self.tensors + place, -1)

    def split(self, file: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
        """Return (range, row, bytes) for each piece of the ranges of files."""
        pieces = self.map.split(file, start, end)
        row = np.where(pieces.value >= 0, pieces.value, self.rest(file)[pieces.which])
        return pieces.which, row, pieces.end - pieces.start


def _counts(study: Study, layout: _Layout, cause: Ints) -> dict[str, Ints]:
    """Count READs, and the time blocked for any request, by row."""
    requests, rows = study.requests, layout.rows
    file = layout.files.of(file_of(requests))
    main = np.where(requests.by_target & requests.reads, layout.rest(file), -1)
    reads = np.flatnonzero((main >= 0) & (requests.offset >= 0))
    begin, length_ = requests.offset[reads], requests.read_bytes[reads]
    which, row, length = layout.split(file[reads], begin, begin + length_)
    order = np.lexsort((-length, which))
    first = np.append(True, which[order][1:] != which[order][:-1])[: len(order)]
    main[reads[which[order][first]]] = row[order][first]
    unsplit = np.setdiff1d(np.flatnonzero(main >= 0), reads)
    read_bytes = add_by_group(row, length, rows) + add_by_group(main[unsplit], requests.read_bytes[unsplit], rows)
    of_request = np.where(main >= 0, main, np.where(requests.by_target, layout.rest(file), -1))
    generating = np.isin(study.request_phase, GENERATION)
    one = np.ones(len(main), dtype=np.int64)
    return {
        "reads": add_by_group(main, one, rows),
        "read_bytes": read_bytes,
        "evictions": add_by_group(np.where(np.isin(cause, (EVICTED_PAGE, EVICTED_OBJECT)), main, -1), one, rows),
        "blocked_ns": add_by_group(of_request, blocked_ns(study), rows),
        "generation_reads": add_by_group(np.where(generating, main, -1), one, rows),
        "generation_blocked_ns": add_by_group(of_request, blocked_ns(study, GENERATION), rows),
        "main": main,
    }


def _faults(study: Study, layout: _Layout) -> Ints:
    """Count the faults by the tensor that the page begins in, else the first one in it."""
    pages = used_ranges(study.recording)
    chosen = pages.kind == Kind.FAULT
    file = layout.files.of(pages.file[chosen])
    which, row, _ = layout.split(file, pages.start[chosen], pages.end[chosen])
    row_of_fault = layout.rest(file)
    tensor = row < layout.tensors
    order = np.flatnonzero(tensor)[::-1]
    row_of_fault[which[order]] = row[order]
    return add_by_group(row_of_fault, np.ones(len(row_of_fault), dtype=np.int64), layout.rows)


def _fetched(chunks: Chunks, layout: _Layout) -> Ints:
    """Share the bytes fetched of each object among the tensors in it; what is left belongs to none."""
    file = layout.files.of(chunks.file)
    placed = np.flatnonzero((chunks.offset >= 0) & (file >= 0) & (chunks.fetched > 0))
    which, row, length = layout.split(file[placed], chunks.offset[placed], chunks.end[placed])
    an_object = placed[which]
    object_bytes = np.maximum((chunks.end - chunks.offset)[an_object], 1)
    share = np.floor(chunks.fetched[an_object] * (length / object_bytes)).astype(np.int64)
    remainder = chunks.fetched - add_by_group(an_object, share, len(chunks))
    return add_by_group(row, share, layout.rows) + add_by_group(layout.rest(file), remainder, layout.rows)
