"""What reading costs the target's own CPUs: filling of pages, and a client that takes the CPU."""

import pytest
from scene import DOWNLOADER, TARGET, WORKER, Scene
from test_what_if import predicted, report_with

from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.joins.phases import LOAD
from cvtrace.analysis.whatif.own_time import OwnTime, own_time
from cvtrace.probes.events import Kind, Opcode

CHILD = 101


def loading() -> Scene:
    """Return a load from 0 to 800 µs whose scheduling was seen."""
    return Scene().call("OgaCreateModel", 0, 800).preempted(900, 901)


def of_load(scene: Scene) -> dict[str, float]:
    """Return the µs of the load."""
    study = study_of(scene.trace())
    own: OwnTime = own_time(study)
    return {name: int(amount[LOAD]) / 1000 for name, amount in vars(own).items()}


def fault_that_waits(scene: Scene, at: float) -> None:
    """Add a fault that reads ahead for 100 µs, waits for 80, looks for its page for 5, and maps it for 15."""
    scene.page(Kind.PAGE_MAP, at, 96, 16).page(Kind.FAULT, at + 1, 100)
    scene.request(Opcode.READ, at + 110, at + 170, at + 176, sent=at + 100)
    scene.off(at + 110, at + 175, at + 190, by=WORKER, state=2)
    scene.page(Kind.PAGE_MAP, at + 210, 96, 16)


def test_a_fault_fills_until_its_last_wait_ends_and_maps_as_any_fault_does() -> None:
    # GIVEN
    scene = loading()
    fault_that_waits(scene, 200)

    # WHEN, THEN on the CPU from the fault to the wait; mapping, from 390 to 410, is what a page in memory costs as well
    assert of_load(scene) == {"filling": pytest.approx(110), "ousted": 0, "ousted_by_download": 0}


@pytest.mark.parametrize("mapped_before, filled", [(96, 130), (80, 110)])
def test_a_fault_in_a_window_that_was_mapped_in_part_is_filling_as_a_whole(mapped_before: int, filled: float) -> None:
    # GIVEN that the thread's fault before had mapped the same window, or another one
    scene = loading().page(Kind.PAGE_MAP, 190, mapped_before, 16)
    fault_that_waits(scene, 200)

    # WHEN, THEN with all pages in memory, the first of the two would have mapped the window
    assert of_load(scene)["filling"] == pytest.approx(filled)


def test_a_fault_that_only_reads_ahead_fills_until_it_sends() -> None:
    scene = loading().page(Kind.FAULT, 200, 100)
    scene.request(Opcode.READ, 265, 280, 285, sent=260)

    assert of_load(scene)["filling"] == pytest.approx(60)


def test_a_fault_on_a_page_in_memory_fills_nothing() -> None:
    scene = loading()
    for at in (100, 200, 300):
        scene.page(Kind.PAGE_MAP, at, 16 * at, 16)

    assert of_load(scene)["filling"] == 0


def reading(scene: Scene, *, ahead: bool) -> Scene:
    """Add a call from 100 to 400 that copies for 40 µs, fills for 60 + 80 (waiting in between), and copies for 50."""
    scene.opened(1, 2, 5).read(100, 400, 5, 1 << 20)
    scene.page(Kind.PAGE_READ, 105, 0, 10)
    if ahead:
        scene.add(Kind.READAHEAD, 145, tid=TARGET, ret=32, a=42, b=7, c=10 | 32 << 48)
    scene.request(Opcode.READ, 175, 250, 256, sent=170, offset=10 * 4096)
    scene.request(Opcode.READ, 260, 290, 296, sent=205, offset=42 * 4096)
    scene.off(205.5, 255, 270, by=WORKER, state=2)
    return scene.page(Kind.PAGE_READ, 350, 10, 32)


@pytest.mark.parametrize("ahead, filled", [(True, 60.5), (False, 35.5)])
def test_a_read_fills_between_its_copies(ahead: bool, filled: float) -> None:
    # GIVEN that the kernel tells when it begins to read ahead, or only the READs it sends then
    # THEN what it copies before and after is not filling
    assert of_load(reading(loading(), ahead=ahead))["filling"] == pytest.approx(filled)


def test_a_read_of_pages_in_memory_fills_nothing() -> None:
    scene = loading().opened(1, 2, 5).read(100, 400, 5, 1 << 20)
    for at in (110, 200, 300):
        scene.page(Kind.PAGE_READ, at, at, 100)

    assert of_load(scene)["filling"] == 0


def test_a_thread_of_the_client_on_the_cpu_is_what_the_target_waited_for() -> None:
    # GIVEN a worker that comes to the CPU at 205 and leaves it at 230, when the target gets it
    scene = loading().preempted(200, 230)
    scene.off(150, 204, 205, by=TARGET, tid=WORKER).off(230, 600, 601, by=TARGET, tid=WORKER)

    assert of_load(scene) == {"filling": 0, "ousted": pytest.approx(25), "ousted_by_download": 0}


def test_threads_of_the_client_may_follow_each_other_on_the_cpu() -> None:
    # GIVEN the download thread until 215, then a worker until 230
    scene = loading().preempted(200, 230)
    scene.add(Kind.HTTP_SEND, 100, tid=DOWNLOADER, ret=90, a=61, c=90)
    scene.off(120, 190, 200, by=WORKER, tid=DOWNLOADER).off(215, 600, 601, by=WORKER, tid=DOWNLOADER)
    scene.off(150, 204, 215, by=TARGET, tid=WORKER).off(230, 600, 601, by=TARGET, tid=WORKER)

    assert of_load(scene) == {"filling": 0, "ousted": pytest.approx(30), "ousted_by_download": pytest.approx(15)}


def test_a_cpu_that_another_program_had_is_not_the_clients() -> None:
    scene = loading().preempted(200, 230)
    scene.off(150, 204, 205, by=TARGET, tid=WORKER).off(228, 600, 601, by=TARGET, tid=WORKER)

    assert of_load(scene)["ousted"] == 0


def test_a_thread_that_is_waited_for_counts_for_the_waiter() -> None:
    # GIVEN a load that waits from 100 to 400 for a thread of its own, of which a worker has the CPU for 25 µs
    scene = loading()
    scene.add(Kind.PROC_FORK, 50, tid=TARGET, a=CHILD, b=CHILD)
    scene.off(100, 400, 401, by=CHILD)
    scene.preempted(200, 230, tid=CHILD).off(500, 700, 701, by=TARGET, tid=CHILD)
    scene.off(150, 204, 205, by=TARGET, tid=WORKER).off(230, 600, 601, by=TARGET, tid=WORKER)

    assert of_load(scene)["ousted"] == pytest.approx(25)


def test_predictions_leave_out_what_reading_costs_the_target() -> None:
    # GIVEN a load of 800 ms: a fault of 110 µs on the CPU, 80 waiting, and 25 without a CPU
    scene = loading().preempted(500, 530)
    fault_that_waits(scene, 200)
    scene.off(450, 504, 505, by=TARGET, tid=WORKER).off(530, 600, 601, by=TARGET, tid=WORKER)

    report = report_with(scene)

    for name in ("in_memory", "local_copy"):
        phases = predicted(report, name).phases
        load_s = next(row.predicted_s for row in phases if row.name == "load")
        assert load_s == pytest.approx((800 - 110 - 80 - 25) / 1e6)


def test_under_strace_a_prediction_says_what_stays_in_and_has_no_error_of_the_lab() -> None:
    # GIVEN a recording without page faults and without the scheduler
    scene = Scene().call("OgaCreateModel", 0, 800)
    scene.request(Opcode.READ, 110, 170, 176, sent=100)
    scene.meta = {"probe": "strace"}

    report = report_with(scene)

    for name in ("in_memory", "local_copy"):
        prediction = predicted(report, name)
        assert prediction.lab_error is None
        assert sum("was not observed" in each for each in prediction.assumptions) == 2
