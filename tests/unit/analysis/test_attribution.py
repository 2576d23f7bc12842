"""Known times in, the same times out, class by class."""

import pytest
from phase_rows import US, classes_us, load, phase
from scene import CONNECTION, DAEMON, DOWNLOADER, MODEL, MOUNT, TARGET, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.probes.events import Kind, Opcode


def test_a_cold_read_is_followed_into_the_download_thread() -> None:
    # GIVEN a thread blocked from 200 to 700 on a read that is fetched over a new connection
    scene = Scene()
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 230, 680, 695, sent=199)
    scene.fetch(
        Fetch(
            handed=250, connect=270, get=300, first=350, polls=((360, 450), (500, 530)), last=600, done=601, filled=640
        )
    )
    scene.cache_read(650, 670, fd=66)

    # WHEN
    row = load(scene)

    # THEN every part has its class
    assert classes_us(row) == {
        "cache.transport": 30 + 20,  # 200..230 to the daemon, 680..700 the reply and the way back
        "cache.lookup": 20 + 10 + 10,  # 230..250, 640..650, 670..680
        "network.queue": 20,
        "network.connect": 30,
        "network.request": 50,
        "network.transfer": 90 + 30,
        "cache.fill": 250 - 120 + 40,  # from the first byte at 350 to 600, less the waiting; 600..640 the commit
        "cache.read": 20,
        "compute.cpu": 200,
    }
    assert row.wall_s == pytest.approx(700 * US)
    assert row.http_fetches == 1
    assert row.http_bytes == 1000
    assert row.cache_misses == 1
    assert row.cache_hits == 0
    assert row.network_bytes == row.fuse_read_bytes == 131072


def test_a_warm_read_is_cache_only() -> None:
    # GIVEN a read served from the client's disk cache
    scene = Scene()
    scene.off(200, 290, 300, by=WORKER)
    scene.request(Opcode.READ, 220, 280, 295, sent=199)
    scene.hit(225, 1).cache_read(240, 270)

    row = load(scene)

    assert classes_us(row) == {
        "cache.transport": 20 + 20,
        "cache.lookup": 20 + 10,
        "cache.read": 30,
        "compute.cpu": 600,
    }
    assert (row.cache_hits, row.cache_misses) == (1, 0)
    assert row.disk_bytes == 131072


def test_a_wait_that_begins_after_the_request_counts_from_its_begin() -> None:
    # GIVEN a thread that computes while its readahead is fetched, and blocks only for the last 50 µs
    scene = Scene()
    scene.request(Opcode.READ, 220, 480, 490, sent=200)
    scene.fetch(Fetch(handed=250, get=260, first=300, polls=((310, 460),), done=465, filled=475))
    scene.off(430, 485, 490, by=WORKER)

    row = load(scene)

    assert classes_us(row) == {
        "network.transfer": 30,
        "cache.fill": 15,  # 460..475
        "cache.lookup": 5,
        "cache.transport": 10,
        "compute.cpu": 640,
    }


def test_waiting_for_the_download_of_another_request_is_shared() -> None:
    # GIVEN another process fetches the object, and the target's worker misses it and waits without a job of its own
    scene = Scene()
    scene.request(Opcode.READ, 150, 460, 470, sent=149, asker=999, worker=WORKER2)
    scene.fetch(Fetch(handed=170, get=180, first=200, done=400, filled=440), worker=WORKER2)
    scene.off(200, 480, 490, by=WORKER)
    scene.request(Opcode.READ, 210, 475, 485, sent=199)
    scene.miss(219, 1).cache_read(450, 470, fd=66)

    report = analyse(scene.call("OgaCreateModel", 100, 800).trace())

    row = phase(report, "load")
    assert classes_us(row)["network.shared"] == 450 - 220
    assert (row.cache_misses, row.http_fetches) == (0, 0)
    assert report.fetches[0].by_target is False


def test_waiting_in_a_mutex_for_the_same_file_is_shared() -> None:
    scene = Scene()
    scene.request(Opcode.READ, 150, 460, 470, sent=149, asker=999, worker=WORKER2)
    scene.fetch(Fetch(handed=170, get=180, first=200, done=400, filled=440), worker=WORKER2)
    scene.off(200, 480, 490, by=WORKER)
    scene.request(Opcode.READ, 210, 475, 485, sent=199)
    scene.add(Kind.DAEMON_FUTEX, 220, 445, tid=WORKER, a=0x1000)

    row = load(scene)

    assert classes_us(row)["network.shared"] == 440 - 220


@pytest.mark.parametrize("cause", ["miss", "mutex"])
def test_a_download_for_the_threads_own_request_is_not_shared(cause: str) -> None:
    # GIVEN a readahead of two READs, and the worker of the second comes to download what both need
    scene = Scene()
    scene.request(Opcode.READ, 150, 460, 470, sent=149, worker=WORKER2)
    scene.fetch(Fetch(handed=170, get=180, first=400, done=430, filled=440), worker=WORKER2)
    scene.off(200, 480, 490, by=WORKER)
    scene.request(Opcode.READ, 210, 475, 485, sent=148)
    if cause == "miss":
        scene.miss(219, 1).cache_read(440, 470, fd=66)
    else:
        scene.add(Kind.DAEMON_FUTEX, 220, 440, tid=WORKER, a=0x1000)

    spent = classes_us(load(scene))

    # THEN waiting for the first is what the second does
    assert "network.shared" not in spent
    assert (spent["network.request"], spent["cache.fill"]) == (400 - 220, 440 - 400)


def test_waiting_for_a_busy_download_thread_is_queue() -> None:
    # GIVEN a GET that is sent only 150 µs after the hand-over
    scene = Scene()
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 200, 690, 695, sent=200)
    scene.fetch(Fetch(handed=210, get=360, first=400, done=600, filled=640))

    assert classes_us(load(scene))["network.queue"] == 150


def test_two_transfers_at_once_each_wait_for_their_own() -> None:
    # GIVEN two downloads that interleave on two sockets
    scene = Scene()
    scene.request(Opcode.READ, 200, 690, 695, sent=200, node=7)
    scene.fetch(Fetch(handed=220, get=230, first=300, polls=((310, 400),), last=500, done=501, filled=600, number=1))
    scene.request(Opcode.READ, 205, 790, 795, sent=204, node=8, worker=WORKER2, asker=TARGET + 1)
    scene.fetch(
        Fetch(handed=225, get=235, first=420, last=700, done=701, filled=740, number=2, descriptor=62, address=0xA00),
        worker=WORKER2,
    )
    scene.off(206, 790, 796, by=WORKER2)

    report = analyse(scene.call("OgaCreateModel", 100, 800).trace())

    row = classes_us(phase(report, "load"))
    assert row["network.request"] == 420 - 235
    assert row.get("network.transfer", 0) == 0
    assert [fetch.bytes for fetch in report.fetches] == [1000, 1000]
    assert [round(fetch.request_s / US) for fetch in report.fetches] == [70, 185]
    assert [round(fetch.transfer_s / US) for fetch in report.fetches] == [90, 0]


def test_unpacking_for_another_transfer_is_queue() -> None:
    # GIVEN a transfer whose bytes came at 350 and 500, and another whose bytes came in between, on another socket
    scene = Scene()
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 230, 680, 695, sent=199)
    scene.fetch(Fetch(handed=250, get=300, first=350, last=600, done=601, filled=640))
    scene.add(Kind.HTTP_RECV, 400, 405, tid=DOWNLOADER, ret=16384, a=77, c=16384)
    scene.add(Kind.HTTP_RECV, 500, 505, tid=DOWNLOADER, ret=16384, a=61, c=16384)

    row = load(scene)

    # THEN what the thread did from 400 to 500 was for the other
    assert row.classes["network.queue"] == pytest.approx((50 + 100) * US)
    assert row.classes["cache.fill"] == pytest.approx((50 + 140 - 5) * US)

    # AND the fetch says the same of itself
    (fetch,) = analyse(scene.trace()).fetches
    assert fetch.queue_s == pytest.approx(row.classes["network.queue"])
    assert fetch.fill_s == pytest.approx(row.classes["cache.fill"])


def test_the_same_inode_of_another_mount_is_another_file() -> None:
    # GIVEN a page that was read on one mount, and a page of the same number of a file of the same number touched on another
    scene = Scene()
    scene.request(Opcode.READ, 210, 280, 295, sent=199, size=4096)
    scene.page(Kind.PAGE_READ, 300, 0)
    scene.add(Kind.PAGE_READ, 310, tid=TARGET, a=CONNECTION + 1, b=7, c=1 << 48)
    meta = scene.trace().meta
    second = {**meta["mounts"][0], "path": f"{MOUNT}.second", "daemon_pid": DAEMON + 100}
    second |= {"connection": CONNECTION + 1, "device": CONNECTION + 1}

    rows = analyse(scene.trace(mounts=[*meta["mounts"], second])).phases

    assert sum(row.page_cache_bytes or 0 for row in rows) == 4096


def test_objects_read_by_lookups_are_catalogs() -> None:
    # GIVEN a LOOKUP for which the worker reads from the catalog's file
    scene = Scene()
    scene.off(200, 290, 300, by=WORKER)
    scene.request(Opcode.LOOKUP, 220, 280, 295, sent=199, name="model")
    scene.cache_read(240, 270)

    row = load(scene)

    assert row.classes["cache.read"] == 0
    assert row.classes["cache.lookup"] == pytest.approx(60 * US)


def test_a_retry_after_an_error_counts_both_requests() -> None:
    # GIVEN a job whose first GET is answered by 503 and repeated on the same connection
    scene = Scene()
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 200, 690, 695, sent=200)
    scene.fetch(Fetch(handed=220, get=400, first=450, done=600, filled=640))
    scene.add(
        Kind.HTTP_SEND,
        230,
        231,
        tid=DOWNLOADER,
        ret=90,
        a=61,
        text="GET /cvmfs/repo.test.org/data/00/" + "0" * 37 + "1P HTTP/1.1",
    )
    scene.add(Kind.HTTP_RECV, 280, 281, tid=DOWNLOADER, ret=200, a=61, text="HTTP/1.1 503 No\r\nContent-Length: 0\r\n")

    report = analyse(scene.call("OgaCreateModel", 100, 800).trace())

    row = classes_us(phase(report, "load"))
    assert [fetch.status for fetch in report.fetches] == [503, 200]
    assert row["network.queue"] == 10 + (400 - 281)
    assert row["network.request"] == 50 + 50
    assert phase(report, "load").cache_misses == 1


def test_a_dead_origin_counts_as_connect() -> None:
    # GIVEN a job that never gets to a GET, because the connect hangs
    scene = Scene()
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 200, 690, 695, sent=200)
    scene.miss(210, 1).add(Kind.HANDOVER, 220, 221, tid=WORKER, a=0xF00, b=41)
    scene.add(Kind.HANDOVER_TAKEN, 222, tid=DOWNLOADER, a=0xF00, b=40)
    scene.add(Kind.HTTP_CONNECT, 240, 241, tid=DOWNLOADER, ret=-115, a=61, b=2, c=1)
    scene.add(Kind.HANDOVER_DONE, 640, tid=DOWNLOADER, b=65)
    scene.add(Kind.HANDOVER_RESULT, 225, 645, tid=WORKER, b=64)

    row = classes_us(load(scene))

    assert row["network.queue"] == 20
    assert row["network.connect"] == 400


def test_a_wait_for_a_thread_is_followed_to_what_that_thread_waits_for() -> None:
    # GIVEN the main thread waits in a futex for a thread of its pool, which waits for a page, then computes
    scene, pool = Scene(), TARGET + 1
    scene.add(Kind.PROC_FORK, 10, tid=TARGET, a=TARGET, b=pool)
    scene.add(Kind.SYS_WAIT, 195, 505, tid=TARGET, a=202)
    scene.off(200, 490, 500, by=pool)
    scene.off(150, 390, 400, by=WORKER, tid=pool)
    scene.request(Opcode.READ, 220, 380, 395, sent=149, asker=pool)
    scene.hit(221, 1).cache_read(250, 350)

    row = classes_us(load(scene))

    assert row == {
        "cache.transport": 20 + 20,
        "cache.lookup": 30 + 30,
        "cache.read": 100,
        "compute.wait": 90 + 10,  # the pool thread computes 400..490, then the main thread has no CPU
        "compute.cpu": 400,
    }


def test_waits_unrelated_to_cvmfs_are_other() -> None:
    # GIVEN a sleep, a local file, a pipe read, a preemption, a futex, a disk wait outside any call, and a riddle
    scene = Scene()
    scene.add(Kind.SYS_WAIT, 110, 150, tid=TARGET, a=230).off(112, 145, 148, by=0)
    scene.opened(155, 160, 5, "/etc/hosts").read(200, 240, 5).off(201, 230, 235, by=33, state=2)
    scene.read(250, 300, 0).off(251, 299, 299, by=44)
    scene.preempted(310, 330)
    scene.add(Kind.SYS_WAIT, 340, 400, tid=TARGET, a=202).off(341, 390, 399, by=0)
    scene.off(410, 430, 431, by=0, state=2)
    scene.off(440, 450, 450, by=0, state=1)

    row = classes_us(load(scene))

    assert row == {
        "other.idle": 33 + 48,
        "other.io": 29 + 20,
        "compute.wait": 3 + 5 + 20 + 49 + 9 + 1,
        "unattributed": 10,
        "compute.cpu": 700 - 33 - 48 - 29 - 20 - 87 - 10,
    }


def test_copies_from_the_page_cache_are_cache_page() -> None:
    # GIVEN a file of the mount, opened and read without a wait, and one that is not of the mount
    scene = Scene().preempted(850, 851)
    scene.opened(110, 120, 5)
    scene.request(Opcode.OPEN, 112, 116, 118, sent=111)
    scene.read(200, 250, 5)
    scene.add(Kind.SYS_CLOSE, 300, 301, tid=TARGET, a=5)
    scene.opened(310, 320, 5, "/tmp/x").read(330, 390, 5)

    row = classes_us(load(scene))

    assert row == {"cache.page": 60, "compute.cpu": 640}


def test_without_scheduler_events_requests_say_when_a_thread_was_blocked() -> None:
    # GIVEN what strace sees: no FUSE_SEND, no OFFCPU
    scene = Scene()
    scene.opened(110, 120, 5)
    scene.request(Opcode.OPEN, 112, 116, 118)
    scene.read(200, 260, 5)
    scene.request(Opcode.READ, 210, 230, 240)
    scene.request(Opcode.READ, 241, 290, 300)  # readahead, still under way when read() returns
    scene.request(Opcode.READ, 400, 440, 450)  # a page fault
    scene.cache_read(410, 430)

    report = analyse(scene.call("OgaCreateModel", 100, 800).trace())

    row = classes_us(phase(report, "load"))
    assert row == {
        "cache.page": 4 + 10 + 1,
        "cache.lookup": 4 + 20 + 19 + 20,
        "cache.read": 20,
        "cache.transport": 2 + 10 + 10,
        "compute.cpu": 700 - 120,
    }
    assert any("no scheduler events" in text for text in report.trace.missing)


def test_a_daemon_without_a_mount_is_ignored() -> None:
    scene = Scene()
    scene.request(Opcode.READ, 210, 230, 240)
    scene.add(Kind.FUSE_DAEMON, 300, 310, tid=301, tgid=300, a=2, b=3, c=Opcode.READ << 32 | 77)

    assert load(scene).fuse_reads == 1
    assert DAEMON != 300


def test_a_file_keeps_its_name_where_clocks_differ_by_some_microseconds() -> None:
    # GIVEN an OPEN that the client's strace puts 30 µs before the call in which the target's strace saw it
    scene = Scene()
    scene.call("OgaCreateModel", 50, 900)
    scene.opened(130, 700, 5)
    scene.request(Opcode.OPEN, 100, 600, 605)

    # THEN it is of that call all the same
    assert [file.path for file in analyse(scene.trace(probe="strace")).files] == [MODEL]
