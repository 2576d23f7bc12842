"""Waiting for one fetch after the other, and the state of the caches in each phase."""

import pytest
from scene import TARGET, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Phase
from cvtrace.analysis.contract.storage_schema import Fetching
from cvtrace.probes.events import Kind, Opcode


def waiting(scene: Scene, at: float, number: int, *, worker: int = WORKER, tid: int = TARGET, address: int = 1) -> None:
    """Let a thread wait 100 µs for a READ, 80 of them for a fetch."""
    scene.off(at, at + 100, at + 100, by=worker, tid=tid, state=2)
    scene.request(Opcode.READ, at, at + 99, at + 101, sent=at, worker=worker, asker=tid, offset=number << 20)
    times = (at + 10, at + 20, at + 40, at + 80, at + 90)
    scene.fetch(Fetch(*times, number=number, address=address, descriptor=60 + address), worker=worker)


def fetching(scene: Scene) -> Fetching:
    result = analyse(scene.trace()).fetching
    assert result is not None
    return result


def test_fetches_one_after_the_other_could_all_be_saved_but_the_longest() -> None:
    scene = Scene()
    for number in range(3):
        waiting(scene, 100 + 200 * number, number)

    result = fetching(scene)

    assert result.waited_s == pytest.approx(240e-6)
    assert result.sequential_s == pytest.approx(240e-6)
    assert result.sequential_share == 1
    assert result.longest_s == pytest.approx(80e-6)
    assert result.parallel_saves_at_most_s == pytest.approx(160e-6)
    assert result.most_at_once == 1


def test_time_with_two_fetches_under_way_is_not_sequential() -> None:
    # GIVEN a fetch of another thread that overlaps the second half of the one that is waited for
    scene = Scene()
    waiting(scene, 100, 1)
    scene.add(Kind.PROC_FORK, 1, tid=TARGET, a=TARGET, b=TARGET + 1)
    waiting(scene, 140, 2, worker=WORKER2, tid=TARGET + 1, address=2)

    result = fetching(scene)

    # THEN of 110..190 only 110..150 is sequential
    assert result.waited_s == pytest.approx(80e-6)
    assert result.sequential_s == pytest.approx(40e-6)
    assert result.most_at_once == 2


def test_without_a_fetch_the_wait_is_zero() -> None:
    scene = Scene()
    scene.request(Opcode.READ, 100, 190, 195, sent=99)

    result = fetching(scene)

    assert (result.waited_s, result.sequential_share, result.most_at_once) == (0, None, 0)


def phases(scene: Scene) -> dict[str, Phase]:
    return {row.name: row for row in analyse(scene.trace()).phases}


def test_each_phase_has_its_own_state_of_the_caches() -> None:
    # GIVEN a load that fetches, a prefill that reads what the client has, and tokens that touch cached pages
    scene = Scene()
    scene.call("OgaCreateModel", 90, 400).call("OgaGenerator_AppendTokens", 420, 600)
    scene.call("OgaGenerator_GenerateNextToken", 620, 640)
    waiting(scene, 100, 1)
    scene.request(Opcode.READ, 450, 550, 555, sent=449, offset=1 << 20)
    scene.hit(460, 5).cache_read(470, 480)
    scene.page(Kind.PAGE_MAP, 630, 3, 16)

    rows = phases(scene)

    assert [rows[name].cache_state for name in ("load", "prefill", "decode", "import")] == [
        "cold",
        "warm",
        "hot",
        "none",
    ]
    assert rows["load"].fetch_wait_s == pytest.approx(80e-6)
    assert rows["load"].sequential_fetch_s == pytest.approx(80e-6)
    assert rows["prefill"].fetch_wait_s == 0


@pytest.mark.parametrize("asleep, state", [(8, "warm-disk"), (0, "warm-memory")])
def test_a_client_that_waits_for_its_disk_is_warm_disk(asleep: int, state: str) -> None:
    # GIVEN a client whose worker is seen, and sleeps within its read of the cache file, or only outside of it
    scene = Scene()
    scene.call("OgaCreateModel", 90, 400)
    scene.request(Opcode.READ, 150, 250, 255, sent=149)
    scene.hit(160, 5).cache_read(170, 190)
    scene.add(Kind.OFFCPU, 200, 210, tid=WORKER, a=1, b=1, c=2)
    if asleep:
        scene.add(Kind.OFFCPU, 175, 175 + asleep, tid=WORKER, a=1, b=1, c=2)

    assert phases(scene)["load"].cache_state == state
