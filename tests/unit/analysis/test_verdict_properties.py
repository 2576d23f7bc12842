"""Properties of each verdict: never `no` with a request in an answer, and requests of others do not change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene import DAEMON, TARGET, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.verdict_schema import Verdict
from cvtrace.probes.events import Kind, Opcode

OTHER_CONNECTION = 77
ALWAYS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIBLING, HELPER, STRANGER = TARGET + 1, TARGET + 50, 999
NEEDED = (Opcode.READ, Opcode.OPEN, Opcode.LOOKUP, Opcode.GETATTR)
OTHER_MOUNTS = [
    {
        "path": "/cvmfs/b.test.org",
        "device": OTHER_CONNECTION,
        "connection": OTHER_CONNECTION,
        "type": "fuse",
        "source": "cvmfs2",
    },
    {
        "path": "/home/ann/far",
        "device": OTHER_CONNECTION + 1,
        "connection": OTHER_CONNECTION + 1,
        "type": "fuse.sshfs",
        "source": "far:",
    },
]


@dataclass
class Run:
    """A run that is a proven no by itself: a hot load, then answers with pauses between them; times in µs."""

    scene: Scene
    answers: list[tuple[int, int]]
    quiet: list[tuple[int, int]]
    """When nothing is generated."""


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Return a run of one or two generators, in one or two threads, with failed calls and named phases."""
    scene = Scene()
    scene.add(Kind.PROC_EXEC, 1, tid=TARGET, text="/usr/bin/python3")
    scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=TARGET, b=SIBLING)
    scene.add(Kind.PROC_FORK, 2, tid=TARGET, a=HELPER, b=HELPER)
    scene.call("OgaCreateModel", 100, 400)
    scene.opened(110, 130, 5)
    scene.request(Opcode.OPEN, 115, 120, 125, sent=112)
    scene.hit(116, 1)
    scene.add(Kind.SYS_MMAP, 140, 141, tid=TARGET, a=5, c=1 << 20)
    scene.page(Kind.PAGE_MAP, 150, 0, 16)
    now, answers, quiet = 410, [], []
    for number in range(draw(st.integers(1, 3))):
        pause = draw(st.integers(10, 3000))
        quiet.append((now + 2, now + pause - 2))
        if pause > 1100:
            scene.add(Kind.SYS_READ, now + 1, now + pause - 1, tid=TARGET, a=0, ret=9)
        now += pause
        begin, generator = now, number % 2 + 1
        tid = draw(st.sampled_from((TARGET, SIBLING)))
        for function in ["OgaGenerator_AppendTokens"] * draw(st.integers(1, 2)):
            scene.call(function, now, now + 20, tid=tid, b=generator)
            now += 30
        for _ in range(draw(st.integers(1, 4))):
            failed = draw(st.integers(0, 5)) == 0
            scene.call("OgaGenerator_GenerateNextToken", now, now + 15, tid=tid, b=generator, ret=-int(failed))
            end = now + 15
            now += draw(st.integers(16, 60))
        scene.call("OgaGenerator_GenerateNextToken", now, now + 15, tid=tid, b=generator)
        end, now = now + 15, now + 20
        answers.append((begin, end))
    quiet.append((now + 2, now + 80))
    if draw(st.booleans()):
        scene.named("questions", 405, now)
    scene.end = now + 100
    return Run(scene, answers, quiet)


def verdict(run: Run, **changes: Any) -> Verdict:
    return analyse(run.scene.trace(other_mounts=OTHER_MOUNTS, **changes)).verdict


def moment(draw: Any, spans: list[tuple[int, int]]) -> float:
    """Return a moment within one of the spans."""
    begin, end = draw(st.sampled_from([span for span in spans if span[1] > span[0]]))
    return float(draw(st.integers(begin, max(begin, end - 1)))) + 0.2


@given(runs())
@ALWAYS
def test_a_run_that_needs_nothing_is_a_no(run: Run) -> None:
    outcome = verdict(run)
    assert outcome.generation_hits_cvmfs == "no", outcome.missing
    assert outcome.steps == outcome.tokens


@given(runs(), st.data(), st.sampled_from(NEEDED), st.sampled_from((TARGET, SIBLING, HELPER)))
@ALWAYS
def test_no_run_with_a_request_in_an_answer_is_a_no(run: Run, data: st.DataObject, opcode: Opcode, tid: int) -> None:
    at = moment(data.draw, run.answers)
    run.scene.request(opcode, at + 0.1, at + 0.3, at + 0.4, sent=at, asker=tid, offset=1 << 20)

    outcome = verdict(run)

    assert outcome.generation_hits_cvmfs == "yes"
    assert outcome.fuse_requests == 1
    assert outcome.first_token is not None
    assert outcome.further_tokens is not None
    assert (outcome.first_token.fuse_requests or 0) + (outcome.further_tokens.fuse_requests or 0) == 1


@given(runs(), st.data(), st.sampled_from(NEEDED), st.sampled_from((TARGET, SIBLING, HELPER)), st.booleans())
@ALWAYS
def test_no_run_with_a_request_to_another_mount_in_an_answer_is_a_no(
    run: Run, data: st.DataObject, opcode: Opcode, tid: int, is_cvmfs: bool
) -> None:
    at = moment(data.draw, run.answers)
    connection = OTHER_CONNECTION if is_cvmfs else OTHER_CONNECTION + 1
    run.scene.add(Kind.FUSE_SEND, at, at + 0.4, tid=tid, a=2, b=connection, c=opcode << 32 | 80)

    assert verdict(run).generation_hits_cvmfs == ("yes" if is_cvmfs else "inconclusive")


@given(runs(), st.data(), st.sampled_from(NEEDED), st.sampled_from((TARGET, SIBLING, HELPER)), st.integers(-5, 0))
@ALWAYS
def test_requests_between_answers_change_nothing(
    run: Run, data: st.DataObject, opcode: Opcode, tid: int, error: int
) -> None:
    # GIVEN a request, answered or failed, while nothing is generated
    at = moment(data.draw, run.quiet)
    run.scene.request(opcode, at + 0.1, at + 0.3, at + 0.4, sent=at, asker=tid, offset=1 << 20)
    if error:
        run.scene.events = [
            (*event[:6], error, *event[7:]) if event[4] == Kind.FUSE_DAEMON and event[0] > 10**9 + at * 1000 else event
            for event in run.scene.events
        ]

    assert verdict(run).generation_hits_cvmfs == "no"


@given(runs(), st.data(), st.sampled_from((*NEEDED, Opcode.RELEASE)), st.booleans())
@ALWAYS
def test_requests_of_others_change_nothing(run: Run, data: st.DataObject, opcode: Opcode, foreign: bool) -> None:
    # GIVEN a request of a stranger in an answer, or a RELEASE of the target, which nobody waits for
    at = moment(data.draw, run.answers)
    asker = STRANGER if foreign or opcode != Opcode.RELEASE else TARGET
    run.scene.request(opcode, at + 0.1, at + 0.3, at + 0.4, sent=at, asker=asker, sender=DAEMON + 99, offset=1 << 20)

    outcome = verdict(run)

    assert outcome.generation_hits_cvmfs == "no", outcome.missing
    assert outcome.fuse_requests == 0


@given(runs(), st.data())
@ALWAYS
def test_a_fetch_that_no_request_needs_changes_nothing(run: Run, data: st.DataObject) -> None:
    # GIVEN a GET of the client's own, as it asks for its manifest, at any time
    before = verdict(run)
    run.scene.manifest(moment(data.draw, [*run.answers, *run.quiet]))

    outcome = verdict(run)

    assert outcome.generation_hits_cvmfs == "no", outcome.missing
    assert (outcome.http_fetches, outcome.fuse_requests) == (before.http_fetches, before.fuse_requests) == (0, 0)


@given(runs(), st.data(), st.sampled_from((TARGET, SIBLING, HELPER)))
@ALWAYS
def test_a_failed_call_changes_nothing(run: Run, data: st.DataObject, tid: int) -> None:
    before = verdict(run)
    at = moment(data.draw, run.quiet)
    run.scene.call("OgaGenerator_GenerateNextToken", at, at + 0.5, tid=tid, b=3, ret=-1)

    outcome = verdict(run)

    assert outcome.generation_hits_cvmfs == "no", outcome.missing
    assert (outcome.tokens, outcome.steps) == (before.tokens, before.steps)
    assert outcome.failed_steps == before.failed_steps + 1
