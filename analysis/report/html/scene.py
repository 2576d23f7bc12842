"""What all pictures of one report share: times since the start, names as they are shown, and which item belongs to which."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from cvtrace.analysis.attribution.path import class_times
from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import seconds, size
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.storage_schema import Fetch
from cvtrace.analysis.joins.phases import life
from cvtrace.analysis.report.html.palette import CACHED, FETCHED, NAMES
from cvtrace.analysis.report.names import printable, shortened
from cvtrace.analysis.storage.lines import Lines, lines
from cvtrace.analysis.storage.stacks import Files, Stacks, files, stacks
from cvtrace.analysis.storage.tables import Tables
from cvtrace.analysis.trace.intervals import Ints, pick
from cvtrace.probes.events import Opcode

SHOWN_NAME: Final = 80
"""Characters of a name next to a mark; tables show all of it."""


@dataclass(frozen=True)
class Scene:
    """A study, its report, and the numbers of phases, tokens, files and fetches by which pictures and tables are linked."""

    study: Study
    details: Tables
    report: Report
    since: int
    until: int
    files: Files

    @property
    def duration_s(self) -> float:
        return (self.until - self.since) / 1e9

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """Printable names of the phases, by row."""
        return tuple(shortened(name, SHOWN_NAME) for name in self.study.phases.names)

    @cached_property
    def file_names(self) -> tuple[str, ...]:
        """Printable paths of the files, below the mount."""
        mounts = sorted((mount.path for mount in self.study.recording.mounts if mount.path), key=len, reverse=True)
        return tuple(printable(_below(name, mounts)) for name in self.files.names)

    @cached_property
    def short_files(self) -> tuple[str, ...]:
        return tuple(shortened(name, SHOWN_NAME) for name in self.file_names)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the files, then of the tensors: what a frame of the flame graph may be of."""
        return (*self.short_files, *(shortened(name, SHOWN_NAME) for name in self.stacks.tensors))

    @cached_property
    def fetch_order(self) -> Ints:
        """The GETs in the order of the table of fetches."""
        return np.argsort(self.study.gets.sent, kind="stable").astype(np.int64)

    @cached_property
    def fetch_of_request(self) -> Ints:
        """Row in the table of fetches of the first GET that each request caused, -1 for none."""
        first = np.full(len(self.study.requests), -1, dtype=np.int64)
        request = self.study.gets.request[self.fetch_order]
        caused = np.flatnonzero(request >= 0)[::-1]
        first[request[caused]] = caused
        return first

    @cached_property
    def fetch_names(self) -> tuple[str, ...]:
        """What each row of the table of fetches brought: its file, and where in it the chunk begins."""
        offsets = {row.object: row.offset_bytes for row in self.report.chunks if row.offset_bytes is not None}
        return tuple(_fetch_name(row, offsets) for row in self.report.fetches)

    @cached_property
    def answer_of_request(self) -> Ints:
        """Where the answer of each request came from (palette.ANSWERS)."""
        study = self.study
        missed = (study.use.misses + study.use.shared) > 0
        return np.where(missed, FETCHED, np.where(study.requests.is_(Opcode.READ), CACHED, NAMES)).astype(np.int64)

    @cached_property
    def stacks(self) -> Stacks:
        return stacks(self.study, self.details.tensors)

    @cached_property
    def lines(self) -> Lines | None:
        """The time by line of code, None if stacks were not sampled."""
        return lines(self.study, self.details.tensors)

    @cached_property
    def token_classes(self) -> Ints:
        """Nanoseconds of each token by class."""
        calls = self.study.phase_calls
        return class_times(self.study.call_path, calls.token, calls.steps)

    def second(self, time_ns: Ints) -> npt.NDArray[np.float64]:
        """Return times as seconds since the start of the target."""
        return np.asarray((time_ns - self.since) / 1e9)

    def file_of(self, request: Ints) -> Ints:
        return pick(self.files.of_request, request, -1)

    def token_at(self, thread: Ints, time_ns: Ints) -> Ints:
        """Return the token that something a thread did at a time belongs to, -1 for none."""
        return pick(self.study.phase_calls.token, self.study.phases.call_at(thread, time_ns), -1)


KINDS: Final[dict[str, type[np.generic]]] = {
    **dict.fromkeys(("left", "right"), np.float64),
    **dict.fromkeys(("bottom", "top"), np.float32),
    "paint": np.uint8,
    **dict.fromkeys(("phase", "token", "file", "fetch"), np.int32),
}
"""Columns of marks: as small as they may be."""


@dataclass
class Marks:
    """Rectangles of a picture, gathered lane by lane; numbers link them, `what` and `how` are read when pointed at.

    `caption` is written into a rectangle that has room for it: the forms of it, the longest first, a line each.
    """

    parts: list[dict[str, npt.NDArray[np.generic]]] = field(default_factory=list)
    what: list[str] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    caption: list[str] = field(default_factory=list)

    def add(
        self,
        what: Sequence[str],
        how: Sequence[str],
        *,
        left: npt.ArrayLike,
        right: npt.ArrayLike,
        bottom: npt.ArrayLike,
        top: npt.ArrayLike,
        paint: npt.ArrayLike,
        phase: npt.ArrayLike = -1,
        token: npt.ArrayLike = -1,
        file: npt.ArrayLike = -1,
        fetch: npt.ArrayLike = -1,
        caption: Sequence[str] = (),
    ) -> None:
        """Add marks; numbers given once hold for all of them."""
        count = len(what)
        given = {"left": left, "right": right, "bottom": bottom, "top": top, "paint": paint}
        given |= {"phase": phase, "token": token, "file": file, "fetch": fetch}
        self.parts.append(
            {name: np.broadcast_to(np.asarray(given[name], dtype=kind), count) for name, kind in KINDS.items()}
        )
        self.what += what
        self.how += how
        self.caption += caption or [""] * count

    def __len__(self) -> int:
        return len(self.what)

    def columns(self) -> dict[str, npt.NDArray[np.generic] | list[str]]:
        """Return the columns of a ColumnDataSource."""
        joined: dict[str, npt.NDArray[np.generic] | list[str]] = {
            name: np.concatenate([np.empty(0, dtype=kind), *(part[name] for part in self.parts)])
            for name, kind in KINDS.items()
        }
        return {**joined, "what": self.what, "how": self.how, "caption": self.caption}


def scene(study: Study, details: Tables, report: Report) -> Scene:
    """Gather what the pictures share."""
    since, until = life(study.recording)
    return Scene(study, details, report, since, max(until, since + 1), files(study))


def describe_spans(start_s: npt.NDArray[np.float64], length_ns: Ints) -> list[str]:
    """Return `12.3 ms at 1.204512 s` for each interval."""
    return [
        f"{seconds(length / 1e9)} at {start:.6f} s"
        for start, length in zip(start_s.tolist(), length_ns.tolist(), strict=True)
    ]


def _fetch_name(row: Fetch, offsets: dict[str, int]) -> str:
    name = printable(row.path or row.url).rstrip("/").rpartition("/")[2]
    offset = offsets.get(_object(row.url))
    return f"{name} @ {size(float(offset))}" if offset else name


def _object(url: str) -> str:
    """Return the content hash that a URL names: data/85/bde3…P is the chunk 85bde3…"""
    first, _, second = url.rpartition("/data/")[2].partition("/")
    return (first + second).rstrip("PCXHM")


def _below(name: str, mounts: list[str]) -> str:
    for mount in mounts:
        if name == mount:
            return "/"
        if name.startswith(mount + "/"):
            return name[len(mount) + 1 :]
    return name
