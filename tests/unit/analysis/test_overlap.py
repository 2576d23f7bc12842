"""Two generators in two threads at once: no token is lost, and the target's time is still split, not counted twice."""

import pytest
from phase_rows import rows_us
from scene import TARGET, WORKER, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.report import text
from cvtrace.probes.events import Kind, Opcode

OTHER_THREAD = TARGET + 1


def two_threads() -> Scene:
    """Return a scene of a process with two threads, whose scheduling was seen."""
    scene = Scene().preempted(900, 901)
    scene.add(Kind.PROC_FORK, 0, tid=TARGET, a=TARGET, b=OTHER_THREAD)
    return scene.call("OgaCreateModel", 100, 300)


def test_a_token_inside_another_threads_phase_counts() -> None:
    # GIVEN tokens of 100 µs, of which one thread's lie half in, one wholly in those of the other
    scene = two_threads()
    scene.call("OgaGenerator_GenerateNextToken", 400, 500)
    scene.call("OgaGenerator_GenerateNextToken", 450, 550, tid=OTHER_THREAD)
    scene.call("OgaGenerator_GenerateNextToken", 600, 700)
    scene.call("OgaGenerator_GenerateNextToken", 610, 690, tid=OTHER_THREAD)

    report = analyse(scene.trace())

    assert [(round(t.start_s * 1e6), round(t.wall_s * 1e6)) for t in report.tokens] == [
        (400, 100),
        (450, 100),
        (600, 100),
        (610, 80),
    ]
    assert report.verdict.tokens == 4
    assert rows_us(report)["decode"] == (4, 150 + 100)
    assert sum(wall for _, wall in rows_us(report).values()) == 1000
    assert report.notes[-1].startswith("phases overlap: 2 calls of the library")
    assert "Note: phases overlap: 2 calls" in text.render(report, verbose=True)


def test_each_token_has_the_time_and_the_reads_of_its_own_thread() -> None:
    # GIVEN a thread that computes through its token, and another that waits for a READ in its own
    scene = two_threads()
    scene.call("OgaGenerator_GenerateNextToken", 400, 600)
    scene.call("OgaGenerator_GenerateNextToken", 410, 590, tid=OTHER_THREAD)
    scene.request(Opcode.READ, 460, 540, 545, sent=449, asker=OTHER_THREAD, offset=1 << 20)
    scene.off(450, 541, 550, by=WORKER, tid=OTHER_THREAD, state=2)

    report = analyse(scene.trace())

    assert [token.fuse_reads for token in report.tokens] == [0, 1]
    assert [round(token.cache_s * 1e6) for token in report.tokens] == [0, 100]
    assert [round(token.compute_s * 1e6) for token in report.tokens] == [200, 80]
    assert report.verdict.tokens_affected == (1,)
    assert report.verdict.blocked_s == pytest.approx(100e-6)


def test_a_read_of_a_token_belongs_to_decode_even_while_another_thread_loads() -> None:
    # GIVEN a second model that is loaded while the first generates
    scene = two_threads()
    scene.call("OgaCreateModel", 400, 800)
    scene.call("OgaGenerator_GenerateNextToken", 500, 600, tid=OTHER_THREAD)
    scene.request(Opcode.READ, 520, 540, 545, sent=510, asker=OTHER_THREAD)
    scene.request(Opcode.READ, 720, 740, 745, sent=710)

    report = analyse(scene.trace())

    reads = {row.name: row.fuse_reads for row in report.phases}
    assert reads["load"] == 1
    assert report.verdict.fuse_reads == 1
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert report.verdict.tokens_affected == (0,)


def test_a_decode_phase_without_time_has_a_row() -> None:
    scene = two_threads()
    scene.call("OgaCreateModel", 400, 800)
    scene.call("OgaGenerator_GenerateNextToken", 500, 600, tid=OTHER_THREAD)

    rows = rows_us(analyse(scene.trace()))

    assert rows["decode"] == (1, 0)
    assert rows["load"] == (2, 600)


def test_phases_one_after_the_other_do_not_overlap() -> None:
    scene = two_threads()
    scene.call("OgaGenerator_GenerateNextToken", 400, 500)
    scene.call("OgaGenerator_GenerateNextToken", 500, 550, tid=OTHER_THREAD)
    scene.call("OgaTokenizerEncode", 600, 700).call("OgaCreateConfig", 610, 650)  # nested in its own thread

    report = analyse(scene.trace())

    assert not any("overlap" in note for note in report.notes)
    assert "Note:" not in text.render(report, verbose=True)
