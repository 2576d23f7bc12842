"""What must hold for every trace: classes add up, nothing is negative, order does not matter, no cut makes it fail."""

import dataclasses

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene import DOWNLOADER, START, TARGET, US, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report import json, text
from cvtrace.probes.events import EVENT, Kind, Opcode, no_events, no_texts
from cvtrace.probes.phases.functions import FUNCTIONS
from cvtrace.tracer.store import Trace

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TIMES = st.integers(0, 999)


def assert_sound(report: Report) -> None:
    """Check what every report must fulfil."""
    for row in report.phases:
        wall = round(row.wall_s * 1e9)
        assert sum(round(spent * 1e9) for spent in row.classes.values()) == wall
        groups = (row.network_s, row.cache_s, row.compute_s, row.other_s, row.unattributed_s)
        assert sum(round(spent * 1e9) for spent in groups) == wall
        assert min(row.classes.values(), default=0) >= 0
        assert all(value >= 0 for value in vars(row).values() if isinstance(value, int | float))
    assert sum(round(row.wall_s * 1e9) for row in report.phases) == round(report.trace.duration_s * 1e9)
    for fetch in report.fetches:
        assert min(fetch.queue_s, fetch.connect_s, fetch.request_s, fetch.transfer_s, fetch.fill_s) >= 0
    for token in report.tokens:
        groups = (token.network_s, token.cache_s, token.compute_s, token.other_s, token.unattributed_s)
        assert sum(round(spent * 1e9) for spent in groups) == round(token.wall_s * 1e9) >= 0
    assert report.verdict.tokens == len(report.tokens)
    assert json.render(report)
    assert text.render(report)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Return a scene of requests, fetches, waits and calls at any times, plausible or not."""
    scene = Scene(end=1000)

    def span() -> tuple[int, int]:
        first, second = sorted((draw(TIMES), draw(TIMES)))
        return first, second

    for _ in range(draw(st.integers(0, 4))):
        start, stop = span()
        scene.call(
            draw(st.sampled_from(FUNCTIONS)).symbol, start, stop, tid=draw(st.sampled_from((TARGET, TARGET + 1)))
        )
    for number in range(draw(st.integers(0, 4))):
        start, stop = span()
        worker = draw(st.sampled_from((WORKER, WORKER2)))
        sent = draw(st.none() | st.integers(0, start))
        asker = draw(st.sampled_from((TARGET, TARGET + 1, 999)))
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
        waker = draw(st.sampled_from((WORKER, WORKER2, TARGET + 1, DOWNLOADER, 0)))
        tid = draw(st.sampled_from((TARGET, TARGET + 1)))
        scene.off(start, woken, stop, by=waker, tid=tid, state=draw(st.sampled_from((0, 1, 2))))
    for _ in range(draw(st.integers(0, 3))):
        start, stop = span()
        scene.opened(start, (start + stop) / 2, 5).read((start + stop) / 2, stop, 5)
        scene.add(Kind.SYS_WAIT, *span(), tid=TARGET + 1, a=202)
        scene.add(Kind.PAGE_READ, draw(TIMES), tid=TARGET, a=42, b=7, c=draw(st.integers(0, 64)) | 3 << 48)
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from((Kind.FAULT, Kind.PAGE_MAP)))
        pages = 0 if kind is Kind.FAULT else draw(st.integers(1, 16)) << 48
        scene.add(kind, draw(TIMES), tid=TARGET, a=42, b=7, c=draw(st.integers(0, 16)) | pages)
    scene.add(Kind.PROC_FORK, 0, tid=TARGET, a=TARGET, b=TARGET + 1)
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
    kept = np.sort(np.lexsort((-trace.events["kind"].astype(np.int64), ends))[:records])
    clock = {**trace.meta["clock"], "end_ns": None}
    meta = {**trace.meta, "clock": clock, "finished": False}
    return Trace(trace.path, meta, trace.events[kept], trace.texts, "the trace ends early")


@given(scenes(), st.integers(0, 200))
@SLOW
def test_a_recording_killed_anywhere_has_a_report(scene: Scene, records: int) -> None:
    assert_sound(analyse(cut_after(scene.trace(), records)))


@st.composite
def lives(draw: st.DrawFn) -> Scene:
    """Return a scene that can happen: a target that reads, waits for its reads, and computes, in turns."""
    scene = Scene(end=1000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET)
    now = 10
    for number in range(draw(st.integers(1, 5))):
        now += draw(st.integers(5, 40))
        if draw(st.booleans()):
            length = draw(st.integers(60, 120))
            scene.request(Opcode.READ, now + 10, now + length - 10, now + length - 4, sent=now, offset=number * 4096)
            if draw(st.booleans()):
                fetched = Fetch(now + 18, now + 22, now + 30, now + 40, now + 46, number=number)
                scene.fetch(fetched)
            scene.cache_read(now + 47, now + length - 11)
            scene.off(now + 1, now + length - 6, now + length, by=WORKER)
            now += length
        else:
            length = draw(st.integers(5, 60))
            scene.off(now, now + length - 3, now + length, by=0)
            scene.add(Kind.SYS_WAIT, now - 1, now + length + 1, tid=TARGET, a=230)
            now += length + 2
    scene.end = now + 20
    return scene


@given(lives(), st.integers(1, 200))
@SLOW
def test_a_cut_only_moves_time_to_unattributed(scene: Scene, records: int) -> None:
    # GIVEN a recording of things that can happen, and what is on disk of it when the recorder is killed
    trace = scene.trace()

    # WHEN
    whole, cut = totals_ns(analyse(trace)), totals_ns(analyse(cut_after(trace, records)))

    # THEN no class has more than it has in the whole
    for name, spent in cut.items():
        assert name == "unattributed" or spent <= whole.get(name, 0), (name, spent, whole)


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
@SLOW
def test_events_that_make_no_sense_have_a_report(rows: list[tuple[int, ...]]) -> None:
    events = np.array(
        [(ts, dur, tid, tid, kind, 0, ret, a, b, c) for ts, dur, tid, kind, ret, a, b, c in rows], dtype=EVENT
    )
    trace = dataclasses.replace(Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace(), events=events, texts=no_texts())
    analyse(trace)


def test_a_trace_with_nothing_in_it_has_a_report() -> None:
    meta = {"target": {}, "clock": {}, "mounts": [], "missing": [], "lost": {}}
    base = Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace()
    assert_sound(analyse(Trace(base.path, meta, no_events(), no_texts(), "the trace ends before its first event")))
