"""Which files the target loaded its model from, by the opens, reads and mappings that were seen in the load."""

import re
from typing import Final

import numpy as np

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.verdict_schema import ModelFile
from cvtrace.analysis.joins.phases import LOAD
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Kind

CVMFS: Final = "cvmfs"
ELSEWHERE: Final = "elsewhere"
MOST: Final = 20
NO_MODEL: Final = re.compile(r"^/(?:proc|sys|dev|etc|run)/|\.so(?:\.|$)|\.py[co]?$|/__pycache__/")
"""Files that are opened in a load and hold nothing of a model."""


def model_files(study: Study) -> tuple[ModelFile, ...]:
    """Return the files that the load opened, those of which most was used first."""
    calls = study.calls
    opened = np.flatnonzero((calls.rows.kind == Kind.SYS_OPEN) & (calls.rows.ret >= 0))
    in_load = study.phases.row_at(calls.rows.tid[opened], calls.rows.start[opened]) == LOAD
    opened = opened[in_load]
    paths = [calls.opened.get(call, "") for call in opened.tolist()]
    names = sorted({path for path in paths if path and not NO_MODEL.search(path)})
    number = {path: place for place, path in enumerate(names)}
    file = np.full(len(calls.rows), -1, dtype=np.int64)
    file[opened] = [number.get(path, -1) for path in paths]
    used = pick(file, calls.origin, -1)
    mapped = _sum(used, np.where(calls.rows.kind == Kind.SYS_MMAP, calls.rows.c, 0), len(names))
    read = _sum(used, np.where(calls.rows.kind == Kind.SYS_READ, np.maximum(calls.rows.ret, 0), 0), len(names))
    opens = np.bincount(file[file >= 0], minlength=len(names)).tolist()
    on_mount = np.bincount(file[(file >= 0) & calls.on_mount], minlength=len(names)).tolist()
    rows = [
        ModelFile(path, on_mount[place] > 0, opens[place], mapped[place], read[place])
        for place, path in enumerate(names)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.mapped_bytes - row.read_bytes, row.path))[:MOST])


def _sum(group: Ints, amount: Ints, count: int) -> list[int]:
    chosen = (group >= 0) & (amount > 0)
    return [int(total) for total in np.bincount(group[chosen], weights=amount[chosen], minlength=count)]


def model_from(study: Study, files: tuple[ModelFile, ...]) -> str | None:
    """Tell where the model came from: cvmfs, elsewhere, or None where nothing of it was seen."""
    unobserved = study.unobserved_requests
    request_rows = [
        study.request_phase[study.requests.expects_reply],
        study.phases.row_at(unobserved.asker, unobserved.sent)[unobserved.to_cvmfs],
    ]
    pages = study.recording.of(Kind.FAULT, Kind.PAGE_READ, Kind.PAGE_MAP)
    page_rows = study.phases.row_at(pages.tid, pages.start)
    if any(file.on_cvmfs for file in files) or any((rows == LOAD).any() for rows in (*request_rows, page_rows)):
        return CVMFS
    return ELSEWHERE if any(file.mapped_bytes + file.read_bytes for file in files) else None
