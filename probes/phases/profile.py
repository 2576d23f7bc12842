"""onnxruntime's own profile: the time of every node of the graph, put on the clock of the trace.

A profile is JSON, an event a line, times in µs from a start that is not told. A session's runs (`model_run`) happen inside calls that
are marked, one in each: the offset is the one under which most of them do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import Events
from cvtrace.probes.phases.functions import FUNCTIONS, INDEX

MOST_EVENTS: Final = 1_000_000
"""onnxruntime keeps no more of a session (profiler.h)."""
RUNNING: Final = tuple(
    INDEX[name]
    for name in (
        "OgaGenerator_AppendTokens",
        "OgaGenerator_AppendTokenSequences",
        "OgaGenerator_SetInputs",
        "OgaGenerator_GenerateNextToken",
        "onnxruntime.InferenceSession.run",
    )
)
"""Calls that run the model."""
PREFILLING: Final = RUNNING[:3]
SUFFIX: Final = "_kernel_time"
SLACK_NS: Final = 2_000
"""Times of the profile are cut to µs."""
MOST_PAIRED: Final = 1000
"""Runs and calls, each, that the clocks are compared by."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """One session's profile: nodes and runs, times in ns from the session's own start."""

    pid: int
    name: list[str]
    op_type: list[str]
    start_ns: Ints
    dur_ns: Ints
    run_start_ns: Ints
    run_dur_ns: Ints
    is_complete: bool
    """Neither cut off nor full."""


@dataclass(frozen=True)
class Nodes:
    """Nodes on the clock of the trace; `token` numbers GenerateNextToken calls, -1 elsewhere; `phase` is "" outside calls."""

    phase: list[str]
    token: Ints
    name: list[str]
    op_type: list[str]
    start_ns: Ints
    dur_ns: Ints

    def __len__(self) -> int:
        return len(self.name)


def parse_profile(data: bytes) -> Profile:
    """Read a profile; lines that cannot be read are left out."""
    nodes, runs, pid, lines = [], [], 0, 0
    for event in _events(data):
        lines += 1
        times = int(event.get("ts", 0)) * 1000, int(event.get("dur", 0)) * 1000
        pid = int(event.get("pid", pid))
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(SUFFIX):
            arguments = event.get("args")
            op_type = str(arguments.get("op_name", "")) if isinstance(arguments, dict) else ""
            nodes.append((str(event["name"]).removesuffix(SUFFIX), op_type, *times))
        elif event.get("name") == "model_run":
            runs.append(times)
    runs.sort()
    return Profile(
        pid=pid,
        name=[node[0] for node in nodes],
        op_type=[node[1] for node in nodes],
        start_ns=np.array([node[2] for node in nodes], dtype=np.int64),
        dur_ns=np.array([node[3] for node in nodes], dtype=np.int64),
        run_start_ns=np.array([run[0] for run in runs], dtype=np.int64),
        run_dur_ns=np.array([run[1] for run in runs], dtype=np.int64),
        is_complete=data.rstrip().endswith(b"]") and lines < MOST_EVENTS,
    )


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        text = line.strip().rstrip(b",")
        if text.startswith(b"{"):
            try:
                event = json.loads(text)
                if isinstance(event, dict) and isinstance(event.get("ts", 0), int):
                    yield event
            except (ValueError, RecursionError):
                continue


def place(profile: Profile, marks: Events) -> Nodes | None:
    """Put a profile on the clock of the trace; None if its runs are in none of the marked calls."""
    calls = marks[np.isin(marks["a"], RUNNING)]
    calls = _outermost(calls[np.argsort(calls["ts"], kind="stable")])
    decoding = calls["a"] == INDEX["OgaGenerator_GenerateNextToken"]
    tokens = np.where(decoding, np.cumsum(decoding) - 1, -1)
    of_process = (
        calls["tgid"] == profile.pid if (calls["tgid"] == profile.pid).any() else np.ones(len(calls), dtype=bool)
    )
    calls, tokens = calls[of_process], tokens[of_process]
    begin = calls["ts"].astype(np.int64)
    end = begin + calls["dur"].astype(np.int64)
    running = np.flatnonzero(_runs_model(calls))[:MOST_PAIRED]
    starts, ends = (times[:MOST_PAIRED] for times in (profile.run_start_ns, profile.run_start_ns + profile.run_dur_ns))
    offset = _offset(starts, ends, begin[running], end[running])
    if offset is None:
        return None
    start = profile.start_ns + offset
    call = np.searchsorted(begin, start + SLACK_NS, side="right") - 1
    inside = (call >= 0) & (start <= end[np.maximum(call, 0)])
    names = np.array([FUNCTIONS[index].phase for index in calls["a"].tolist()])
    phase = np.where(inside, names[np.maximum(call, 0)], "").tolist()
    token = np.where(inside, tokens[np.maximum(call, 0)], -1).astype(np.int64)
    return Nodes(phase, token, profile.name, profile.op_type, start, profile.dur_ns)


def _outermost(calls: Events) -> Events:
    """Leave out calls within calls of the same thread, sorted by ts: where uprobes and the hook both marked one, it is nested."""
    begin = calls["ts"].astype(np.int64)
    end = begin + calls["dur"].astype(np.int64)
    outer = np.ones(len(calls), dtype=bool)
    for tid in np.unique(calls["tid"]).tolist():
        of_thread = np.flatnonzero(calls["tid"] == tid)
        outer[of_thread[1:]] = begin[of_thread[1:]] >= np.maximum.accumulate(end[of_thread])[:-1]
    return calls[outer]


def _runs_model(calls: Events) -> npt.NDArray[np.bool_]:
    """Tell which calls run the model: the first GenerateNextToken after a prefill only samples."""
    index = calls["a"]
    after = np.concatenate([[False], np.isin(index[:-1], PREFILLING)])
    runs: npt.NDArray[np.bool_] = ~((index == INDEX["OgaGenerator_GenerateNextToken"]) & after)
    return runs


def _offset(run_start: Ints, run_end: Ints, begin: Ints, end: Ints) -> int | None:
    """Return what to add to the times of the runs so that most of them lie within calls, None if none does.

    Runs and calls follow each other in the same order, one run in each call, the first run in any of them. Only where that puts
    less than half of them into calls (a prefill in pieces) a call may hold several.
    """
    runs, calls = len(run_start), len(begin)
    best = (0, 0)
    for first in range(-runs + 1, calls):
        run = np.arange(max(0, -first), min(runs, calls - first))
        if len(run) > best[0]:
            candidate = _meeting(begin[run + first] - run_start[run], end[run + first] - run_end[run])
            best = max(best, candidate, key=lambda each: each[0])
    if best[0] < runs / 2:
        low, high = (begin[None, :] - run_start[:, None]).ravel(), (end[None, :] - run_end[:, None]).ravel()
        best = max(best, _meeting(low, high), key=lambda each: each[0])
    return best[1] if best[0] else None


def _meeting(low: Ints, high: Ints) -> tuple[int, int]:
    """Return how many of the ranges meet where most of them do, and the middle of that."""
    low, high = low - SLACK_NS, high + SLACK_NS
    low, high = low[low <= high], high[low <= high]
    if not len(low):
        return 0, 0
    edges = np.concatenate([low, high])
    order = np.lexsort((np.repeat([0, 1], len(low)), edges))
    meeting = np.cumsum(np.repeat([1, -1], len(low))[order])
    most = int(np.argmax(meeting))
    return int(meeting[most]), int((edges[order[most]] + edges[order[most + 1]]) // 2)
