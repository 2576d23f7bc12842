"""Properties of each trace: classes add up, nothing is negative, order does not matter, and a trace cut anywhere has a report."""

import dataclasses
import itertools
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from scene import CONNECTION, DOWNLOADER, MOUNT, START, TARGET, US, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.classes import GROUPS
from cvtrace.analysis.report import json, text
from cvtrace.probes.events import EVENT, Kind, Opcode, no_events, no_texts
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.tracer.store import Trace

SIBLING = TARGET + 1
SECOND_DAEMON, SECOND_WORKER, SECOND_CONNECTION = 300, 301, CONNECTION + 1
THREADS = (TARGET, SIBLING, WORKER, WORKER2, DOWNLOADER, SECOND_WORKER)
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TIMES = st.integers(0, 999)


def assert_sound(report: Report) -> None:
    """Check what every report must fulfil."""
    for row in report.phases:
        wall = round(row.wall_s * 1e9)
        assert sum(round(spent * 1e9) for spent in row.classes.values()) == wall
        groups = [getattr(row, f"{group}_s") for group in GROUPS]
        assert sum(round(spent * 1e9) for spent in groups) == wall
        assert min(row.classes.values(), default=0) >= 0
        assert all(value >= 0 for value in vars(row).values() if isinstance(value, int | float))
        # Bounds are parts of classes that are there.
        assert (row.spin_overlap_s or 0) <= row.classes["compute.cpu"]
        assert (row.daemon_starved_s or 0) <= row.network_s + row.cache_s + 1e-12
    assert sum(round(row.wall_s * 1e9) for row in report.phases) == round(report.trace.duration_s * 1e9)
    for fetch in report.fetches:
        assert min(fetch.queue_s, fetch.connect_s, fetch.request_s, fetch.transfer_s, fetch.fill_s) >= 0
    for token in report.tokens:
        groups = [getattr(token, f"{group}_s") for group in GROUPS]
        assert sum(round(spent * 1e9) for spent in groups) == round(token.wall_s * 1e9) >= 0
    assert report.verdict.steps == len(report.tokens)
    assert json.render(report)
    assert text.render(report, verbose=True)
    assert_short(text.render(report))


def assert_short(summary: str) -> None:
    """Check that a summary fits a terminal."""
    lines = summary.splitlines()
    assert len(lines) <= 30, summary
    assert max(map(cell_len, lines)) <= 80, summary
    assert not any(line != line.rstrip() for line in lines)


class TwoMounts(Scene):
    """A scene with a second mount, served by a daemon of its own."""

    def mounts(self, events: np.ndarray) -> list[dict[str, Any]]:
        second = {"path": f"{MOUNT}.second", "connection": SECOND_CONNECTION, "device": SECOND_CONNECTION}
        return [self.mount(events), {**self.mount(events), **second, "daemon_pid": SECOND_DAEMON, "counters_after": {}}]

    def _meta(self, events: np.ndarray) -> dict[str, Any]:
        return {**super()._meta(events), "mounts": self.mounts(events)}

    def second_request(self, sent: float, received: float, replying: float, replied: float, offset: int) -> None:
        """Add a READ that the second daemon answers; its number is one that the first one uses, too."""
        unique, daemon = 2, SECOND_DAEMON
        add, head = self.add, Opcode.READ << 32
        add(Kind.FUSE_SEND, sent, replied, tid=TARGET, a=unique, b=SECOND_CONNECTION, c=head | 80)
        add(Kind.FUSE_DAEMON, received, replied, tid=SECOND_WORKER, tgid=daemon, a=unique, b=7, c=head | TARGET)
        add(Kind.FUSE_READ, received, tid=SECOND_WORKER, tgid=daemon, a=unique, b=offset, c=4096)
        add(Kind.FUSE_REPLY, replying, replied, tid=SECOND_WORKER, tgid=daemon, a=unique, b=4112, ret=4112)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Return a scene of requests, fetches, waits and calls at any times, plausible or not."""
    scene = TwoMounts(end=1000)

    def span() -> tuple[int, int]:
        first, second = sorted((draw(TIMES), draw(TIMES)))
        return first, second

    for _ in range(draw(st.integers(0, 4))):
        start, stop = span()
        scene.call(draw(st.sampled_from(FUNCTIONS)).symbol, start, stop, tid=draw(st.sampled_from((TARGET, SIBLING))))
    for number in range(draw(st.integers(0, 4))):
        start, stop = span()
        worker = draw(st.sampled_from((WORKER, WORKER2)))
        sent = draw(st.none() | st.integers(0, start))
        asker = draw(st.sampled_from((TARGET, SIBLING, 999)))
        opcode = draw(st.sampled_from((Opcode.READ, Opcode.OPEN, Opcode.LOOKUP, Opcode.RELEASE)))
        scene.request(
            opcode, start, (start + stop) / 2, stop, sent=sent, worker=worker, asker=asker, offset=number * 4096
        )
        if draw(st.booleans()):
            times = sorted(draw(st.lists(TIMES, min_size=5, max_size=5)))
            handed, get, first, done, filled = (time + 10 for time in times)
            polls = (span(), span()) if draw(st.booleans()) else ()
            scene.fetch(Fetch(handed, get, first, done, filled, polls=polls, number=number), worker=worker)
    for _ in range(draw(st.integers(0, 5))):
        start, stop = span()
        woken = draw(st.integers(start, stop))
        waker, tid = draw(st.sampled_from((*THREADS, 0))), draw(st.sampled_from(THREADS))
        scene.off(start, woken, stop, by=waker, tid=tid, state=draw(st.sampled_from((0, 1, 2))))
    if draw(st.booleans()):
        times = sorted(draw(st.lists(TIMES, min_size=4, max_size=4)))
        scene.second_request(*times, offset=draw(st.integers(0, 8)) * 4096)
    for _ in range(draw(st.integers(0, 3))):
        start, stop = span()
        scene.opened(start, (start + stop) / 2, 5).read((start + stop) / 2, stop, 5)
        scene.add(Kind.SYS_WAIT, *span(), tid=SIBLING, a=202)
        # Copies of the descriptor, mappings of it, and what is read ahead.
        scene.add(Kind.SYS_DUP, draw(TIMES), tid=TARGET, ret=6, a=5)
        scene.read(*span(), draw(st.sampled_from((5, 6))), tid=draw(st.sampled_from((TARGET, SIBLING))))
        scene.add(Kind.SYS_CLOSE, draw(TIMES), tid=TARGET, a=draw(st.sampled_from((5, 6))))
        start, stop = span()
        scene.add(Kind.SYS_MMAP, start, stop, tid=TARGET, a=draw(st.sampled_from((5, 6))), c=65536)
        scene.add(Kind.SYS_MAPPED, start, stop, tid=TARGET, a=1 << 40, b=5, c=65536)
        scene.add(Kind.SYS_UNMAP, *span(), tid=SIBLING, a=1 << 40, c=draw(st.sampled_from((4096, 65536))))
        pages = draw(st.integers(0, 64)) | draw(st.integers(1, 32)) << 48
        scene.add(Kind.READAHEAD, draw(TIMES), tid=TARGET, a=42, b=7, c=pages, ret=draw(st.integers(0, 4)))
        scene.add(Kind.PAGE_READ, draw(TIMES), tid=TARGET, a=42, b=7, c=draw(st.integers(0, 64)) | 3 << 48)
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from((Kind.FAULT, Kind.PAGE_MAP)))
        pages = 0 if kind is Kind.FAULT else draw(st.integers(1, 16)) << 48
        scene.add(kind, draw(TIMES), tid=TARGET, a=42, b=7, c=draw(st.integers(0, 16)) | pages)
    scene.add(Kind.PROC_FORK, 0, tid=TARGET, a=TARGET, b=SIBLING)
    return scene


@given(scenes())
@SLOW
def test_classes_add_up_and_nothing_is_negative(scene: Scene) -> None:
    assert_sound(analyse(scene.trace()))


@given(scenes(), st.randoms(use_true_random=False))
@SLOW
def test_the_order_of_events_does_not_matter(scene: Scene, random: object) -> None:
    trace = scene.trace()
    order = np.arange(len(trace.events))
    random.shuffle(order)  # type: ignore[attr-defined]
    ordered = np.argsort(trace.events, order=("ts", "kind", "tid"), kind="stable")
    sorted_trace = dataclasses.replace(trace, events=trace.events[ordered])
    unique = len(np.unique(trace.events[["ts", "kind", "tid"]])) == len(trace.events)
    shuffled = dataclasses.replace(trace, events=trace.events[order], texts=trace.texts[::-1])
    if unique:
        assert analyse(shuffled) == analyse(sorted_trace)


def test_the_order_of_events_of_the_same_time_does_not_matter() -> None:
    # GIVEN calls and a request that begin at the same time, which a thread's own calls do in damaged traces only
    scene = Scene(end=1000)
    scene.add(Kind.SYS_CLOSE, 0, tid=TARGET, a=5)
    scene.add(Kind.SYS_MMAP, 0, 1, tid=TARGET, a=5, c=65536)
    scene.request(Opcode.LOOKUP, 0, 0.5, 1, worker=WORKER2)
    trace = scene.trace()
    # WHEN they come in any order THEN the report is the same
    orders = itertools.permutations(range(len(trace.events)))
    reports = [analyse(dataclasses.replace(trace, events=trace.events[list(order)])) for order in orders]
    assert all(report == reports[0] for report in reports[1:])


@given(scenes(), st.integers(0, 200), st.integers(0, 200))
@SLOW
def test_a_trace_cut_anywhere_has_a_report(scene: Scene, events: int, texts: int) -> None:
    trace = scene.trace()
    meta = {**trace.meta, "clock": {"start_ns": START, "end_ns": None}, "finished": False}
    cut = Trace(trace.path, meta, trace.events[:events], trace.texts[:texts], "the trace ends at 0.1 s")
    assert_sound(analyse(cut))


def totals_ns(report: Report) -> dict[str, int]:
    """Return the nanoseconds of each class over all phases."""
    total: dict[str, int] = {}
    for row in report.phases:
        for name, spent in row.classes.items():
            total[name] = total.get(name, 0) + round(spent * 1e9)
    return total


def cut_after(trace: Trace, records: int) -> Trace:
    """Return what is on disk of a recording that was killed: records come when what they tell of is over."""
    ends = trace.events["ts"] + trace.events["dur"]
    # The reply (42) comes right before the request that it ends (40).
    indexes = np.sort(np.lexsort((-trace.events["kind"].astype(np.int64), ends))[:records])
    clock = {**trace.meta["clock"], "end_ns": None}
    meta = {**trace.meta, "clock": clock, "finished": False}
    return Trace(trace.path, meta, trace.events[indexes], trace.texts, "the trace ends early")


@given(scenes(), st.integers(0, 200))
@SLOW
def test_a_recording_killed_anywhere_has_a_report(scene: Scene, records: int) -> None:
    assert_sound(analyse(cut_after(scene.trace(), records)))


@st.composite
def lives(draw: st.DrawFn) -> Scene:
    """Return a scene that can happen: a target that reads, waits for its reads or for a thread that reads, and computes, in turns."""
    scene = TwoMounts(end=1000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET)
    scene.add(Kind.PROC_FORK, 0, tid=TARGET, a=TARGET, b=SIBLING)
    now = 10
    for number in range(draw(st.integers(1, 5))):
        now += draw(st.integers(5, 40))
        activity = draw(st.sampled_from(("read", "thread reads", "fault", "second mount", "sleep")))
        length = draw(st.integers(60, 120))
        if activity == "sleep":
            scene.off(now, now + length - 3, now + length, by=0)
            scene.add(Kind.SYS_WAIT, now - 1, now + length + 1, tid=TARGET, a=230)
        elif activity == "second mount":
            scene.second_request(now, now + 10, now + length - 10, now + length - 4, offset=number * 4096)
            scene.off(now + 1, now + length - 6, now + length, by=SECOND_WORKER)
        else:
            _read(draw, scene, now, length, number, SIBLING if activity == "thread reads" else TARGET)
        if activity == "thread reads":
            # The target sleeps in a futex until the thread, which has its pages by then, wakes it.
            scene.off(now + 2, now + length + 2, now + length + 5, by=SIBLING)
            scene.add(Kind.SYS_WAIT, now + 1, now + length + 6, tid=TARGET, a=202)
        elif activity == "fault":
            scene.add(Kind.FAULT, now - 1, tid=TARGET, a=42, b=7, c=number)
            scene.add(Kind.READAHEAD, now - 0.5, tid=TARGET, a=42, b=7, c=number | 4 << 48, ret=1)
            scene.add(Kind.PAGE_MAP, now + length + 1, tid=TARGET, a=42, b=7, c=number | 4 << 48)
        now += length + 8
    scene.end = now + 20
    return scene


def _read(draw: st.DrawFn, scene: Scene, now: int, length: int, number: int, asker: int) -> None:
    """Add a READ that its asker waits for, perhaps with a fetch, in a daemon that may be short of CPU."""
    replied = now + length - 4
    scene.request(Opcode.READ, now + 10, now + length - 10, replied, sent=now, asker=asker, offset=number * 4096)
    if draw(st.booleans()):
        scene.fetch(Fetch(now + 18, now + 22, now + 30, now + 40, now + 46, number=number))
        if draw(st.booleans()):
            scene.preempted(now + 41, now + 43, tid=DOWNLOADER)
    scene.cache_read(now + 47, now + length - 11)
    if draw(st.booleans()):
        scene.preempted(now + 49, now + 52, tid=WORKER)
    scene.off(now + 1, now + length - 6, now + length, by=WORKER, tid=asker)


@given(lives(), st.integers(1, 200))
@SLOW
def test_cutting_a_trace_only_moves_time_to_unattributed(scene: Scene, records: int) -> None:
    # GIVEN a recording of things that can happen, and what is on disk of it when the recorder is killed
    trace = scene.trace()

    # WHEN
    full, cut = totals_ns(analyse(trace)), totals_ns(analyse(cut_after(trace, records)))

    # THEN no class has more than it has in the whole
    for name, spent in cut.items():
        assert name == "unattributed" or spent <= full.get(name, 0), (name, spent, full)


@given(
    st.lists(
        st.tuples(
            st.integers(START, START + 1000 * US),
            st.integers(0, 10_000 * US),
            st.sampled_from((TARGET, WORKER, 77)),
            st.sampled_from(tuple(Kind)),
            st.integers(-5, 300),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1) | st.integers(0, 100),
        ),
        max_size=30,
    )
)
@example([(START, 0, TARGET, Kind.OFFCPU, 0, 0, 0, 0)])  # in a recording of no length
@SLOW
def test_invalid_events_have_a_report(rows: list[tuple[int, ...]]) -> None:
    events = np.array(
        [(ts, dur, tid, tid, kind, 0, ret, a, b, c) for ts, dur, tid, kind, ret, a, b, c in rows], dtype=EVENT
    )
    trace = dataclasses.replace(Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace(), events=events, texts=no_texts())
    analyse(trace)


def test_a_trace_without_events_has_a_report() -> None:
    meta = {"target": {}, "clock": {}, "mounts": [], "missing": [], "lost": {}}
    base = Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace()
    assert_sound(analyse(Trace(base.path, meta, no_events(), no_texts(), "the trace ends before its first event")))
