"""Kernel time of page faults: what is certain is cache.page, what is not stays the target's own."""

import pytest
from phase_rows import classes_us, load
from scene import TARGET, WORKER, Scene

from cvtrace.probes.events import Kind, Opcode

PAGES = 16 << 48


def running() -> Scene:
    """Return a scene whose scheduling was seen."""
    return Scene().preempted(900, 901)


def fault(scene: Scene, at: float, page: int, inode: int = 7) -> Scene:
    return scene.add(Kind.FAULT, at, tid=TARGET, a=42, b=inode, c=page)


def around(scene: Scene, at: float, first: int, inode: int = 7) -> Scene:
    """Add a fault-around over 16 pages."""
    return scene.add(Kind.PAGE_MAP, at, tid=TARGET, a=42, b=inode, c=first | PAGES)


def readahead(scene: Scene, sent: float) -> Scene:
    """Add a READ that is answered soon, whether anybody waits or not."""
    scene.request(Opcode.READ, sent + 5, sent + 15, sent + 20, sent=sent)
    return scene


def test_a_fault_lasts_until_the_read_it_sends() -> None:
    # GIVEN a fault at 200 that gets pages and sends its READ at 300, and other work at 350
    scene = fault(running(), 200, 100)
    readahead(scene, 300)
    scene.add(Kind.SYS_CLOSE, 350, 351, tid=TARGET, a=9)

    assert classes_us(load(scene)) == {"cache.page": 100, "compute.cpu": 600}


def test_a_fault_that_read_is_tried_again_and_ends_in_the_fault_around() -> None:
    # GIVEN a fault that begins with a fault-around in vain, reads ahead, and maps its page at 330
    scene = around(running(), 199, 96)
    fault(scene, 200, 100)
    readahead(scene, 300)
    around(scene, 330, 96)
    around(scene, 340, 112)  # the next one: when it ends is known, when it began is not

    assert classes_us(load(scene)) == {"cache.page": 131, "compute.cpu": 700 - 131}


def test_time_off_the_cpu_inside_a_fault_keeps_its_class() -> None:
    # GIVEN a fault that is preempted, then waits for its READ, answered from the client's cache
    scene = fault(running(), 200, 100)
    scene.preempted(220, 250)
    scene.request(Opcode.READ, 320, 380, 385, sent=300)
    scene.cache_read(330, 370)
    scene.off(310, 383, 392, by=WORKER, state=2)
    around(scene, 400, 96)

    assert classes_us(load(scene)) == {
        "compute.wait": 30,
        "cache.page": 20 + 60 + 8,
        "cache.transport": 10 + 12,
        "cache.lookup": 20,
        "cache.read": 40,
        "compute.cpu": 700 - 200,
    }


@pytest.mark.parametrize("page, inode", [(500, 7), (100, 8)])
def test_a_fault_around_at_another_page_does_not_end_a_fault(page: int, inode: int) -> None:
    scene = fault(running(), 200, 100)
    readahead(scene, 300)
    around(scene, 330, page - 4, inode)

    assert classes_us(load(scene)) == {"cache.page": 100, "compute.cpu": 600}


def test_a_fault_that_sent_nothing_has_no_known_length() -> None:
    # GIVEN a fault on a page that was there, and long after it another whose fault-around covers it
    scene = fault(running(), 200, 100)
    around(scene, 330, 96)

    assert classes_us(load(scene)) == {"compute.cpu": 700}


def test_a_sequence_of_fault_arounds_has_no_known_length() -> None:
    scene = running()
    for number in range(10):
        around(scene, 200 + 5 * number, 16 * number)

    assert classes_us(load(scene)) == {"compute.cpu": 700}


def test_a_read_sent_in_a_call_is_not_the_faults() -> None:
    # GIVEN a fault, and later a call (not on the mount) in which the thread sends a READ
    scene = fault(running(), 200, 100)
    scene.add(Kind.SYS_WAIT, 290, 320, tid=TARGET, a=187)
    readahead(scene, 300)

    assert classes_us(load(scene)) == {"compute.cpu": 700}


def test_a_fault_ends_before_the_thread_sleeps() -> None:
    scene = fault(running(), 200, 100)
    scene.off(250, 290, 290, by=0, state=1)
    readahead(scene, 300)

    assert "cache.page" not in classes_us(load(scene))


def test_a_fault_is_extended_by_one_retry_only() -> None:
    # GIVEN two FAULTs for one page: the second cannot let go of the mapping again, so what maps the page is not seen
    scene = fault(running(), 200, 100)
    readahead(scene, 220)
    fault(scene, 300, 100)
    readahead(scene, 320)
    around(scene, 400, 96)

    assert classes_us(load(scene)) == {"cache.page": 120, "compute.cpu": 580}


def test_faults_of_different_threads_are_separate() -> None:
    # GIVEN a fault of one thread, and a READ of another of the same process
    scene = fault(running(), 200, 100)
    scene.add(Kind.PROC_FORK, 0, tid=TARGET, a=TARGET, b=TARGET + 1)
    scene.request(Opcode.READ, 305, 310, 315, sent=300, asker=TARGET + 1)

    assert classes_us(load(scene)) == {"compute.cpu": 700}
