"""Time that is only known to lie within a bound: spinning for a thread that is blocked, and a client without a CPU."""

import pytest
from scene import DOWNLOADER, START, TARGET, WORKER, Fetch, Scene
from scene import US as SCENE_US

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.report_schema import Phase
from cvtrace.analysis.report import text
from cvtrace.probes.events import Kind, Opcode

POOL = TARGET + 1
CHILD = TARGET + 50
TOKEN = "OgaGenerator_GenerateNextToken"
US = 1e-6


def scene() -> Scene:
    """A load that the daemon was seen in, with a thread of a pool."""
    timeline = Scene(end=1000).add(Kind.PROC_EXEC, 0, tid=TARGET).add(Kind.PROC_FORK, 1, tid=TARGET, a=TARGET, b=POOL)
    timeline.call("OgaCreateModel", 10, 60)
    timeline.request(Opcode.OPEN, 22, 28, 30, sent=20)
    timeline.off(21, 31, 32, by=WORKER)
    timeline.opened(19, 33, 5)
    timeline.add(Kind.SYS_MMAP, 34, 35, tid=TARGET, a=5, c=65536)
    timeline.add(Kind.FAULT, 36, tid=TARGET, a=42, b=7)
    return timeline


def blocked(timeline: Scene, sent: float, woken: float) -> Scene:
    """Let the pool's thread wait for a READ."""
    timeline.request(Opcode.READ, sent + 2, woken - 4, woken + 1, sent=sent, asker=POOL)
    return timeline.off(sent + 1, woken, woken + 2, by=WORKER, tid=POOL)


def decode(report: Report) -> Phase:
    return next(row for row in report.phases if row.name == "decode")


def test_a_thread_on_a_cpu_while_another_is_blocked_may_be_spinning() -> None:
    # GIVEN
    timeline = blocked(scene().call(TOKEN, 100, 500), 150, 400)

    # WHEN
    report = analyse(timeline.trace())

    # THEN it is told as a bound, and stays in its class
    assert decode(report).spin_overlap_s == pytest.approx(249 * US)
    assert decode(report).classes["compute.cpu"] == pytest.approx(400 * US)
    assert report.verdict.spin_overlap_s == pytest.approx(249 * US)
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert "more: for that time generation was on a CPU" in " ".join(text.render(report, verbose=True).split())


def test_a_thread_that_made_a_call_did_not_spin_before_it() -> None:
    timeline = blocked(scene().call(TOKEN, 100, 500), 150, 400).add(Kind.SYS_CLOSE, 298, 300, tid=TARGET, a=9)

    assert decode(analyse(timeline.trace())).spin_overlap_s == pytest.approx(100 * US)


def test_a_thread_that_goes_to_sleep_may_have_spun_before() -> None:
    # GIVEN a futex that it sleeps in until the other has got on
    timeline = blocked(scene().call(TOKEN, 100, 500), 150, 400)
    timeline.add(Kind.SYS_WAIT, 250, 412, tid=TARGET, a=202).off(251, 410, 411, by=POOL)

    report = analyse(timeline.trace())

    assert decode(report).spin_overlap_s == pytest.approx(100 * US)
    assert decode(report).cache_s > 100 * US


def test_a_thread_does_not_spin_for_another_process() -> None:
    # GIVEN the same wait, in a process that the target forked
    timeline = scene().call(TOKEN, 100, 500)
    timeline.add(Kind.PROC_FORK, 2, tid=TARGET, a=CHILD, b=CHILD)
    timeline.request(Opcode.READ, 152, 396, 401, asker=CHILD)
    timeline.add(Kind.OFFCPU, 151, 402, tid=CHILD, tgid=CHILD, a=START + 400 * SCENE_US, b=WORKER, c=1)

    assert decode(analyse(timeline.trace())).spin_overlap_s == 0


def test_a_no_requires_that_no_thread_can_have_spun() -> None:
    # GIVEN a token during which another thread waits for what was asked for before
    timeline = blocked(scene(), 70, 400).call(TOKEN, 100, 500)

    # WHEN
    verdict = analyse(timeline.trace()).verdict

    # THEN
    assert (verdict.generation_hits_cvmfs, verdict.fuse_requests) == ("inconclusive", 0)
    assert any("by spinning" in reason for reason in verdict.missing)
    # AND without, it is one
    assert analyse(scene().call(TOKEN, 100, 500).trace()).verdict.generation_hits_cvmfs == "no"


def test_a_client_without_a_cpu_is_reported_and_stays_in_its_class() -> None:
    # GIVEN a worker that is preempted while it looks something up, and a download thread while it unpacks
    timeline = scene().call(TOKEN, 100, 500)
    timeline.request(Opcode.READ, 120, 440, 450, sent=110)
    timeline.fetch(Fetch(150, 160, 200, 300, 320))
    timeline.off(111, 445, 446, by=WORKER)
    plain = decode(analyse(timeline.trace()))
    timeline.preempted(125, 135, tid=WORKER).preempted(250, 280, tid=DOWNLOADER)
    # Woken, and not on a CPU yet; blocked before, which is no lack of one.
    timeline.off(400, 410, 415, by=0, tid=WORKER)

    # WHEN
    row = decode(analyse(timeline.trace()))

    # THEN
    assert plain.daemon_starved_s == 0
    assert row.daemon_starved_s == pytest.approx(45 * US)
    assert row.classes == plain.classes


def test_without_the_schedulers_events_the_answer_is_unknown() -> None:
    timeline = scene().call(TOKEN, 100, 500)
    timeline.events = [event for event in timeline.events if event[4] != Kind.OFFCPU]

    row = decode(analyse(timeline.trace()))

    assert row.spin_overlap_s is None
    assert row.daemon_starved_s is None
