"""Numbers of threads in PID namespaces, and marks that the probe has seen as well."""

from __future__ import annotations

import numpy as np

from cvtrace.probes.events import EVENT, UNFINISHED, Events, Kind
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.numbers import Numbers, translate, without_doubles

LOAD, TOKEN = INDEX["OgaCreateModel"], INDEX["OgaGenerator_GenerateNextToken"]
SESSION, USERS = INDEX["onnxruntime.InferenceSession"], INDEX["cvtrace.phase"]


def events(*rows: tuple[int, int, int, int, int, int]) -> Events:
    """Make events of (ts, dur, tgid, tid, kind, a)."""
    return np.array([(ts, dur, tgid, tid, kind, 0, 0, a, 0, 0) for ts, dur, tgid, tid, kind, a in rows], dtype=EVENT)


def phase_event(ts: int, inner: tuple[int, int], outer: tuple[int, int]) -> Events:
    mark = events((ts + 5, 0, *outer, Kind.MARK, ts))
    mark["c"], mark["b"] = inner
    return mark


def test_marks_get_the_thread_numbers_of_the_probe() -> None:
    # GIVEN two namespaces in which a thread has the same numbers, and a mark of which the probe told nothing
    marks = events((10, 1, 2, 2, Kind.PHASE, LOAD), (20, 1, 2, 2, Kind.PHASE, LOAD), (30, 1, 2, 3, Kind.PHASE, LOAD))
    # WHEN
    rows = translate(
        marks, [phase_event(10, (2, 2), (700, 700)), phase_event(20, (2, 2), (800, 801))], {(2, 3): (700, 703)}
    )
    # THEN
    assert rows[["tgid", "tid"]].tolist() == [(700, 700), (800, 801), (700, 703)]


def test_other_records_of_a_thread_get_its_numbers_too() -> None:
    # GIVEN a block of marks of which the probe tells the first / WHEN
    marks = events((10, 1, 2, 2, Kind.PHASE, LOAD), (10, 0, 2, 2, 0x7F04, 0), (12, 1, 2, 2, Kind.IMPORT, 0))
    rows = translate(marks, [phase_event(10, (2, 2), (700, 700))], {})
    # THEN
    assert rows["tid"].tolist() == [700] * 3


def test_marks_outside_of_pid_namespaces_are_unchanged() -> None:
    marks = events((10, 1, 700, 701, Kind.PHASE, LOAD))
    assert translate(marks, [], {}).tolist() == marks.tolist()
    assert len(translate(marks[:0], [phase_event(10, (2, 2), (7, 7))], {})) == 0


def test_number_records_of_the_probe_are_removed_from_the_events() -> None:
    numbers = Numbers()
    remaining = numbers.take(
        np.concatenate([phase_event(10, (2, 2), (700, 700)), events((1, 1, 7, 7, Kind.SYS_READ, 0))])
    )
    assert remaining["kind"].tolist() == [Kind.SYS_READ]
    assert numbers.translate(events((10, 1, 2, 2, Kind.PHASE, LOAD)))["tid"].tolist() == [700]


def test_a_call_that_the_probe_saw_is_not_marked_twice() -> None:
    # GIVEN marks of the hook, and what the probe saw of the same calls: not of the first, as it attached later
    marks = events(
        (10, 80, 7, 7, Kind.PHASE, LOAD),
        (100, 50, 7, 7, Kind.PHASE, TOKEN),
        (200, 50, 7, 7, Kind.PHASE, TOKEN),
        (200, 50, 7, 8, Kind.PHASE, TOKEN),
        (190, 90, 7, 7, Kind.PHASE, USERS),
        (190, 90, 7, 7, Kind.PHASE, SESSION),
        (300, 50, 7, 7, Kind.PHASE, TOKEN),
    )
    batches = [events((101, 40, 7, 7, Kind.PHASE, TOKEN)), events((201, 40, 7, 7, Kind.PHASE, TOKEN))]
    batches.append(events((302, 1, 7, 7, Kind.PHASE | UNFINISHED, TOKEN)))
    # WHEN / THEN what only the hook saw stays, and what others than the library do
    assert without_doubles(marks, batches)[["ts", "tid", "a"]].tolist() == [
        (10, 7, LOAD),
        (200, 8, TOKEN),
        (190, 7, USERS),
        (190, 7, SESSION),
    ]
    assert len(without_doubles(marks, [])) == len(marks)
