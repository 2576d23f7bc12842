"""The time of the critical path as stacks: phase, thread, file, tensor, class, with nanoseconds. What flame graphs are drawn from.

Stacks add up to the wall time of each phase: they hold the same pieces of the critical path as the table of phases, grouped
in another way.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.classes import LABELS, WAITING
from cvtrace.analysis.joins.bytes_used import file_of
from cvtrace.analysis.storage.tensors import Tensors
from cvtrace.analysis.trace.intervals import Ints, numbered, pick

CHOICES: Final = ("both", "on-cpu", "waiting")


@dataclass(frozen=True)
class Files:
    """The files of a mount that requests of the target were about; `of_request` is -1 for requests of others."""

    names: tuple[str, ...]
    of_request: Ints


@dataclass(frozen=True)
class Stacks:
    """One row for each stack that occurred, sorted by phase, thread, file, tensor and class.

    `phase` numbers `phases`, `file` numbers `files` (-1: no request was waited for), `tensor` numbers `tensors` (-1: none is
    known there), `value` is a `Class`; `ns` is the time spent there in `pieces` pieces.
    """

    phase: Ints
    thread: Ints
    file: Ints
    tensor: Ints
    value: Ints
    ns: Ints
    pieces: Ints
    phases: tuple[str, ...]
    files: tuple[str, ...]
    tensors: tuple[str, ...]
    of_piece: Ints
    """Row of each piece of the critical path, in the order of time."""
    piece_ns: Ints

    def __len__(self) -> int:
        return len(self.ns)

    def rows(self, choice: str) -> Ints:
        """Return the stacks on a CPU, those waiting, or both (CHOICES), as far as any time was spent there."""
        waiting = np.isin(self.value, WAITING)
        chosen = {"both": waiting | ~waiting, "on-cpu": ~waiting, "waiting": waiting}[choice]
        return np.flatnonzero(chosen & (self.ns > 0))

    def frames(self, row: int) -> tuple[str, ...]:
        """Return the names of one stack, the outermost first."""
        file, tensor = int(self.file[row]), int(self.tensor[row])
        inner = (*((self.files[file],) if file >= 0 else ()), *((self.tensors[tensor],) if tensor >= 0 else ()))
        return (
            self.phases[int(self.phase[row])],
            f"thread {int(self.thread[row])}",
            *inner,
            LABELS[int(self.value[row])],
        )


def files(study: Study) -> Files:
    """Number the files that the target's requests were about, those of the most requests first."""
    requests = study.requests
    key = file_of(requests)
    of_target = np.flatnonzero(requests.by_target & (requests.nodeid > 0))
    keys, first, inverse, count = np.unique(key[of_target], return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.arange(len(keys))
    of_request = np.full(len(requests), -1, dtype=np.int64)
    of_request[of_target] = rank[inverse.ravel()]
    shown = of_target[first[order]]
    return Files(tuple(study.file_paths.of(requests.connection[shown], requests.nodeid[shown])), of_request)


def stacks(study: Study, parts: Tensors | None = None) -> Stacks:
    """Return the stacks of the target's life; with the tensors of its files, down to these."""
    known = files(study)
    names = tuple(header.name if header else "" for header in parts.header) if parts else ()
    main = _with_name(parts.main, names) if parts else known.of_request[:0]
    path, segments = study.critical_path, study.segments
    columns = (
        segments.row[path.of],
        segments.thread[path.of],
        pick(known.of_request, path.request, -1),
        pick(main, path.request, -1),
        path.value,
    )
    threads, thread = numbered(columns[1])
    sizes = (len(study.phases.names), len(threads), len(known.names) + 1, len(names) + 1, len(LABELS))
    keys = (
        np.ravel_multi_index((columns[0], thread, columns[2] + 1, columns[3] + 1, columns[4]), sizes)
        if len(path.of)
        else path.of
    )
    distinct, where = numbered(keys)
    phase, thread, file, tensor, value = (
        np.asarray(each, dtype=np.int64) for each in np.unravel_index(distinct, sizes)
    )
    return Stacks(
        phase=phase,
        thread=threads[thread],
        file=file - 1,
        tensor=tensor - 1,
        value=value,
        ns=np.bincount(where, weights=path.length, minlength=len(distinct)).astype(np.int64),
        pieces=np.bincount(where, minlength=len(distinct)).astype(np.int64),
        phases=study.phases.names,
        files=known.names,
        tensors=names,
        of_piece=where,
        piece_ns=path.length,
    )


def _with_name(main: Ints, names: tuple[str, ...]) -> Ints:
    """Leave out rows that stand for the bytes of no tensor."""
    named = np.array([bool(name) for name in names], dtype=bool)
    return np.where((main >= 0) & np.append(named, False)[main], main, -1)
