"""The download thread of the lab's client where it ends while workers want something of it."""

from __future__ import annotations

import select
import threading
import time

from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.delays import DelayInjector
from cvtrace.lab.client.download import Downloader, Failure
from cvtrace.lab.client.job import Job, MemorySink

NOBODY_THERE = "http://127.0.0.1:9/cvmfs/test"
WORKERS = 8


def downloader(injector: DelayInjector | None = None) -> Downloader:
    return Downloader(NOBODY_THERE, Counters(), injector or DelayInjector(), user_agent="test", max_retries=0)


class SlowTake(DelayInjector):
    """Keeps the download thread busy with the first job that it takes until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_taken, self.go_on = threading.Event(), threading.Event()

    def take(self) -> None:
        self.is_taken.set()
        assert self.go_on.wait(10)


def test_workers_whose_jobs_are_still_in_the_pipe_get_an_answer_when_the_thread_ends() -> None:
    # GIVEN a download thread that is busy with one job, and workers that handed over others
    injector = SlowTake()
    thread = downloader(injector)
    thread.start()
    outcomes: list[Failure] = []
    workers = [
        threading.Thread(target=lambda: outcomes.append(thread.download(Job("/x", MemorySink()))), daemon=True)
        for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    assert injector.is_taken.wait(10)
    deadline_s = time.monotonic() + 10
    while len(thread._jobs) < WORKERS - 1 and time.monotonic() < deadline_s:
        time.sleep(0.001)

    # WHEN it is stopped
    stopping = threading.Thread(target=thread.stop, daemon=True)
    stopping.start()
    assert select.select([thread._stop_reader], [], [], 10)[0]
    injector.go_on.set()

    # THEN no worker waits for ever
    deadline_s = time.monotonic() + 5
    for worker in workers:
        worker.join(max(deadline_s - time.monotonic(), 0))
    assert not any(worker.is_alive() for worker in workers)
    assert len(outcomes) == WORKERS
    assert Failure.CANCELLED in outcomes


def test_a_job_that_is_handed_to_a_thread_that_has_ended_is_cancelled() -> None:
    thread = downloader()
    thread.start()
    thread.stop()
    assert thread.download(Job("/x", MemorySink())) is Failure.CANCELLED
