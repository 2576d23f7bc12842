"""Time injected at the origin, in the client or on its disk is reported in its class. The truth is the log of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from laboratory import CHUNK, Run

pytestmark = pytest.mark.root

PAGE = 4096
AHEAD_BYTES = 64 * PAGE
WORKERS = 10
"""Threads that libfuse answers in, at most."""


@pytest.fixture(scope="module")
def network(laboratory) -> Run:
    """Slow in the network, and in the thread that all downloads share."""
    lab, data = laboratory, laboratory.data
    shared, second = lab.fresh(), lab.fresh()
    return lab.run(
        lab.client(),
        ["read", "first", data, lab.fresh()],
        lab.origin({"first_byte_delay_s": 0.2}),
        ["read", "request", data, lab.fresh(3), 3, CHUNK],
        lab.origin({"bandwidth_bytes_per_s": 1_200_000}),
        ["read", "transfer", data, lab.fresh()],
        lab.origin(),
        lab.hold(0.9),
        ["read", "connect", data, lab.fresh()],
        lab.client(take_busy_s=0.6),
        ["read", "queue", data, lab.fresh()],
        lab.client(),
        lab.origin({"first_byte_delay_s": 1.0}),
        # Two pages far apart: two requests that want one object.
        [
            "beside",
            "the other ends",
            ["read", "leader", data, shared],
            0.3,
            "read",
            "shared",
            data,
            shared + CHUNK // 2,
        ],
        lab.origin(),
        lab.client(inflate_busy_s=0.01),
        ["read", "fill", data, second],
        ["starve", lab.stack.client_pid, max(os.sched_getaffinity(0)), "read", "starved fill", data, lab.fresh()],
        lab.client(),
    )


@pytest.fixture(scope="module")
def crowd(laboratory) -> Run:
    """Two downloads at once, in a download thread that unpacks slowly."""
    lab, data = laboratory, laboratory.data
    first, two = lab.fresh(), lab.fresh()
    # Both connections are there already, so that the second GET goes out while the first body is unpacked.
    warm = [lab.fresh(), lab.fresh()]
    return lab.run(
        lab.client(),
        lab.origin({"first_byte_delay_s": 0.4}),
        ["beside", "warm ends", ["read", "warm one", data, warm[0]], 0.1, "read", "warm two", data, warm[1]],
        lab.origin(),
        lab.client(inflate_busy_s=0.012),
        ["beside", "the other ends", ["read", "ahead", data, first], 0.3, "read", "behind", data, two],
        lab.client(),
    )


@pytest.fixture(scope="module")
def client(laboratory) -> Run:
    """Slow in the client's workers and on its disk."""
    lab, data = laboratory, laboratory.data
    chunk = lab.fresh()
    lab.run(["read", "fetched", data, chunk])
    with lab.slow_disk(0.1):
        return lab.run(
            lab.client(),
            ["lookup", "slow catalog", *(f"{lab.stack.mountpoint}/truth/many/none{number}" for number in range(12))],
            lab.client(worker_busy_s=0.3),
            ["read", "busy worker", data, chunk + 16 * PAGE, 3],
            lab.client(),
            ["read", "slow disk", data, chunk + 64 * PAGE, 8],
        )


@pytest.fixture(scope="module")
def crowded(laboratory) -> Run:
    """A client that does not come to its requests: stopped, without a CPU, all workers busy; and two that wait for one reply."""
    lab, data = laboratory, laboratory.data
    chunk, second = lab.fresh(), lab.fresh()
    pages = iter(range(chunk + 2 * PAGE, chunk + CHUNK, 2 * PAGE))
    busy = [["read", f"busy {number}", data, next(pages)] for number in range(WORKERS)]
    unknown = [f"{lab.stack.mountpoint}/truth/none{number}" for number in range(8)]
    return lab.run(
        ["read", "fetched", data, chunk],
        lab.client(),
        ["stopped", lab.stack.client_pid, 0.5, "lookup", "stopped", unknown[0]],
        lab.client(lookup_delay_s=0.1),
        ["lookup", "lookup", *unknown[2:]],
        lab.client(worker_delay_s=0.6, lookup_delay_s=0.001),
        ["beside", "the busy end", ["threads", *busy], 0.2, "lookup", "queued", unknown[1]],
        lab.client(worker_busy_s=0.2),
        ["starve", lab.stack.client_pid, max(os.sched_getaffinity(0)), "read", "starved", data, next(pages), 3],
        lab.client(),
        lab.origin({"first_byte_delay_s": 0.5}),
        ["threads", ["read", "one", data, second], ["read", "two", data, second]],
        ["ahead", "ahead", data, lab.fresh(), AHEAD_BYTES, 0.8],
        lab.origin(),
        lab.client(),
    )


def no_time(_: Run) -> float:
    return 0.0


@dataclass(frozen=True)
class Case:
    """What was done in an act, the class it must come back in, and how long it was done, by who did it; and by who felt it."""

    delay: str
    run: str
    act: str
    class_: str
    done_s: Callable[[Run], float]
    felt_s: Callable[[Run], float] = no_time


def first_bytes_s(run: Run, *acts: str) -> float:
    served = {entry.start_ns: entry for act in acts for entry in run.gets(act)}
    return sum(entry.first_byte_ns - entry.start_ns for entry in served.values()) / 1e9


CASES = (
    Case(
        "origin waits before the first byte",
        "network",
        "request",
        "network.request",
        lambda run: first_bytes_s(run, "request"),
        lambda run: run.client_s("request", "request"),
    ),
    Case(
        "origin sends at 1.2 MB/s",
        "network",
        "transfer",
        "network.transfer",
        # While the download thread has no CPU, bytes that have come wait for it, not it for bytes.
        lambda run: sum(entry.pace_ns for entry in run.gets("transfer")) / 1e9 - run.starved_s("transfer"),
        lambda run: run.client_s("transfer", "transfer") - run.client_s("transfer", "unpack"),
    ),
    Case(
        "origin lets no connection come about",
        "network",
        "connect",
        "network.connect",
        lambda run: run.client_s("connect", "connect"),
    ),
    Case(
        "download thread is busy when a job is handed to it",
        "network",
        "queue",
        "network.queue",
        lambda run: run.client_s("queue", "take"),
        lambda run: run.client_s("queue", "queue"),
    ),
    Case(
        "two processes want one chunk",
        "network",
        "shared",
        "network.shared",
        lambda run: run.acts["shared"].blocked_s,
    ),
    Case(
        "two threads want one page: one",
        "crowded",
        "one",
        "network.request",
        lambda run: first_bytes_s(run, "one", "two"),
    ),
    Case(
        "two threads want one page: the other",
        "crowded",
        "two",
        "network.request",
        lambda run: first_bytes_s(run, "one", "two"),
    ),
    Case(
        "download thread unpacks slowly",
        "network",
        "fill",
        "cache.fill",
        lambda run: run.client_s("fill", "inflate"),
        lambda run: run.client_s("fill", "transfer"),
    ),
    Case(
        "worker searches the catalog slowly",
        "crowded",
        "lookup",
        "cache.lookup",
        lambda run: run.client_s("lookup", "lookup"),
    ),
    Case(
        "catalog lies on a slow disk",
        "client",
        "slow catalog",
        "cache.lookup",
        lambda run: run.disk_s("slow catalog"),
    ),
    Case(
        "worker computes before it reads",
        "client",
        "busy worker",
        "cache.lookup",
        lambda run: run.client_s("busy worker", "worker"),
        lambda run: run.client_s("busy worker", "read"),
    ),
    Case(
        "client's cache lies on a slow disk",
        "client",
        "slow disk",
        "cache.read",
        lambda run: run.disk_s("slow disk"),
        lambda run: run.client_s("slow disk", "read"),
    ),
    Case(
        "client is stopped",
        "crowded",
        "stopped",
        "cache.transport",
        lambda run: (run.acts["stop"].end_ns - run.acts["stopped"].start_ns) / 1e9,
    ),
    Case(
        "all workers of the client are busy",
        "crowded",
        "queued",
        "cache.transport",
        lambda run: (run.client("queued", "lookup")[-1]["start_ns"] - run.acts["queued"].start_ns) / 1e9,
    ),
    Case(
        "worker computes, and shares a CPU with two others",
        "crowded",
        "starved",
        "cache.lookup",
        lambda run: run.client_s("starved", "worker"),
        lambda run: run.client_s("starved", "read"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.delay)
def test_injected_time_is_reported_in_its_class(laboratory, case: Case, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(case.run)
    found_s = run.times_of(case.act)[case.class_]
    laboratory.check(case.delay, case.class_, case.done_s(run), found_s, case.felt_s(run))


def test_a_thread_that_waits_for_anothers_fetch_has_no_fetch_of_its_own(network: Run) -> None:
    assert len(network.gets("request")) == 3
    assert not network.gets("shared")


def test_one_reply_wakes_two_threads(crowded: Run) -> None:
    # GIVEN two threads that waited at the same time for one request
    first, two = crowded.acts["one"], crowded.acts["two"]
    assert max(first.start_ns, two.start_ns) + 400_000_000 < min(first.end_ns, two.end_ns)
    began_ns, ended_ns = min(first.start_ns, two.start_ns), max(first.end_ns, two.end_ns)
    answered = [line for line in crowded.injected if line["what"] == "read" and began_ns < line["end_ns"] < ended_ns]
    assert len(answered) == 1


def test_readahead_without_a_waiting_thread_is_not_latency(laboratory, crowded: Run) -> None:
    act, times, requests = crowded.acts["ahead"], crowded.times_of("ahead"), crowded.study.requests
    # GIVEN what was asked and fetched meanwhile
    is_sent = (requests.sent >= act.start_ns) & (requests.sent < act.end_ns)
    assert int(requests.read_bytes[is_sent].sum()) == AHEAD_BYTES
    (served,) = crowded.gets("ahead")
    delayed_s = (served.first_byte_ns - served.start_ns) / 1e9
    assert delayed_s > 0.4
    # THEN it is in nobody's time
    waited_s = sum(spent for name, spent in times.items() if name.startswith(("network.", "cache.")))
    assert waited_s < 0.02 * delayed_s
    laboratory.check("target sleeps while the kernel reads ahead", "other.idle", act.blocked_s, times["other.idle"])


def check_time_without_cpu(laboratory, run: Run, act: str, kind: str, title: str, class_: str) -> None:
    """Compare what cvtrace says with the time of `kind` in which the client's thread computed, by the wall clock, without a CPU."""
    lines = run.client(act, kind)
    cpu_s = sum(line["cpu_ns"] for line in lines) / 1e9
    without_s = sum(line["end_ns"] - line["start_ns"] for line in lines) / 1e9 - cpu_s
    laboratory.check(title, class_, without_s, run.starved_s(act), run.acts[act].wall_s - cpu_s)


def test_report_shows_a_worker_without_a_cpu(laboratory, crowded: Run) -> None:
    title = "worker computes, and shares a CPU with two others: time without one"
    check_time_without_cpu(laboratory, crowded, "starved", "worker", title, "part of the above")


def test_report_shows_a_download_thread_without_a_cpu(laboratory, network: Run) -> None:
    title = "download thread unpacks, and shares a CPU with two others: time without one"
    check_time_without_cpu(laboratory, network, "starved fill", "inflate", title, "part of cache.fill")


def test_unpacking_is_queue_for_other_requests_and_fill_for_its_own(laboratory, crowd: Run) -> None:
    # GIVEN when the second job was handed over, when its GET came to the origin, and what the thread unpacked from its first byte on
    (get,) = crowd.gets("behind")
    handed_ns = next(line["start_ns"] for line in crowd.client("behind", "queue"))
    unpacked = crowd.client("behind", "unpack")
    of_get = [line for line in unpacked if get.path.endswith(line["of"])]
    of_others = [
        line
        for line in unpacked
        if line not in of_get and of_get[0]["start_ns"] < line["start_ns"] < of_get[-1]["start_ns"]
    ]
    own_s, others_s = (sum(line["end_ns"] - line["start_ns"] for line in lines) / 1e9 for lines in (of_get, of_others))

    # THEN
    times = crowd.times_of("behind")
    laboratory.check("download thread unpacks for itself", "cache.fill", own_s, times["cache.fill"])
    laboratory.check(
        "download thread unpacks for another",
        "network.queue",
        (get.start_ns - handed_ns) / 1e9 + others_s,
        times["network.queue"],
    )


@pytest.mark.parametrize("fixture", ["network", "crowd", "client", "crowded"])
def test_classes_add_up_to_the_wall_time_of_each_phase(fixture: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(fixture)
    assert run.study.critical_path.length.sum() / 1e9 == pytest.approx(run.life_s(), rel=1e-3)
    for name, act in run.acts.items():
        assert sum(run.times_of(name).values()) == pytest.approx(act.wall_s, rel=1e-3, abs=1e-6)
        if act.wall_s > 0.05:
            assert run.times_of(name)["unattributed"] <= 0.02 * act.wall_s, (name, run.times_of(name))
