"""Yes, no and inconclusive, each with its reason."""

from typing import Any

import pytest
from runs import generation
from scene import DAEMON, MODEL, TARGET, WORKER, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.joins.requests import PASSTHROUGH
from cvtrace.probes.events import Kind, Opcode


def reasons(report: Report) -> str:
    return "; ".join(report.verdict.missing)


def attached(scene: Scene) -> dict[str, Any]:
    target = scene.trace().meta["target"]
    return {"target": {**target, "attached": True}}


def test_a_target_that_ran_already_gets_its_no_from_what_the_client_counted() -> None:
    # GIVEN a recording of generation alone, in which nobody read anything, by the client's own count
    scene = Scene().call("OgaGenerator_GenerateNextToken", 100, 200)

    # THEN that is the proof, as the load was not seen
    verdict = analyse(scene.trace(**attached(scene))).verdict
    assert verdict.generation_hits_cvmfs == "no"
    assert any("the target ran already: meanwhile cvmfs2 served 0 reads" in sentence for sentence in verdict.proof)

    # AND without that count, or of a run from its start, nothing is proven
    silent = Scene(counters=False).call("OgaGenerator_GenerateNextToken", 100, 200)
    assert analyse(silent.trace(**attached(silent))).verdict.generation_hits_cvmfs == "inconclusive"
    assert analyse(scene.trace()).verdict.generation_hits_cvmfs == "inconclusive"


def test_a_target_that_ran_already_may_have_files_that_pass_the_client_by() -> None:
    scene = Scene().call("OgaGenerator_GenerateNextToken", 100, 200)
    meta = scene.trace().meta
    mounts = [{**mount, "version": "2.14.1"} for mount in meta["mounts"]]

    verdict = analyse(scene.trace(**attached(scene), mounts=mounts)).verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert any("passthrough" in reason for reason in verdict.missing)


def test_no_with_a_complete_proof() -> None:
    report = analyse(generation().trace())

    assert report.verdict.generation_hits_cvmfs == "no"
    assert report.verdict.tokens == 3
    assert report.verdict.missing == ()
    assert "no event was lost" in report.verdict.proof
    assert "cvmfs2 served 1 read and 1 open in the load" in report.verdict.proof
    assert "the client's own counters agree" in report.verdict.proof
    assert "the weights were observed in 1 mapping" in report.verdict.proof
    assert all(check.agree for check in report.checks)
    assert report.cache_state == "warm"


def test_yes_names_tokens_bytes_and_cause() -> None:
    # GIVEN the second token touches a page that was never read
    scene = generation()
    scene.off(525, 531, 533, by=WORKER, state=2)
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, offset=1 << 20)

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.tokens_affected == (1,)
    assert (verdict.fuse_reads, verdict.fuse_read_bytes, verdict.http_fetches) == (1, 131072, 0)
    assert verdict.causes == {"first_touch": 1}
    assert verdict.blocked_s == pytest.approx(8e-6)


@pytest.mark.parametrize("loses", [{"lost": {"ring": 3}}, {"probe": "strace"}])
def test_yes_stands_even_when_something_is_missing(loses: dict[str, Any]) -> None:
    scene = generation()
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, offset=1 << 20)

    verdict = analyse(scene.trace(**loses)).verdict

    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.missing


def test_a_page_read_before_is_an_evicted_page() -> None:
    scene = generation()
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, offset=0)

    assert analyse(scene.trace()).verdict.causes == {"evicted_page": 1}


def test_a_page_seen_in_the_page_cache_before_is_an_evicted_page() -> None:
    # GIVEN a page that was hot when the recording began
    scene = generation()
    scene.add(Kind.PAGE_READ, 350, tid=TARGET, a=42, b=7, c=256 | 32 << 48)
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, offset=1 << 20)

    assert analyse(scene.trace()).verdict.causes == {"evicted_page": 1}


def test_a_hit_before_and_a_miss_now_is_an_evicted_object() -> None:
    # GIVEN an open in decode that fetches the file again, without any READ
    scene = generation()
    scene.request(Opcode.OPEN, 521, 533, 534, sent=520.5)
    scene.fetch(Fetch(handed=527.5, get=528, first=529, last=530, done=531, filled=532.5, number=1))

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.causes == {"evicted_object": 1}
    assert (verdict.fuse_reads, verdict.http_fetches, verdict.http_bytes) == (0, 1, 1000)


def test_a_read_sent_before_generation_and_awaited_in_it_counts() -> None:
    # GIVEN readahead of the prefill that the first token waits for
    scene = generation()
    scene.request(Opcode.READ, 471, 505, 508, sent=470, offset=1 << 20)
    scene.off(501, 506, 507, by=WORKER, state=2)

    verdict = analyse(scene.trace()).verdict

    assert verdict.generation_hits_cvmfs == "yes"
    assert verdict.tokens_affected == (0,)


def test_a_release_in_generation_is_not_needed_by_it() -> None:
    scene = generation()
    scene.request(Opcode.RELEASE, 526, 530, 532, sent=524.5)

    assert analyse(scene.trace()).verdict.generation_hits_cvmfs == "no"


def test_reads_of_other_processes_in_generation_do_not_count() -> None:
    scene = generation()
    scene.request(Opcode.READ, 526, 530, 532, sent=524.5, asker=999, offset=1 << 20)

    report = analyse(scene.trace())

    assert report.verdict.generation_hits_cvmfs == "no"
    assert next(check for check in report.checks if check.name == "fuse_reads").traced == 2


def test_lost_events_are_inconclusive() -> None:
    report = analyse(generation().trace(lost={"FUSE_DAEMON": 17}))

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "17 events of FUSE_DAEMON lost" in reasons(report)
    assert report.trace.lost == 17


def test_counters_that_differ_are_inconclusive() -> None:
    scene = generation()
    mount = scene.mount(scene.arrays()[0])
    mount["counters_after"]["cvmfs.n_fs_read"] += 1

    report = analyse(scene.trace(mounts=[mount]))

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "traced and client differ in fuse_reads: 1 and 2" in reasons(report)


def test_counters_that_cannot_be_read_are_inconclusive() -> None:
    report = analyse(generation(Scene(counters=False)).trace())

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert report.checks == ()
    assert "the talk socket is not readable" in reasons(report)


def test_a_daemon_that_was_not_seen_in_the_load_is_inconclusive() -> None:
    scene = Scene()
    scene.call("OgaCreateModel", 100, 400).call("OgaGenerator_GenerateNextToken", 500, 520)
    scene.add(Kind.FAULT, 300, tid=TARGET, a=42, b=7, c=1)

    report = analyse(scene.trace())

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "cvmfs2 was not seen answering" in reasons(report)


def test_a_probe_that_sees_no_faults_is_inconclusive() -> None:
    report = analyse(generation().trace(probe="strace"))

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "strace" in reasons(report)


def test_passthrough_is_inconclusive_and_named() -> None:
    scene = generation()
    scene.request(Opcode.OPEN, 150, 155, 156, sent=149, flags=PASSTHROUGH)

    report = analyse(scene.trace())

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "passthrough" in reasons(report)


def test_a_recording_cut_in_a_token_is_inconclusive() -> None:
    scene = generation(tokens=0)
    scene.call("OgaGenerator_GenerateNextToken", 500, 1000, unfinished=True)
    scene.events = [event for event in scene.events if event[4] != Kind.PROC_EXIT]

    report = analyse(scene.trace())

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "while a token was being generated" in reasons(report)


def test_a_target_without_genai_is_a_program_with_one_phase() -> None:
    scene = Scene()
    scene.opened(110, 130, 5, MODEL)
    scene.request(Opcode.OPEN, 115, 120, 125, sent=112)
    scene.off(200, 290, 300, by=WORKER, state=2)
    scene.request(Opcode.READ, 210, 280, 295, sent=199)

    report = analyse(scene.trace())

    assert [row.name for row in report.phases] == ["script"]
    assert report.phases[0].fuse_reads == 1
    assert report.phases[0].wall_s == pytest.approx(1e-3)
    assert (report.verdict.question, report.verdict.answer) == ("program", "yes")
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert report.files[0].path == MODEL


def test_a_recording_without_a_mount_is_reported() -> None:
    report = analyse(generation().trace(mounts=[]))

    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert "no CVMFS mount was observed" in reasons(report)


@pytest.mark.parametrize(
    "build, state",
    [
        (lambda scene: scene, "none"),
        (lambda scene: scene.request(Opcode.OPEN, 115, 120, 125, sent=112), "hot"),
        (lambda scene: scene.request(Opcode.READ, 115, 120, 125, sent=112), "warm"),
    ],
)
def test_state_of_the_caches_without_fetches(build: Any, state: str) -> None:
    scene = Scene()
    build(scene)
    assert analyse(scene.trace()).cache_state == state


@pytest.mark.parametrize("found_before, state", [(0, "cold"), (3, "mixed")])
def test_state_of_the_caches_with_fetches(found_before: int, state: str) -> None:
    scene = Scene()
    scene.request(Opcode.READ, 200, 690, 695, sent=199)
    scene.fetch(Fetch(handed=220, get=230, first=250, done=600, filled=640, number=77))
    for number in range(found_before):
        scene.hit(205 + number, number)
    assert analyse(scene.trace()).cache_state == state


def test_events_of_the_daemon_do_not_belong_to_the_target() -> None:
    report = analyse(generation().trace())
    assert all(mount.daemon_pid == DAEMON for mount in report.trace.mounts)
    assert sum(row.wall_s for row in report.phases) == pytest.approx(899e-6)
