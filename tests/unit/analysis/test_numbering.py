"""The kernel numbers FUSE requests one after the other: a gap in the trace is a request that was missed."""

import pytest
from runs import generation
from scene import MOUNT, WORKER, Scene

from cvtrace.analysis import analyse
from cvtrace.probes.events import Opcode


def test_consecutive_numbers_prove_completeness() -> None:
    report = analyse(generation().trace())

    (numbering,) = report.kernel_requests
    assert (numbering.path, numbering.first, numbering.last, numbering.requests) == (MOUNT, 2, 4, 2)
    assert (numbering.missing, numbering.unanswered) == (0, 0)
    assert "all kernel FUSE requests from 2 to 4 are accounted for" in report.verdict.proof
    assert report.verdict.generation_hits_cvmfs == "no"


def later(skipped: int) -> Scene:
    """Return a run in which the kernel gave numbers that are not in the trace."""
    scene = generation()
    for number in range(20):
        scene.request(Opcode.READ, 710 + number, 710.2 + number, 710.5 + number, sent=709.9 + number)
        scene.unique += 2 * skipped * (number == 9)
    return scene


def test_a_gap_in_the_numbers_prevents_a_no() -> None:
    report = analyse(later(skipped=2).trace())

    assert report.kernel_requests[0].missing == 2
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert (
        f"2 FUSE requests of {MOUNT} between the kernel's numbers 2 and 48 were not recorded" in report.verdict.missing
    )
    assert not any("are accounted for" in sentence for sentence in report.verdict.proof)


def test_older_kernels_number_requests_by_one() -> None:
    # GIVEN numbers as before Linux 4.20
    events, texts = later(skipped=0).arrays()
    named = events["kind"] // 8 * 8 == 40
    events["a"][named | (events["kind"] == 32)] //= 2
    scene = later(skipped=0)
    scene.events, scene.texts = [tuple(row) for row in events.tolist()], [tuple(row) for row in texts.tolist()]

    (numbering,) = analyse(scene.trace()).kernel_requests

    assert (numbering.first, numbering.last, numbering.missing) == (1, 22, 0)


@pytest.mark.parametrize("stride", [1, 3, 17])
def test_numbers_that_are_never_consecutive_prove_nothing(stride: int) -> None:
    # GIVEN a kernel that hands out numbers in some other way, so that most seem to be missing
    scene = generation()
    for number in range(20):
        scene.request(Opcode.READ, 710 + number, 710.2 + number, 710.5 + number, sent=709.9 + number, worker=WORKER)
        scene.unique += 2 * stride

    report = analyse(scene.trace())

    assert report.kernel_requests[0].missing is None
    assert report.verdict.generation_hits_cvmfs == "no"
    assert not any("kernel" in sentence for sentence in (*report.verdict.proof, *report.verdict.missing))
