"""The target's life in phases."""

import numpy as np
import pytest
from phase_rows import rows_us
from scene import START, TARGET, US, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.attribution.study import study_of
from cvtrace.probes.events import Kind, Opcode


def test_calls_are_phases_and_what_lies_between_is_script() -> None:
    scene = Scene()
    scene.add(Kind.PROC_EXEC, 10, tid=TARGET, text="/usr/bin/python3")
    scene.call("OgaCreateModel", 100, 300)
    scene.call("OgaCreateConfig", 110, 150)  # nested: the outermost call counts
    scene.call("OgaCreateTokenizer", 310, 350)
    scene.call("OgaTokenizerEncode", 360, 370)
    scene.call("OgaCreateGenerator", 400, 410)
    scene.call("OgaGenerator_AppendTokens", 410, 500)
    scene.call("OgaGenerator_GenerateNextToken", 510, 515)
    scene.call("OgaGenerator_GenerateNextToken", 520, 540)
    scene.call("OgaDestroyGenerator", 600, 610)
    scene.call("OgaDestroyModel", 620, 700)
    scene.add(Kind.PROC_EXIT, 800, tid=TARGET)

    report = analyse(scene.trace())

    assert rows_us(report) == {
        "import": (1, 90),
        "load": (1, 200),
        "tokenizer": (2, 50),
        "prefill": (2, 100),
        "decode": (2, 25),
        "between": (2, 10 + 5),
        "teardown": (2, 200),
        "script": (4, 10 + 10 + 30 + 60),
    }
    assert [token.index for token in report.tokens] == [0, 1]
    assert report.trace.duration_s == pytest.approx(790e-6)


def test_destroying_a_generator_between_questions_is_not_the_teardown() -> None:
    scene = Scene()
    scene.call("OgaCreateModel", 100, 300).call("OgaGenerator_GenerateNextToken", 310, 320)
    scene.call("OgaDestroyGenerator", 330, 340).call("OgaGenerator_GenerateNextToken", 500, 510)

    assert rows_us(analyse(scene.trace())) == {
        "import": (1, 100),
        "load": (1, 200),
        "decode": (2, 20),
        "teardown": (1, 10),
        "script": (4, 10 + 10 + 160 + 490),
    }


def test_phases_of_a_child_process_are_carried_by_the_child() -> None:
    # GIVEN a shell that starts python, waits for it from 50 to 700, and lives on
    scene, child = Scene(), TARGET + 5
    scene.add(Kind.PROC_FORK, 40, tid=TARGET, a=child, b=child)
    scene.add(Kind.SYS_WAIT, 50, 700, tid=TARGET, a=61)
    scene.off(51, 700, 700, by=child)
    scene.call("OgaCreateModel", 100, 300, tid=child, tgid=child)
    scene.add(Kind.PROC_EXIT, 690, tid=child, tgid=child)

    report = analyse(scene.trace())

    classes = {row.name: {name: round(s * 1e6) for name, s in row.classes.items() if s} for row in report.phases}
    assert rows_us(report) == {"import": (2, 100), "load": (1, 200), "script": (2, 700)}
    assert classes["import"] == {"compute.cpu": 100}
    assert classes["script"] == {"compute.cpu": 390 + 300, "compute.wait": 10}  # until the child is gone


def test_an_empty_trace_has_a_report() -> None:
    report = analyse(Scene().add(Kind.PROC_EXEC, 0, tid=TARGET).trace())
    assert rows_us(report) == {"script": (1, 1000)}
    assert report.cache_state == "none"


def test_a_phase_that_the_script_names_takes_the_time_between_calls() -> None:
    # GIVEN a question with the library's calls in it, within a longer phase, and one phase in another thread
    scene = Scene()
    scene.named("everything", 50, 900).named("question", 400, 700)
    scene.call("OgaCreateModel", 100, 300).call("OgaGenerator_GenerateNextToken", 500, 600)
    scene.named("aside", 650, 680, tid=TARGET + 1)
    scene.request(Opcode.READ, 420, 425, 430, sent=415)

    report = analyse(scene.trace())

    # THEN calls keep their rows, the innermost name has the rest, and the rows add up to the life
    assert rows_us(report) == {
        "import": (1, 50),
        "load": (1, 200),
        "decode": (1, 100),
        "everything": (1, 50 + 100 + 200),
        "question": (1, 100 + 50 + 20),
        "aside": (1, 30),
        "script": (1, 100),
    }
    rows = {row.name: row for row in report.phases}
    assert sum(row.wall_s for row in report.phases) == pytest.approx(1000e-6)
    assert [rows[name].span_s for name in ("everything", "question", "decode")] == pytest.approx([850e-6, 300e-6, 1e-4])
    assert rows["question"].fuse_reads == 1
    assert sum(rows["question"].classes.values()) == pytest.approx(rows["question"].wall_s)


def test_a_named_phase_without_any_call_of_the_library() -> None:
    scene = Scene().named("read", 100, 400).named("read", 500, 600).named("load", 700, 800)
    report = analyse(scene.trace())
    assert rows_us(report) == {"load": (1, 100), "script": (4, 500), "read": (2, 400)}
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert (report.verdict.question, report.verdict.answer) == ("program", "inconclusive")
    assert "saw nothing of the program" in " ".join(report.verdict.missing)


def test_named_phases_are_cut_to_each_other_and_to_the_life_of_the_target() -> None:
    scene = Scene()
    scene.named("early", -50, 200).named("late", 150, 5000, unfinished=True).named("hidden", 160, 170)
    scene.named("", 165, 170)
    assert rows_us(analyse(scene.trace())) == {"early": (1, 150), "late": (1, 840), "hidden": (1, 5), "unnamed": (1, 5)}


def test_a_named_phase_that_is_all_calls_has_a_row() -> None:
    scene = Scene().call("OgaCreateModel", 100, 300).named("my load", 150, 250)
    row = next(row for row in analyse(scene.trace()).phases if row.name == "my load")
    assert (row.count, row.wall_s, row.start_s, row.span_s) == pytest.approx((1, 0, 150e-6, 100e-6))


def test_what_a_process_does_belongs_to_its_own_phase_not_to_that_of_another() -> None:
    # GIVEN two processes: one generates from 110 to 500 while the other imports until 300, and loads until 600
    scene = Scene(end=800)
    scene.add(Kind.PROC_FORK, 5, tid=TARGET, a=150, b=150)
    scene.call("OgaCreateModel", 50, 100)
    scene.call("OgaGenerator_GenerateNextToken", 110, 500)
    scene.call("OgaCreateModel", 300, 600, tid=150, tgid=150)
    scene.add(Kind.PROC_EXEC, 10, tid=160, tgid=150, text="pool")  # a thread of the other that calls nothing
    # WHEN the second reads: before its load, in it (by a thread of its own), and after it
    for at, asker in ((200, 150), (400, 160), (700, 150)):
        scene.request(Opcode.READ, at, at + 1, at + 2, sent=at - 1, asker=asker)
        scene.events[-1] = (*scene.events[-1][:2], 150, *scene.events[-1][3:])

    report = analyse(scene.trace())

    # THEN nothing of it is counted as generation
    reads = {row.name: row.fuse_reads for row in report.phases}
    assert {name: count for name, count in reads.items() if count} == {"import": 1, "load": 1, "script": 1}
    assert report.verdict.fuse_reads == 0


def test_many_times_are_assigned_to_phases_as_single_ones_are() -> None:
    # GIVEN two processes whose calls overlap, a thread of each that calls nothing, a child without calls, phases named by the script
    child, sibling, idle, unheard = TARGET + 50, TARGET + 1, TARGET + 51, TARGET + 99
    scene = Scene()
    scene.add(Kind.PROC_EXEC, 10, tid=TARGET, text="/usr/bin/python3")
    scene.add(Kind.PROC_FORK, 40, tid=TARGET, b=child)
    scene.call("OgaCreateModel", 100, 300).call("OgaCreateModel", 200, 420, tid=child, tgid=child)
    scene.call("OgaGenerator_GenerateNextToken", 300, 350).call("OgaCreateTokenizer", 310, 330, tid=sibling)
    scene.call("OgaGenerator_GenerateNextToken", 500, 540, tid=child, tgid=child)
    scene.named("mine", 440, 480).named("load", 600, 700)
    scene.add(Kind.SYS_STAT, 620, 621, tid=idle, tgid=child)
    scene.add(Kind.SYS_STAT, 640, 641, tid=sibling)
    scene.add(Kind.PROC_EXIT, 800, tid=TARGET)
    phases = study_of(scene.trace()).phases
    # WHEN the phase and the call are asked for at every µs, also before and after, and at those a ns before
    times = START + np.arange(-20, 1100) * US
    times = np.concatenate([times, times - 1])
    threads = np.repeat([TARGET, child, sibling, idle, unheard], len(times))
    times = np.tile(times, 5)
    rows, calls = phases.row_at(threads, times), phases.call_at(threads, times)
    # THEN the answers are those to each question alone
    alone = [
        (phases.row_at(thread, at)[0], phases.call_at(thread, at)[0])
        for thread, at in zip(np.split(threads, len(threads)), np.split(times, len(times)), strict=True)
    ]
    assert list(zip(rows.tolist(), calls.tolist(), strict=True)) == alone
    assert len({row for row, _ in alone}) > 5
