"""Marks that a target writes in a PID namespace get the numbers of the initial one, and none is counted twice.

A mark has the numbers that its thread has in its own PID namespace. The eBPF probe tells for each such mark whose it is (MARK events).
Elsewhere /proc tells what numbers the threads of the target's tree have in their namespaces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvtrace.probes.events import EVENT, UNFINISHED, Events, Kind, no_events
from cvtrace.probes.namespaces import numbers_of
from cvtrace.probes.phases.functions import FUNCTIONS

_NAMES: Final = sorted({function.phase for function in FUNCTIONS})
_PHASES: Final = np.array([_NAMES.index(function.phase) for function in FUNCTIONS])
_LIBRARY: Final = np.array([function.symbol.startswith("Oga") for function in FUNCTIONS])


class Numbers:
    """What is known of the numbers that threads of the target have in their own PID namespaces."""

    def __init__(self) -> None:
        self._mark_events: list[Events] = []
        self._threads: dict[tuple[int, int], tuple[int, int]] = {}

    def take(self, events: Events) -> Events:
        """Take note of the MARK events in a drained block; return the others."""
        is_mark = events["kind"] == Kind.MARK
        if not is_mark.any():
            return events
        self._mark_events.append(events[is_mark])
        without_marks: Events = events[~is_mark]
        return without_marks

    def look(self, pid: int) -> None:
        """Take note of the threads of process `pid` and of its descendants, as /proc shows them."""
        waiting = [pid]
        for parent in waiting:
            numbers_of_parent = numbers_of(parent)
            for task in _tasks(parent):
                with contextlib.suppress(OSError):
                    waiting += [int(child) for child in (task / "children").read_text().split()]
                if len(numbers_of_parent) > 1 and (numbers := numbers_of(int(task.name))):
                    self._threads[numbers_of_parent[-1], numbers[-1]] = parent, int(task.name)

    def translate(self, marks: Events) -> Events:
        """Return marks (raw records of the target) with the numbers that their threads have for the kernel."""
        return translate(marks, self._mark_events, self._threads)


def translate(marks: Events, mark_events: Sequence[Events], threads: dict[tuple[int, int], tuple[int, int]]) -> Events:
    """Return marks (raw records of the target) with the numbers that their threads have for the kernel.

    `mark_events` are MARK events; `threads` are threads that /proc showed: (tgid, tid) in their namespace -> (tgid, tid).
    """
    marks = marks.copy()
    pairs = marks[["tgid", "tid"]].copy()
    for (tgid, tid), (known_tgid, known_tid) in threads.items():
        same = (pairs["tgid"] == tgid) & (pairs["tid"] == tid)
        marks["tgid"][same], marks["tid"][same] = known_tgid, known_tid
    if not mark_events or not len(marks):
        return marks
    of = np.concatenate(mark_events)
    _, of_threads = np.unique(of[["c", "b"]], return_index=True)  # for what else these threads wrote
    for place in of_threads.tolist():
        same = (pairs["tgid"] == of["c"][place]) & (pairs["tid"] == of["b"][place])
        marks["tgid"][same], marks["tid"][same] = of["tgid"][place], of["tid"][place]
    exact = np.zeros(len(of), dtype=[("ts", "<u8"), ("tid", "<u4")])
    exact["ts"], exact["tid"] = of["a"], of["b"]
    moments = np.zeros(len(marks), dtype=exact.dtype)
    moments["ts"], moments["tid"] = marks["ts"], pairs["tid"]
    order = np.argsort(exact, order=("ts", "tid"), kind="stable")
    place = np.minimum(np.searchsorted(exact[order], moments), len(of) - 1)
    hit = exact[order][place] == moments
    marks["tgid"][hit], marks["tid"][hit] = of["tgid"][order][place[hit]], of["tid"][order][place[hit]]
    return marks


def without_doubles(marks: Events, library_calls: Sequence[Events]) -> Events:
    """Leave out marks of calls of the GenAI library that the probe has `library_calls` as well: one of the same phase within the mark."""
    calls = np.concatenate([*library_calls, no_events()])
    if not len(marks) or not len(calls):
        return marks
    wrapped = (marks["kind"] & ~np.uint16(UNFINISHED) == Kind.PHASE) & (marks["dur"] > 0) & _at(_LIBRARY, marks["a"])
    phases, called = _at(_PHASES, marks["a"]), _at(_PHASES, calls["a"])
    doubled = np.zeros(len(marks), dtype=bool)
    begins, ends = marks["ts"], marks["ts"] + marks["dur"]
    for tid in np.intersect1d(marks["tid"][wrapped], calls["tid"]):
        for phase in np.intersect1d(phases[wrapped], called):
            within = np.sort(calls["ts"][(calls["tid"] == tid) & (called == phase)])
            of_thread = wrapped & (marks["tid"] == tid) & (phases == phase)
            doubled[of_thread] = np.searchsorted(within, ends[of_thread]) > np.searchsorted(within, begins[of_thread])
    return marks[~doubled]


def _at(table: npt.NDArray[Any], index: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    return table[np.minimum(index, np.uint64(len(table) - 1)).astype(np.int64)]


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def raw_records(data: bytes) -> Events:
    """Return the whole records of a file of marks, as they were written."""
    return np.frombuffer(data[: len(data) - len(data) % EVENT.itemsize], dtype=EVENT)
