"""Several injected times at once: each second in its class, none twice, none lost."""

from __future__ import annotations

import pytest
from laboratory import CHUNK, Run

pytestmark = pytest.mark.root

SUM_TOLERANCE = 0.03


@pytest.fixture(scope="module")
def run(laboratory) -> Run:
    """A slow origin, a slow link, a slow client and a target that computes and sleeps, all in turns within one act after the other."""
    lab, data = laboratory, laboratory.data
    return lab.run(
        lab.origin({"first_byte_delay_s": 0.3, "bandwidth_bytes_per_s": 2_500_000}),
        lab.client(take_busy_s=0.2, inflate_busy_s=0.002, worker_busy_s=0.15),
        ["read", "chunks", data, lab.fresh(3), 3, CHUNK],
        ["in_thread", "in a thread", "read", "the thread", data, lab.fresh()],
        ["sleep", "sleep", 0.3],
        ["spin", "spin", 0.3],
        lab.client(),
        lab.origin(),
    )


def test_classes_injected_at_once_are_separated(laboratory, run: Run) -> None:
    times = run.times_of("chunks")
    delayed_s = sum(entry.first_byte_ns - entry.start_ns for entry in run.gets("chunks")) / 1e9
    downloading_s = sum(run.client_s("chunks", part) for part in ("queue", "request", "transfer"))
    expected = {
        "network.request": (delayed_s, run.client_s("chunks", "request")),
        "network.queue": (run.client_s("chunks", "take"), run.client_s("chunks", "queue")),
        "cache.lookup": (run.client_s("chunks", "worker"), run.client_s("chunks", "read") - downloading_s),
    }
    for name, (injected_s, felt_s) in expected.items():
        laboratory.check("all at once", name, injected_s, times[name], felt_s)


def test_pacing_and_unpacking_overlap_and_are_counted_once(laboratory, run: Run) -> None:
    """While the origin paces, the client unpacks what it has: their time together is the transfer's, as libcurl measured it."""
    times = run.times_of("chunks")
    laboratory.check(
        "all at once: link and unpacking overlap",
        "network.transfer + cache.fill",
        run.client_s("chunks", "transfer"),
        times["network.transfer"] + times["cache.fill"],
    )
    # What unpacking did not hide is waited for.
    assert times["cache.fill"] >= 0.95 * run.client_s("chunks", "inflate")


@pytest.mark.parametrize("act", ["chunks", "in a thread"])
def test_the_sum_of_the_classes_is_the_injected_time(laboratory, run: Run, act: str) -> None:
    times = run.times_of(act)
    parts = ("queue", "request", "transfer", "worker")
    injected_s = sum(run.client_s(act, part) for part in parts)
    found_s = sum(spent for name, spent in times.items() if name.startswith(("network.", "cache.")))
    laboratory.check(f"all at once, {act}: sum", "network + cache", injected_s, found_s, run.acts[act].wall_s)
    assert found_s == pytest.approx(injected_s, rel=SUM_TOLERANCE)


def test_nothing_is_lost_or_counted_twice(run: Run) -> None:
    assert run.study.critical_path.length.sum() / 1e9 == pytest.approx(run.life_s(), rel=1e-3)
    for name in ("chunks", "in a thread", "sleep", "spin"):
        act, times = run.acts[name], run.times_of(name)
        assert sum(times.values()) == pytest.approx(act.wall_s, rel=1e-3)
        assert times["unattributed"] <= 0.02 * act.wall_s
