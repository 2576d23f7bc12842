"""A fleet on Dask: the same tables as in one process, also if a worker is killed; nobody else on the machine can use the workers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from benchmarks.fleet_traces import write_fleet
from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES
from cvtrace.analysis.fleet import cluster
from cvtrace.analysis.fleet.fleet import Fleet, fleet_of
from cvtrace.analysis.fleet.node import tables_of
from cvtrace.analysis.fleet.part import Part
from cvtrace.analysis.report.fleet.tables import folder, write_parquet

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

CVTRACE = (sys.executable, "-m", "cvtrace", "fleet")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fleet with one trace that cannot be read."""
    place = tmp_path_factory.mktemp("fleet")
    write_fleet(place, 20, 3_000, distinct=6)
    (place / "broken").mkdir()
    (place / "broken" / "meta.json").write_text("{}")
    return place


@pytest.fixture(scope="module")
def in_one_process(traces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(fleet_of([traces], workers=1), tmp_path_factory.mktemp("one"))


def digests(fleet: Fleet, place: Path) -> dict[str, str]:
    """Write the tables and return a digest of the bytes of each."""
    with folder(place / "tables") as opener:
        write_parquet(fleet.part, opener)
    return {
        name: hashlib.sha256((place / "tables" / f"{name}.parquet").read_bytes()).hexdigest() for name in FLEET_TABLES
    }


@contextlib.contextmanager
def scheduler_with_workers(count: int, place: Path) -> Iterator[str]:
    """Start a scheduler and workers as an operator does; yield the scheduler's address."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["."])}
    address_file = place / "scheduler.json"
    dask = (sys.executable, "-m", "distributed.cli.dask_scheduler")
    worker = (sys.executable, "-m", "distributed.cli.dask_worker")
    options = ("--scheduler-file", str(address_file), "--no-dashboard")
    processes = [
        subprocess.Popen(
            [*dask, *options, "--host", "127.0.0.1", "--port", "0"], stderr=subprocess.DEVNULL, env=environment
        )
    ]
    try:
        wait_until(
            lambda: address_file.exists() and address_file.stat().st_size > 0, "the scheduler wrote its address", 60
        )
        for number in range(count):
            local = ("--local-directory", str(place / f"worker-{number}"), "--nthreads", "1", "--host", "127.0.0.1")
            processes.append(subprocess.Popen([*worker, *options, *local], stderr=subprocess.DEVNULL, env=environment))
        with distributed.Client(scheduler_file=str(address_file), timeout=120) as client:
            if count:
                client.wait_for_workers(count, timeout=120)
            yield client.scheduler.address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def test_two_workers_of_a_cluster_give_the_same_tables_to_the_last_byte(
    traces: Path, in_one_process: dict[str, str], tmp_path: Path
) -> None:
    with scheduler_with_workers(2, tmp_path) as address:
        # WHEN
        result = subprocess.run(
            [*CVTRACE, str(traces), "--scheduler", address, "--format", "parquet", "-o", str(tmp_path / "tables")],
            capture_output=True,
            text=True,
            check=False,
        )

        # THEN
        assert result.returncode == 4, result.stderr
        assert result.stderr.splitlines()[-1] == "cvtrace: 1 of 21 traces skipped; the report is of the others"
        got = {
            name: hashlib.sha256((tmp_path / "tables" / f"{name}.parquet").read_bytes()).hexdigest()
            for name in FLEET_TABLES
        }
        assert got == in_one_process


@dataclass
class Watched:
    """A run on two workers in which one was killed, and what was tried meanwhile."""

    fleet: Fleet
    killed: int
    refused: list[str]
    addresses: set[str]
    """That the run listened on."""
    left: list[str]


@pytest.fixture(scope="module")
def watched(traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Kill a worker in the middle, and try to reach the scheduler without its certificate."""
    temporary, killed, refused = tmp_path_factory.mktemp("temporary"), list[int](), list[str]()
    addresses = set[str]()

    def in_the_middle(done: int, _total: int) -> None:
        if done < 6 or killed:
            return
        nanny = next(each for each in psutil.Process().children() if runs(each, "dask_worker"))
        address = next(word for word in nanny.cmdline() if word.startswith("tls://"))
        for url in (address, address.replace("tls://", "tcp://")):
            stranger = "import sys, distributed\ndistributed.Client(sys.argv[1], timeout=2)\nprint('connected')"
            tried = subprocess.run([sys.executable, "-c", stranger, url], capture_output=True, text=True, check=False)
            if tried.returncode and "connected" not in tried.stdout:
                refused.append(tried.stderr)
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            addresses.update(each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN")
        killed.append(min(each.pid for each in workers_of(os.getpid())))
        os.kill(killed[0], signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        fleet = fleet_of([traces], workers=2, progress=in_the_middle)
    return Watched(fleet, killed[0], refused, addresses, [each.name for each in temporary.iterdir()])


def test_a_worker_that_is_killed_changes_nothing(
    watched: Watched, in_one_process: dict[str, str], tmp_path: Path
) -> None:
    assert not psutil.pid_exists(watched.killed)
    assert digests(watched.fleet, tmp_path) == in_one_process


def test_nobody_without_its_certificate_can_use_the_scheduler(watched: Watched) -> None:
    assert len(watched.refused) == 2


def test_scheduler_and_workers_listen_on_this_machine_only(watched: Watched) -> None:
    assert watched.addresses == {"127.0.0.1"}


def test_nothing_is_left_behind(watched: Watched) -> None:
    assert watched.left == []
    assert not [each for each in psutil.Process().children() if runs(each, "dask_worker")]


def runs(process: psutil.Process, word: str) -> bool:
    """Tell whether a word is in the command line of a process; one that has ended, a child of another test perhaps, has none."""
    try:
        return word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # ZombieProcess is one
        return False


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the processes that hold a worker: the nanny's children, without what multiprocessing needs beside them."""
    nannies = [each for each in psutil.Process(pid).children() if runs(each, "dask_worker")]
    return [each for nanny in nannies for each in nanny.children() if runs(each, "spawn_main")]


def end_the_worker(path: str, also: object = None) -> Part:
    """Analyse a trace in a worker that ends of one of them, as one that has no memory left does."""
    if path.endswith("node-00002"):
        os._exit(137)
    return tables_of(path)


def test_a_trace_that_ends_its_workers_is_skipped(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [traces / f"node-0000{number}" for number in range(5)]
    monkeypatch.setattr(cluster, "tables_of", end_the_worker)

    fleet = fleet_of(few, workers=2)

    assert fleet.report.nodes == 4
    (skipped,) = fleet.report.skipped
    assert (skipped.trace, skipped.reason) == (
        str(few[2]),
        "its analysis ended the worker several times, perhaps for lack of memory",
    )


def test_a_trace_that_waited_on_workers_that_ended_is_analysed(traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN one worker for two traces: the one that ends it, and one that waits there
    monkeypatch.setattr(cluster, "tables_of", end_the_worker)
    part = cluster.on_this_machine([str(traces / "node-00002"), str(traces / "node-00000")], 1, None, None)
    # THEN only the first is skipped
    assert part["nodes"]["trace"].to_pylist() == [str(traces / "node-00000")]
    assert part["skipped"]["trace"].to_pylist() == [str(traces / "node-00002")]


def test_a_script_without_a_guard_runs_once(traces: Path, tmp_path: Path) -> None:
    """Workers of multiprocessing would run the caller's script again, each."""
    script = tmp_path / "script.py"
    script.write_text(
        "from cvtrace.analysis.fleet.fleet import fleet_of\n"
        "print('began', flush=True)\n"
        f"print(fleet_of([{str(traces / 'node-00000')!r}, {str(traces / 'node-00001')!r}], workers=2).report.nodes)\n"
    )

    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    assert result.stdout == "began\n2\n", result.stderr
    assert result.stderr == ""


def test_an_address_without_a_scheduler_is_wrong_usage(traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "START_S", 4.0)

    with pytest.raises(cluster.ClusterUnusable, match=r"there is no Dask scheduler at tcp://127\.0\.0\.1:9"):
        fleet_of([traces / "node-00000"], scheduler="tcp://127.0.0.1:9")


def test_a_scheduler_without_workers_is_said(traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "START_S", 8.0)
    with (
        scheduler_with_workers(0, tmp_path) as address,
        pytest.raises(cluster.ClusterUnusable, match="the scheduler has no worker"),
    ):
        fleet_of([traces / "node-00000"], scheduler=address)
