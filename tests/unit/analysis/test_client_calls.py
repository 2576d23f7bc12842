"""Functions of the client's library: back-off, clean-ups, and waits for the download of another request."""

from typing import Any

import pytest
from phase_rows import US, classes_us, phase
from scene import DAEMON, DOWNLOADER, TARGET, WORKER, WORKER2, Fetch, Scene, get_line

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report.client import client
from cvtrace.probes.events import NOT_KNOWN, Kind, Opcode

FUNCTIONS = [
    "Fetcher::Fetch",
    "DownloadManager::Fetch",
    "PosixQuotaManager::DoCleanup",
    "DownloadManager::Backoff",
    "BackoffThrottle::Throttle",
]


def report_with_functions(scene: Scene, functions: list[str] = FUNCTIONS) -> Report:
    """Report on a scene whose client has these functions."""
    trace = scene.call("OgaCreateModel", 100, 800).trace()
    trace.meta["mounts"][0]["client_functions"] = functions
    return analyse(trace)


def cold_read(get: float = 300, worker: int = WORKER) -> Scene:
    """A read that is fetched; its first byte comes at 600, `get` after the hand-over at 250."""
    scene = Scene()
    scene.off(200, 690, 700, by=worker)
    scene.request(Opcode.READ, 230, 680, 695, sent=199, worker=worker)
    scene.fetch(Fetch(handed=250, get=get, first=600, last=610, done=611, filled=640), worker=worker)
    return scene


def test_back_off_after_a_request_without_an_answer_is_not_the_server() -> None:
    # GIVEN a GET at 300 that times out at 400; the download thread sleeps until 500 and asks again
    def scene() -> Scene:
        scene = cold_read(get=500)
        return scene.add(Kind.HTTP_SEND, 300, 300.5, tid=DOWNLOADER, ret=90, a=61, c=90, text=get_line(1))

    # WHEN it is seen sleeping, and when it is not
    with_it = phase(report_with_functions(scene().add(Kind.BACKOFF, 400, 500, tid=DOWNLOADER, a=0xF00)), "load")
    without = phase(report_with_functions(scene()), "load")

    # THEN
    assert classes_us(without)["network.request"] == 200 + 100
    assert classes_us(with_it)["network.request"] == 200
    assert classes_us(with_it)["network.queue"] == classes_us(without)["network.queue"] + 100
    assert with_it.wall_s == without.wall_s
    assert (with_it.backoff_s, with_it.backoff_waited_s) == (pytest.approx(100 * US), pytest.approx(100 * US))
    assert (without.backoff_s, without.backoff_waited_s) == (0, 0)


def test_back_off_of_a_worker_is_part_of_its_wait() -> None:
    # GIVEN a worker that sleeps from 645 to 675 before it gives the error back
    row = phase(report_with_functions(cold_read().add(Kind.BACKOFF, 645, 675, tid=WORKER)), "load")
    bare = phase(report_with_functions(cold_read()), "load")

    # THEN it is not cache.lookup
    assert classes_us(bare)["cache.lookup"] - classes_us(row)["cache.lookup"] == 30
    assert classes_us(row)["network.queue"] - classes_us(bare)["network.queue"] == 30
    assert row.backoff_waited_s == pytest.approx(30 * US)


def test_back_off_without_a_waiting_request_is_counted_only() -> None:
    # GIVEN another worker that sleeps for 200 µs, half of them in the load
    report = report_with_functions(cold_read().add(Kind.BACKOFF, 700, 900, tid=WORKER2))

    # THEN it is told, and no time of the target is made of it
    row = phase(report, "load")
    assert row.backoff_s == pytest.approx(100 * US)
    assert row.backoff_waited_s == 0
    assert classes_us(row) == classes_us(phase(report_with_functions(cold_read()), "load"))
    assert client(report) == [
        "After failed requests the client slept 200 µs in back-off; the run did not wait for that."
    ]


def shared_wait(until: float = 640) -> Scene:
    """A worker misses at 250 what another downloads until 640, and has it at `until`; it reads at 650."""
    scene = Scene()
    scene.request(Opcode.READ, 230, 680, 695, sent=199, worker=WORKER2, asker=TARGET + 1)
    scene.fetch(Fetch(handed=240, get=300, first=600, last=610, done=611, filled=639), worker=WORKER2)
    scene.off(200, 690, 700, by=WORKER)
    scene.request(Opcode.READ, 245, 680, 695, sent=199)
    scene.miss(250, 1).cache_read(650, 660, fd=66)
    scene.add(Kind.FETCH_CALL, 233, 645, tid=WORKER2, ret=66).add(Kind.DOWNLOAD_CALL, 239, 613, tid=WORKER2, a=0xF00)
    return scene.add(Kind.FETCH_CALL, 249, until, tid=WORKER, ret=66)


def without_functions(scene: Scene) -> Scene:
    kinds = (Kind.FETCH_CALL, Kind.DOWNLOAD_CALL, Kind.CLEANUP, Kind.BACKOFF)
    scene.events = [event for event in scene.events if event[4] not in kinds]
    return scene


def test_functions_and_calls_agree_on_a_wait_for_another() -> None:
    # GIVEN a worker that waits for the download of another, until it reads what came
    direct, inferred = (
        phase(report_with_functions(item), "load") for item in (shared_wait(649), without_functions(shared_wait()))
    )

    # THEN both say so, and the client's functions until when exactly
    assert classes_us(inferred)["network.shared"] == 650 - 251
    assert classes_us(direct)["network.shared"] == 649 - 251
    assert direct.cache_misses == inferred.cache_misses == 1


def test_a_worker_that_downloads_waits_for_no_other() -> None:
    # GIVEN a miss whose hand-over was lost, and the call that downloads
    scene = without_functions(shared_wait())
    scene.add(Kind.FETCH_CALL, 249, 640, tid=WORKER, ret=66).add(Kind.DOWNLOAD_CALL, 255, 630, tid=WORKER)

    # WHEN / THEN it is not a wait for another's download
    assert "network.shared" not in classes_us(phase(report_with_functions(scene), "load"))


def test_clean_ups_are_counted_where_they_begin() -> None:
    # GIVEN two clean-ups in the load and one after it, and one that had nothing to do
    scene = cold_read()
    for at, freed in ((150, 1_000_000), (300, 2_000_000), (850, 4_000_000)):
        scene.add(Kind.CLEANUP, at, at + 50, tid=DAEMON + 7, ret=1, a=15, b=freed, c=10)
    scene.add(Kind.CLEANUP, 500, 501, tid=DAEMON + 7, ret=1, a=15)

    # WHEN
    report = report_with_functions(scene)

    # THEN
    row = phase(report, "load")
    assert (row.cleanups, row.cleanup_bytes) == (2, 3_000_000)
    assert row.cleanup_s == pytest.approx(100 * US)
    assert sum(phase.cleanups or 0 for phase in report.phases) == 3
    (sentence,) = client(report)
    assert sentence.startswith("The client evicted 7.00 MB from its cache in 3 clean-ups of 150 µs together (load 2, ")


@pytest.mark.parametrize(
    "cleanup", [{"b": NOT_KNOWN, "c": NOT_KNOWN, "to": 310}, {"b": 0, "to": 500}], ids=["unknown", "too long for none"]
)
def test_unknown_bytes_are_null(cleanup: dict[str, Any]) -> None:
    # GIVEN a clean-up whose bytes the layout does not show
    report = report_with_functions(cold_read().add(Kind.CLEANUP, 300, tid=DAEMON + 7, ret=1, a=15, **cleanup))

    # THEN
    row = phase(report, "load")
    assert (row.cleanups, row.cleanup_bytes) == (1, None)
    assert client(report)[0].startswith("The client evicted objects from its cache in 1 clean-up ")


@pytest.mark.parametrize(
    ("functions", "cleanups", "backoff"),
    [([], None, None), (FUNCTIONS[:3], 0, None), (FUNCTIONS[2:4], 0, None), (FUNCTIONS[3:], None, 0)],
)
def test_what_was_not_observed_is_null(functions: list[str], cleanups: int | None, backoff: int | None) -> None:
    # GIVEN a client with some of the functions only
    row = phase(report_with_functions(cold_read(), functions), "load")

    # THEN
    assert (row.cleanups, row.cleanup_bytes, row.cleanup_s) == (cleanups,) * 3
    assert (row.backoff_s, row.backoff_waited_s) == (backoff,) * 2


def test_calls_of_another_client_do_not_count() -> None:
    # GIVEN a second mount that the target does not use, and its client's clean-up and back-off
    stranger = DAEMON + 500
    scene = cold_read().call("OgaCreateModel", 100, 800)
    scene.add(Kind.CLEANUP, 300, 310, tid=stranger, tgid=stranger, ret=1, a=15, b=99, c=10)
    scene.add(Kind.BACKOFF, 300, 310, tid=stranger, tgid=stranger, a=1)
    trace = scene.trace()
    (mount,) = trace.meta["mounts"]
    mount["client_functions"] = FUNCTIONS
    trace.meta["mounts"].append(
        {**mount, "path": "/cvmfs/other", "connection": 43, "device": 43, "daemon_pid": stranger}
    )

    # WHEN / THEN
    row = phase(analyse(trace), "load")
    assert (row.cleanups, row.backoff_s) == (0, 0)
