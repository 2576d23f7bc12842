"""No part of a report contradicts another: counts, times, states of the caches and causes, with other readers, failures and processes."""

import dataclasses
import re
from typing import Final

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene import CONNECTION, DAEMON, TARGET, WORKER2, Scene
from test_properties import assert_sound, lives

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report import text
from cvtrace.analysis.report.failed import sentences
from cvtrace.analysis.storage.causes import CAUSES
from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import Trace

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHILD, STRANGER = TARGET + 50, 990
EIO: Final = -5
UNITS: Final = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
OF: Final = re.compile(r"waited ([\d.,]+) (s|ms|µs|ns) of (?:its )?([\d.,]+) (s|ms|µs|ns)")
FREE: Final = st.integers(1, 60)


def failed_request(
    scene: Scene, at: float, *, asker: int, opcode: Opcode = Opcode.READ, error: int = EIO, offset: int = 0
) -> None:
    """Add a request that the client answers with an error; the thread that sent it waits for it."""
    unique = scene.request(opcode, at + 2, at + 6, at + 7, sent=at, asker=asker, worker=WORKER2, offset=offset, node=8)
    for place, row in enumerate(scene.events):
        if row[2] == DAEMON and row[4] == Kind.FUSE_DAEMON and row[7] == unique:
            scene.events[place] = (*row[:6], error, *row[7:])
        if row[2] == DAEMON and row[4] == Kind.FUSE_REPLY and row[7] == unique:
            scene.events[place] = (*row[:8], 16, 0, *row[10:])
    scene.off(at + 0.5, at + 6.5, at + 8, by=WORKER2, tid=asker)


def unanswered(scene: Scene, at: float, *, asker: int) -> None:
    """Add a READ that the client has read and not answered when the recording ends."""
    scene.unique += 2
    head = Opcode.READ << 32
    scene.add(Kind.FUSE_SEND, at, scene.end, tid=asker, a=scene.unique, b=CONNECTION, c=head | 80, unfinished=True)
    scene.add(Kind.FUSE_DAEMON, at + 1, scene.end, tid=WORKER2, a=scene.unique, b=7, c=head | asker, unfinished=True)
    scene.add(Kind.FUSE_READ, at + 1, tid=WORKER2, a=scene.unique, b=1 << 20, c=4096)


def child(scene: Scene, draw: st.DrawFn) -> None:
    """Add a process of the target that reads, and for which the target waits."""
    at = scene.end
    scene.add(Kind.PROC_FORK, at, tid=TARGET, a=CHILD, b=CHILD)
    scene.add(Kind.PROC_EXEC, at + 1, tid=CHILD, tgid=CHILD, text="/usr/bin/worker")
    scene.request(Opcode.READ, at + 5, at + 30, at + 34, sent=at + 3, asker=CHILD, sender=CHILD, offset=1 << 22)
    scene.add(Kind.OFFCPU, at + 4, at + 36, tid=CHILD, tgid=CHILD, a=1_000_000_000 + (at + 33) * 1000, b=201, c=2)
    if draw(st.booleans()):
        failed_request(scene, at + 40, asker=CHILD)
    scene.add(Kind.PROC_EXIT, at + 60, tid=CHILD, tgid=CHILD)
    scene.add(Kind.SYS_WAIT, at + 2, at + 66, tid=TARGET, ret=CHILD, a=61)
    scene.off(at + 3, at + 62, at + 65, by=CHILD)
    scene.add(Kind.PROC_REAPED, at + 66, tid=TARGET, a=CHILD, b=draw(st.sampled_from((0, 7, 256))))
    scene.end = at + 90


@st.composite
def crowded(draw: st.DrawFn) -> Scene:
    """Return a life with other readers, requests that fail or have no answer, and a second process."""
    scene = draw(lives())
    if draw(st.booleans()):
        child(scene, draw)
    for _ in range(draw(st.integers(0, 2))):
        at = scene.end
        scene.end += 20
        opcode = draw(st.sampled_from((Opcode.READ, Opcode.OPEN, Opcode.LOOKUP)))
        failed_request(scene, at, asker=TARGET, opcode=opcode, error=draw(st.sampled_from((EIO, -103, -28))))
    if draw(st.booleans()):
        foreign(scene, scene.end - 12)
    if draw(st.booleans()):
        unanswered(scene, scene.end - 5, asker=TARGET)
    if draw(st.booleans()):
        scene.call("OgaGenerator_AppendTokens", 5, 40)
        scene.call("OgaGenerator_GenerateNextToken", 41, scene.end - 1)
    scene.meta["target"] = {
        "argv": ["run.py"], "pid": TARGET, "cwd": "/", "user": "user", "exit_code": draw(st.sampled_from((0, 1))), "signal": None
    }  # fmt: skip
    return scene


def foreign(scene: Scene, at: float) -> None:
    """Add a READ of somebody else."""
    scene.request(
        Opcode.READ, at + 1, at + 4, at + 5, sent=at, asker=STRANGER, sender=WORKER2, worker=WORKER2, offset=1 << 24
    )


def assert_consistent(report: Report, trace: Trace) -> None:
    """Check that numbers that are told twice are the same, and that words fit the numbers."""
    rows, verdict = report.phases, report.verdict
    reads = sum(row.fuse_reads or 0 for row in rows)
    read_bytes = sum(row.fuse_read_bytes or 0 for row in rows)
    # Counts: phases, files, processes and tensors count the same READs.
    assert sum(file.reads for file in report.files) == reads
    assert sum(file.read_bytes for file in report.files) == read_bytes
    assert sum(process.fuse_reads or 0 for process in report.processes) == reads
    assert sum(process.fuse_read_bytes or 0 for process in report.processes) == read_bytes
    assert sum(process.http_fetches or 0 for process in report.processes) == sum(row.http_fetches or 0 for row in rows)
    assert sum(process.failed_requests or 0 for process in report.processes) == sum(
        row.count for row in report.failures
    )
    assert all((row.fuse_reads or 0) <= (row.fuse_requests or 0) for row in rows)
    assert (verdict.fuse_reads or 0) <= (verdict.fuse_requests or 0)
    assert sum(verdict.causes.values()) <= (verdict.fuse_requests or 0)
    assert set(verdict.causes) <= set(CAUSES)
    # Times: parts are no more than the whole, also where they are words.
    for process in report.processes:
        assert sum(round(class_ * 1e9) for class_ in process.classes.values()) == round(process.wall_s * 1e9)
        assert process.wall_s <= report.trace.duration_s + 1e-9 or process.pid != TARGET
    summary = text.render(report, verbose=True) + " ".join(finding.evidence for finding in report.findings)
    for part, unit, total, whole_unit in OF.findall(" ".join(summary.split())):
        seconds = float(part.replace(",", "")) * UNITS[unit]
        assert seconds <= float(total.replace(",", "")) * UNITS[whole_unit] * 1.006, (part, unit, total, whole_unit)
    # States of the caches fit what was read and fetched.
    fetched = any(fetch.by_target for fetch in report.fetches)
    assert report.cache_state not in ("cold",) or fetched
    assert report.cache_state != "hot" or not reads
    assert report.cache_state != "warm" or reads
    assert report.cache_state != "none" or not reads
    for row in rows:
        assert row.cache_state not in ("warm", "warm-disk", "warm-memory") or row.fuse_reads
        assert row.cache_state != "cold" or row.http_fetches
    # An answer fits its numbers.
    if verdict.answer == "no":
        assert not verdict.fuse_reads
        assert not verdict.blocked_s
    # How it ended is said first, and only if it did not end well.
    sentences_ = sentences(report)
    assert bool(sentences_) == bool(
        report.trace.exit_code or report.failures or any(row.signal for row in report.processes)
    )
    assert "Processes" not in sentences_
    assert ("ended with exit code 1" in (sentences_ or [""])[0]) == (report.trace.exit_code == 1)


@given(crowded())
@SLOW
def test_no_part_of_a_report_contradicts_another(scene: Scene) -> None:
    trace = scene.trace()
    report = analyse(trace)
    assert_sound(report)
    assert_consistent(report, trace)


@given(lives(), FREE)
@SLOW
def test_a_failed_read_changes_no_count_of_reads_no_bytes_no_cause_and_no_state(scene: Scene, offset: int) -> None:
    # GIVEN a life, and the same with a READ that fails after everything else
    scene.end += 20
    before = analyse(scene.trace())
    failed_request(scene, scene.end - 15, asker=TARGET, offset=offset * 4096)
    after = analyse(scene.trace())

    # THEN it is told as a failure, and as nothing else
    assert len(after.failures) == len(before.failures) + 1
    assert after.cache_state == before.cache_state or before.cache_state == "none"
    assert after.verdict.causes == before.verdict.causes
    for first, second in zip(before.phases, after.phases, strict=True):
        assert (first.fuse_reads, first.fuse_read_bytes, first.disk_bytes) == (
            second.fuse_reads,
            second.fuse_read_bytes,
            second.disk_bytes,
        )
        assert first.cache_state == second.cache_state or first.cache_state == "none"
    assert {row.path: row.reads for row in before.files if row.reads} == {
        row.path: row.reads for row in after.files if row.reads
    }


@given(lives())
@SLOW
def test_a_read_of_another_process_does_not_change_the_target(scene: Scene) -> None:
    scene.end += 20
    before = analyse(scene.trace())
    foreign(scene, scene.end - 15)
    after = analyse(scene.trace())
    assert after.phases == before.phases
    assert after.files == before.files
    assert after.failures == before.failures
    assert after.verdict.answer == before.verdict.answer
    assert [dataclasses.replace(row, classes={}) for row in after.processes] == [
        dataclasses.replace(row, classes={}) for row in before.processes
    ]
    assert DAEMON not in [row.pid for row in after.processes]


def test_processes_that_failed_are_named_once() -> None:
    scene = Scene(end=200)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET)
    scene.add(Kind.PROC_FORK, 10, tid=TARGET, a=CHILD, b=CHILD)
    failed_request(scene, 20, asker=CHILD)
    scene.add(Kind.PROC_SIGNAL, 30, tid=CHILD, tgid=CHILD, ret=7, a=4096, c=2)
    scene.add(Kind.PROC_EXIT, 31, tid=CHILD, tgid=CHILD)
    scene.add(Kind.PROC_REAPED, 40, tid=TARGET, a=CHILD, b=7)
    text = sentences(analyse(scene.trace()))
    assert np.sum([line.count(str(CHILD)) for line in text]) == 1
    assert np.sum([line.count("failed") for line in text]) == 1
