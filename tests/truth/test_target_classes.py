"""Time that the target spends on purpose is reported in its class. The truth is its log: its CPU clock and the scheduler's count."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from laboratory import CHUNK, Run, read_acts
from waiting import wait_until

pytestmark = pytest.mark.root

FED_S = 0.5


@pytest.fixture(scope="module")
def run(laboratory, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Do all of it in one run."""
    local = tmp_path_factory.mktemp("local") / "file"
    local.write_bytes(os.urandom(64 << 20))
    os.sync()
    fed: list[int] = []

    def feed(process: subprocess.Popen[bytes], log: Path) -> None:
        wait_until(
            lambda: (log.exists() and "sleep" in read_acts(log)) or process.poll() is not None, "it has slept", 200
        )
        time.sleep(FED_S)
        fed.append(time.monotonic_ns())
        process.stdin.write(b"go\n")
        process.stdin.flush()

    result = laboratory.run(
        laboratory.client(),
        ["spin", "spin", 0.4],
        ["sleep", "sleep", 0.4],
        ["stdin", "stdin"],
        ["local", "local", str(local), 125],
        ["in_thread", "thread computes", "spin", "in thread", 0.4],
        laboratory.origin({"first_byte_delay_s": 0.6}),
        ["in_thread", "thread reads", "read", "read in thread", laboratory.data, laboratory.fresh()],
        laboratory.origin(),
        ["hot", "hot", laboratory.data, laboratory.fresh(4), 4 * CHUNK, 0.4],
        ["touch", "touch", laboratory.data, laboratory.fresh(), CHUNK, 2000],
        laboratory.origin({"first_byte_delay_s": 0.5}),
        ["spin_for", "spins", "read", "spun for", laboratory.data, laboratory.fresh()],
        laboratory.origin(),
        ["pinned", "starved", 0.3, max(os.sched_getaffinity(0))],
        feed=feed,
    )
    return replace(result, fed_ns=fed[0])


def test_computing_is_compute_cpu(laboratory, run: Run) -> None:
    act, times = run.acts["spin"], run.times_of("spin")
    laboratory.check("target computes", "compute.cpu", act.on_cpu_s, times["compute.cpu"])
    assert sum(times.values()) == pytest.approx(act.wall_s, rel=1e-3)


def test_sleeping_is_other_idle(laboratory, run: Run) -> None:
    act, times = run.acts["sleep"], run.times_of("sleep")
    laboratory.check("target sleeps", "other.idle", act.blocked_s, times["other.idle"])


def test_waiting_for_input_is_other_idle(laboratory, run: Run) -> None:
    waited_s = (run.fed_ns - run.acts["stdin"].start_ns) / 1e9
    laboratory.check("target waits for standard input", "other.idle", waited_s, run.times_of("stdin")["other.idle"])


def test_reading_local_files_is_other_io(laboratory, run: Run) -> None:
    act, times = run.acts["local"], run.times_of("local")
    laboratory.check("target reads a local file past the page cache", "other.io", act.blocked_s, times["other.io"])
    assert times["cache.read"] == times["cache.transport"] == 0


def test_waiting_for_an_own_thread_that_computes_is_compute_wait(laboratory, run: Run) -> None:
    # GIVEN a thread whose first and last steps, on a busy machine, wait for a CPU as the thread that waits for it does
    act, thread, times = run.acts["thread computes"], run.acts["in thread"], run.times_of("thread computes")
    laboratory.check(
        "target waits for a thread of its own that computes",
        "compute.wait",
        thread.wall_s,
        times["compute.wait"],
        act.wall_s - act.cpu_s,
    )


def test_waiting_for_an_own_thread_that_reads_is_what_the_read_waits_for(laboratory, run: Run) -> None:
    delayed_s = sum(entry.first_byte_ns - entry.start_ns for entry in run.gets("thread reads")) / 1e9
    laboratory.check(
        "target waits for a thread of its own that waits for a first byte",
        "network.request",
        delayed_s,
        run.times_of("thread reads")["network.request"],
        run.client_s("thread reads", "request"),
    )


def test_reading_what_is_cached_is_cache_page(laboratory, run: Run) -> None:
    act, times = run.acts["hot"], run.times_of("hot")
    laboratory.check(
        "target reads cached pages",
        "cache.page",
        act.inside_ns / 1e9 - act.runnable_s,
        times["cache.page"],
        act.inside_ns / 1e9,
    )


def test_touching_a_mapping_of_what_is_cached_stays_compute_cpu(laboratory, run: Run) -> None:
    # GIVEN minor faults, of which only some leave an event, and none tells when it began
    act, times = run.acts["touch"], run.times_of("touch")
    laboratory.check(
        "target touches cached pages of a mapping",
        "compute.cpu + cache.page",
        act.wall_s - act.runnable_s,
        times["compute.cpu"] + times["cache.page"],
        act.wall_s,
    )


def test_spinning_for_a_thread_of_ones_own_is_reported_as_a_bound(laboratory, run: Run) -> None:
    # GIVEN a thread that spins, without a call, while another waits for a first byte
    spun, read, times = run.acts["spins"], run.acts["spun for"], run.times_of("spins")
    laboratory.check(
        "target spins for a thread of its own that waits for a first byte",
        "bound of spinning",
        run.client_s("spins", "read") - spun.runnable_s,
        run.spun_s("spins"),
        read.wall_s,
    )
    # THEN it stays what it looks like
    assert times["compute.cpu"] == pytest.approx(spun.wall_s - spun.runnable_s, rel=0.05)
    # AND who computes while nobody waits never spins
    assert run.spun_s("spin", "starved", "hot", "sleep") == 0


def test_waiting_for_a_cpu_is_compute_wait(laboratory, run: Run) -> None:
    act, times = run.acts["starved"], run.times_of("starved")
    laboratory.check("target is starved of CPU by two others", "compute.wait", act.runnable_s, times["compute.wait"])
    # A return to the CPU that the kernel did not tell leaves an absence in compute.cpu (docs/truth.md).
    assert times["compute.cpu"] == pytest.approx(act.wall_s - act.runnable_s, abs=0.03 * act.wall_s)


def test_classes_add_up_to_the_wall_time_of_each_phase(run: Run) -> None:
    rows = run.study.critical_path.length.sum() / 1e9
    assert rows == pytest.approx(run.life_s(), rel=1e-3)
    for name, act in run.acts.items():
        assert run.times_of(name)["unattributed"] <= 0.02 * act.wall_s, (name, run.times_of(name))
