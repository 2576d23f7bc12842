"""Time that the origin, the client or its disk spent on purpose comes back in its class. The truth is what each logged that it did."""

from __future__ import annotations

from typing import Any

import pytest
from laboratory import CHUNK, Run

pytestmark = pytest.mark.root

PAGE = 4096


@pytest.fixture(scope="module")
def network(laboratory) -> Run:
    """Slow in the network, and in the thread that all downloads share."""
    lab, data = laboratory, laboratory.data
    shared, other = lab.fresh(), lab.fresh()
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
        ["read", "fill", data, other],
        lab.client(),
    )


@pytest.fixture(scope="module")
def crowd(laboratory) -> Run:
    """Two downloads at once, in a download thread that unpacks slowly."""
    lab, data = laboratory, laboratory.data
    one, two = lab.fresh(), lab.fresh()
    # Both connections are there already, so that the second GET goes out while the first body is unpacked.
    warm = [lab.fresh(), lab.fresh()]
    return lab.run(
        lab.client(),
        lab.origin({"first_byte_delay_s": 0.4}),
        ["beside", "warm ends", ["read", "warm one", data, warm[0]], 0.1, "read", "warm two", data, warm[1]],
        lab.origin(),
        lab.client(inflate_busy_s=0.012),
        ["beside", "the other ends", ["read", "ahead", data, one], 0.3, "read", "behind", data, two],
        lab.client(),
    )


@pytest.fixture(scope="module")
def client(laboratory) -> Run:
    """Slow in the client's workers and on its disk."""
    lab, data = laboratory, laboratory.data
    chunk = lab.fresh()
    lab.run(["read", "fetched", data, chunk])
    with lab.slow_disk(0.2):
        return lab.run(
            lab.client(lookup_delay_s=0.1),
            ["lookup", "lookup", *(f"{lab.stack.mountpoint}/truth/none{number}" for number in range(6))],
            lab.client(worker_busy_s=0.3),
            ["read", "busy worker", data, chunk + 16 * PAGE, 3],
            lab.client(),
            ["read", "slow disk", data, chunk + 64 * PAGE, 4],
        )


def test_first_byte_is_network_request(laboratory, network: Run) -> None:
    served = network.gets("request")
    assert len(served) == 3
    taken_s = sum(entry.first_byte_ns - entry.start_ns for entry in served) / 1e9
    laboratory.check(
        "origin waits before the first byte",
        "network.request",
        taken_s,
        network.found("request")["network.request"],
        network.client_s("request", "request"),
    )


def test_bandwidth_is_network_transfer(laboratory, network: Run) -> None:
    paced_s = sum(entry.pace_ns for entry in network.gets("transfer")) / 1e9
    laboratory.check(
        "origin sends at 1.2 MB/s",
        "network.transfer",
        paced_s,
        network.found("transfer")["network.transfer"],
        network.client_s("transfer", "transfer") - network.client_s("transfer", "unpack"),
    )


def test_connecting_is_network_connect(laboratory, network: Run) -> None:
    laboratory.check(
        "origin lets no connection come about",
        "network.connect",
        network.client_s("connect", "connect"),
        network.found("connect")["network.connect"],
    )


def test_busy_download_thread_is_network_queue(laboratory, network: Run) -> None:
    laboratory.check(
        "download thread is busy when a job is handed to it",
        "network.queue",
        network.client_s("queue", "take"),
        network.found("queue")["network.queue"],
        network.client_s("queue", "queue"),
    )


def test_unpacking_for_another_is_network_queue_and_for_oneself_cache_fill(laboratory, crowd: Run) -> None:
    # GIVEN when the bytes of the second download came, and what the thread unpacked meanwhile
    act = crowd.acts["behind"]
    lines = [line for line in crowd.injected if act.start_ns <= line["start_ns"] < act.end_ns and line["of"]]
    came = next(line for line in lines if line["what"] == "transfer" and line["end_ns"] == _last(lines, act.end_ns))
    unpacked = [line for line in lines if line["what"] == "unpack" and line["start_ns"] >= came["start_ns"]]
    own_s = sum(line["end_ns"] - line["start_ns"] for line in unpacked if line["of"] == came["of"]) / 1e9
    others_s = sum(line["end_ns"] - line["start_ns"] for line in unpacked if line["of"] != came["of"]) / 1e9
    queued_s = sum(line["end_ns"] - line["start_ns"] for line in lines if line["what"] == "queue") / 1e9

    # THEN
    found = crowd.found("behind")
    laboratory.check("download thread unpacks for itself", "cache.fill", own_s, found["cache.fill"])
    laboratory.check(
        "download thread unpacks for another", "network.queue", queued_s + others_s, found["network.queue"]
    )


def _last(lines: list[dict[str, Any]], end_ns: int) -> int:
    return max(line["end_ns"] for line in lines if line["what"] == "transfer" and line["end_ns"] < end_ns)


def test_waiting_for_the_fetch_of_another_is_network_shared(laboratory, network: Run) -> None:
    assert not network.gets("shared")
    laboratory.check(
        "two processes want one chunk",
        "network.shared",
        network.acts["shared"].blocked_s,
        network.found("shared")["network.shared"],
    )


def test_slow_unpacking_is_cache_fill(laboratory, network: Run) -> None:
    laboratory.check(
        "download thread unpacks slowly",
        "cache.fill",
        network.client_s("fill", "inflate"),
        network.found("fill")["cache.fill"],
        network.client_s("fill", "transfer"),
    )


def test_slow_catalog_is_cache_lookup(laboratory, client: Run) -> None:
    laboratory.check(
        "worker searches the catalog slowly",
        "cache.lookup",
        client.client_s("lookup", "lookup"),
        client.found("lookup")["cache.lookup"],
    )


def test_busy_worker_is_cache_lookup(laboratory, client: Run) -> None:
    laboratory.check(
        "worker computes before it reads",
        "cache.lookup",
        client.client_s("busy worker", "worker"),
        client.found("busy worker")["cache.lookup"],
        client.client_s("busy worker", "read"),
    )


def test_slow_disk_is_cache_read(laboratory, client: Run) -> None:
    laboratory.check(
        "client's cache lies on a slow disk",
        "cache.read",
        client.disk_s("slow disk"),
        client.found("slow disk")["cache.read"],
        client.client_s("slow disk", "read"),
    )


@pytest.mark.parametrize("which, own", [("network", "first"), ("crowd", "behind"), ("client", "slow disk")])
def test_all_of_it_adds_up(which: str, own: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    assert run.study.path.length.sum() / 1e9 == pytest.approx(run.life_s(), rel=1e-3)
    for name, act in run.acts.items():
        if act.tid != run.acts[own].tid:
            continue
        assert sum(run.found(name).values()) == pytest.approx(act.wall_s, rel=1e-3, abs=1e-6)
        if act.wall_s > 0.05:
            assert run.found(name)["unattributed"] <= 0.02 * act.wall_s, (name, run.found(name))
