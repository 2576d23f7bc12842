"""The answer for targets that make no tokens, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest
from scene import MOUNT, TARGET, Fetch, Scene
from test_imports import program
from test_programs import RUN, SESSION, four_runs, tree

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import programs, text
from cvtrace.analysis.report.places import places
from cvtrace.probes.events import Kind, Opcode
from cvtrace.tracer.store import Trace


def summary(trace: Trace) -> str:
    return " ".join(text.render(analyse(trace)).split())


def reading(end: float = 1000, **more: Any) -> Scene:
    """A program that waits 200 of 1,000 µs for a file: an open, a read, a fetch of 3,000 bytes."""
    scene = Scene(end=end)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/sha256sum")
    scene.opened(90, 152, 5)
    scene.request(Opcode.OPEN, 101, 148, 150, sent=100)
    scene.off(100, 149, 150, by=201)
    scene.request(Opcode.READ, 201, 348, 350, sent=200, size=8192)
    scene.fetch(Fetch(handed=220, get=225, first=300, done=320, filled=330, size=3000))
    scene.off(200, 349, 350, by=201)
    scene.page(Kind.PAGE_READ, 352, 0, 2)
    scene.add(Kind.PROC_EXIT, end, tid=TARGET)
    return scene


def test_a_program_that_waits_is_a_yes_with_its_numbers() -> None:
    verdict = analyse(reading().trace()).verdict

    assert (verdict.question, verdict.answer, verdict.generation_hits_cvmfs) == ("program", "yes", "inconclusive")
    assert (verdict.fuse_requests, verdict.fuse_reads, verdict.fuse_read_bytes) == (2, 1, 8192)
    assert (verdict.http_fetches, verdict.http_bytes, verdict.tokens) == (1, 3000, 0)
    assert verdict.blocked_s == pytest.approx(200e-6)
    assert verdict.missing == ()
    assert any("cvmfs2 served 1 read and 1 open of the program" in sentence for sentence in verdict.proof)


def test_the_summary_of_a_program_fits_its_lines() -> None:
    text = summary(reading().trace())

    assert "Does this program wait for CVMFS? YES: it waited 200 µs of its 1.00 ms for CVMFS" in text
    assert "needed 1 read of 8.19 kB, 1 other request and 1 fetch (3.00 kB)" in text
    assert "models/tiny/model.onnx.data" in text
    for word in ("token", "generation", "the model ", "weights"):
        assert word not in text.replace("models/tiny/model.onnx.data", ""), word


def test_a_program_that_hardly_waits_is_a_yes_that_says_so() -> None:
    assert "YES: hardly: it waited 200 µs of its 100 ms" in summary(reading(end=100_000).trace())


def test_a_program_that_needs_nothing_is_a_no_with_proof() -> None:
    scene = Scene(end=1000)
    scene.add(Kind.PROC_EXEC, 0, tid=TARGET, text="/bin/true")
    scene.opened(10, 20, 3, "/etc/ld.so.cache")
    verdict = analyse(scene.trace()).verdict
    assert (verdict.question, verdict.answer, verdict.missing) == ("program", "no", ())
    assert any("opened 1 file or tried to, none of them on CVMFS" in sentence for sentence in verdict.proof)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"lost": {"SYS_OPEN": 3}}, "lost"),
        ({"probe": "portable"}, "sees no single request"),
    ],
)
def test_lost_or_unobserved_events_prevent_a_no(changes: dict[str, Any], reason: str) -> None:
    scene = Scene(end=1000)
    scene.opened(10, 20, 3, "/etc/ld.so.cache")
    verdict = analyse(scene.trace(**changes)).verdict
    assert verdict.answer == "inconclusive"
    assert reason in " ".join(verdict.missing)


def test_a_program_of_which_nothing_was_seen_is_inconclusive() -> None:
    verdict = analyse(Scene(end=1000).trace()).verdict
    assert verdict.answer == "inconclusive"
    assert "saw nothing of the program" in " ".join(verdict.missing)


@pytest.mark.parametrize("reads, answer", [(0, "no"), (5, "inconclusive")])
def test_without_privileges_a_client_that_counted_nothing_is_a_no(reads: int, answer: str) -> None:
    counters = {"cvmfs.n_fs_lookup": 3, "cvmfs.n_fs_open": 4, "cvmfs.n_fs_read": 5}
    mount = {
        **Scene().mount(Scene().opened(1, 2, 3).arrays()[0]),
        "counters_before": counters,
        "counters_after": counters | {"cvmfs.n_fs_read": 5 + reads},
    }
    verdict = analyse(Scene(end=1000).opened(10, 20, 3).trace(probe="portable", mounts=[mount])).verdict
    assert verdict.answer == answer


def test_inference_has_an_answer_for_each_run() -> None:
    report = analyse(four_runs().trace())
    verdict = report.verdict
    assert (verdict.question, verdict.answer) == ("inference", "yes")
    assert (verdict.fuse_reads, verdict.http_fetches, verdict.http_bytes) == (2, 1, 3000)
    assert (
        dict(programs.runs(report))
        == {
            "run 1": "waited 122 µs of 180 µs for 1 read and 1 fetch (3.00 kB)",
            "run 2": "needed nothing from CVMFS and took 180 µs",
            "run 3": "waited 12.0 µs of 180 µs for 1 read",
            "run 4": "needed nothing from CVMFS and took 180 µs",
        }
        or "12" in dict(programs.runs(report))["run 3"]
    )
    assert "Does inference hit CVMFS? YES: it waited" in summary(four_runs().trace())


def test_many_runs_are_summarised_in_few_lines() -> None:
    scene = Scene(end=100_000).call(SESSION, 50, 100)
    for number in range(30):
        scene.call(RUN, 1000 * number + 200, 1000 * number + 900)
    for at, length in ((300, 400), (5300, 100), (9300, 50)):
        scene.request(Opcode.READ, at + 1, at + length - 2, at + length, sent=at)
        scene.off(at, at + length - 1, at + length, by=201)
    rows = dict(programs.runs(analyse(scene.trace())))
    assert rows["run 1"] == "waited 400 µs of 700 µs for 1 read"
    assert rows["29 more runs"] == "2 of them waited, 150 µs of 20.3 ms, for 2 reads"
    assert rows["worst, run 6"] == "waited 100 µs of 700 µs for 1 read"


def test_runs_that_need_nothing_are_a_no() -> None:
    scene = Scene(end=1000).call(SESSION, 50, 100)
    scene.request(Opcode.READ, 61, 70, 72, sent=60)
    scene.page(Kind.FAULT, 75, 3)
    scene.call(RUN, 200, 300).call(RUN, 400, 500)
    verdict = analyse(scene.trace()).verdict
    assert (verdict.question, verdict.answer, verdict.fuse_requests) == ("inference", "no", 0)


def test_imports_are_named_in_the_answer() -> None:
    report = analyse(program().trace())
    rows = dict(programs.lines(report))
    assert rows["import"] == "app waited 202 µs of 700 µs: 3 opens, 1 lookup, 1 read, 1 fetch (5.00 kB)"
    table = programs.imports_table(report, 80)
    assert " ".join(table[0].split()) == "imported package modules time waiting opens lookups fetches fetched"
    assert table[1].split()[0] == "heavy"
    assert all(len(line) <= 80 for line in table)


def by_place(report: Report) -> dict[str, float]:
    return {place.path.removeprefix(f"{MOUNT}/"): round(place.blocked_s * 1e6) for place in places(report)}


def test_places_are_the_deepest_folders_that_contain_the_waits() -> None:
    assert by_place(analyse(tree().trace())) == {"repo/a/x": 60, "repo/": 50, "": 10}


def test_places_do_not_contain_each_other() -> None:
    report = analyse(tree().trace())
    rows = places(report)
    total = sum(row.blocked_s for row in report.folders)
    assert sum(place.blocked_s for place in rows) <= total + 1e-9
    assert rows[0].path == f"{MOUNT}/repo/a/x"


@pytest.mark.parametrize("scene", [program(), tree(), four_runs(), reading(), Scene(end=10)])
@pytest.mark.parametrize("width", [80, 132])
def test_the_summary_fits(scene: Scene, width: int) -> None:
    lines = text.render(analyse(scene.trace()), width).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    "scene, expected",
    [
        (
            reading(),
            [
                "1 fetch (3.00 kB), 8.19 kB read; blocked on CVMFS for 200 µs.",
                "Proof: no event was lost; cvmfs2 served 1 read and 1 open of the program",
            ],
        ),
        (program(), ["import: app waited 202 µs of 700 µs", "imported package"]),
        (four_runs(), ["run 1: waited 122 µs of 180 µs", "run 4: needed nothing"]),
    ],
)
def test_verbose_text_has_every_sentence(scene: Scene, expected: list[str]) -> None:
    summary = " ".join(text.render(analyse(scene.trace()), verbose=True).split())
    for item in expected:
        assert item in summary
    assert "no token generation was seen" not in summary
    assert "0 tokens" not in summary
