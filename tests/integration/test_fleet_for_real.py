"""A real fleet: processes with clients of their own that begin at once through one proxy, then again behind the warm proxy."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE
from lab_mount import FQRN, Lab, lab

from cvtrace.analysis.fleet.fleet import Fleet, fleet_of
from cvtrace.analysis.report.fleet.text import render
from cvtrace.lab.client import configure, start, unmount
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import Injection
from cvtrace.lab.origin.proxy import Proxy

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="records with eBPF")]

CHUNKS = 4
CHUNK_BYTES = 400_000
DELAY_S = 0.8
"""So long that a busy machine is little beside it."""
READER = """
import sys, cvtrace
print("ready", flush=True)
sys.stdin.readline()
with cvtrace.phase("read the model"):
    with open(sys.argv[1] + "/model.bin", "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""
Mount = Callable[[Path, str, Path, Path], None]
"""Mounts: (folder of the client, address of the proxy, key, mountpoint)."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A repository with a file of some chunks, whose server answers late."""
    folder = tmp_path_factory.mktemp("site")
    folder.chmod(0o755)
    content = np.random.default_rng(1).integers(0, 256, CHUNKS * CHUNK_BYTES, dtype=np.uint8).tobytes()
    late = Injection(match="*/data/*P", first_byte_delay_s=DELAY_S)
    with lab(folder, {"model.bin": content}, chunk_size=CHUNK_BYTES, injections=(late,)) as each:
        yield each


@dataclass(frozen=True)
class Job:
    """Nodes that begin at once, and what is found of them."""

    nodes: int
    site: Lab
    proxy: Proxy
    mount: Mount

    def run(self, folder: Path) -> Fleet:
        """Mount a client with an empty cache for each node, record all, and report on their traces."""
        (folder / "traces").mkdir(parents=True)
        places = [folder / f"node-{number}" for number in range(self.nodes)]
        try:
            for place in places:
                (place / "mnt").mkdir(parents=True)
                self.mount(place, self.proxy.url, self.site.published.key_path, place / "mnt")
            self._record(folder, places)
        finally:
            for place in places:
                with contextlib.suppress(LabError):
                    unmount(place / "mnt")
        return fleet_of([folder / "traces"], workers=1)

    def _record(self, folder: Path, places: list[Path]) -> None:
        """Begin all at the same moment, when each is recorded and ready."""
        (folder / "reader.py").write_text(READER)
        processes = []
        for number, place in enumerate(places):
            words = [
                "run",
                "--no-summary",
                "--mount",
                str(place / "mnt"),
                "-o",
                f"{folder}/traces/{{job}}-{{task}}-{{host}}",
            ]
            processes.append(
                subprocess.Popen(
                    [*CVTRACE, *words, str(folder / "reader.py"), str(place / "mnt")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(number)},
                )
            )
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            _, message = process.communicate(timeout=120)
            assert process.returncode == 0, message


def check(job: Job, tmp_path: Path) -> None:
    """Report on nodes that begin at once at a proxy that has nothing, and again at the same proxy, which has everything now."""
    # WHEN
    cold = job.run(tmp_path / "cold")
    warm = job.run(tmp_path / "warm")

    # THEN the traces are named by job, task and host
    names = sorted(each.name for each in (tmp_path / "cold" / "traces").iterdir())
    assert [name.split("-")[:2] for name in names] == [["17", str(number)] for number in range(job.nodes)]
    # THEN the herd is named, and the proxy at which it waited
    start_of = cold.report.start
    assert start_of is not None
    assert start_of.herd, start_of
    assert (start_of.nodes, start_of.proxy) == (job.nodes, job.proxy.url.removeprefix("http://"))
    assert start_of.waited_s > DELAY_S / 2
    text = render(cold.report)
    assert "THUNDERING HERD" in text
    assert warm.report.start is not None
    assert warm.report.start.waited_s < start_of.waited_s / 4
    # THEN the objects that all of them fetched are counted
    chunks = [row for row in cold.report.objects if row.path.endswith("/model.bin")]
    assert [(row.nodes, row.fetches) for row in chunks] == [(job.nodes, job.nodes)] * CHUNKS
    assert cold.report.shared.repeated_bytes >= (job.nodes - 1) * CHUNKS * CHUNK_BYTES * 0.99
    assert warm.report.shared.misses == 0
    assert warm.report.shared.hits >= job.nodes * CHUNKS
    # THEN the clocks, which are one, are bounded by the dates of the answers
    assert cold.report.clocks.bounded == job.nodes
    assert cold.report.clocks.apart_at_least_s == 0.0
    # THEN what a warm proxy would save is what it saves
    predicted_s = cold.report.shared.warm_proxy_saves_s
    measured_s = sum(cold.part["nodes"]["work_s"].to_pylist()) - sum(warm.part["nodes"]["work_s"].to_pylist())
    assert predicted_s == pytest.approx(measured_s, rel=0.2)
    assert measured_s > job.nodes * CHUNKS * DELAY_S * 0.5


def test_eight_clients_that_begin_at_once(site: Lab, tmp_path: Path) -> None:
    def mount(place: Path, proxy: str, key: Path, mountpoint: Path) -> None:
        start(configure(FQRN, mountpoint, site.url, key, place / "cache", proxy=proxy))

    with Proxy(site.origin.url) as proxy:
        check(Job(8, site, proxy, mount), tmp_path)


def test_four_clients_of_cvmfs_that_begin_at_once(site: Lab, tmp_path: Path) -> None:
    program = os.environ.get("CVTRACE_TEST_CVMFS2")
    if program is None:
        pytest.skip("no cvmfs2 is named by CVTRACE_TEST_CVMFS2")

    def mount(place: Path, proxy: str, key: Path, mountpoint: Path) -> None:
        for folder in ("run", "cache"):
            (place / folder).mkdir()
        (place / "client.conf").write_text(
            f"CVMFS_SERVER_URL={site.url}\nCVMFS_HTTP_PROXY={proxy}\nCVMFS_PUBLIC_KEY={key}\nCVMFS_CACHE_DIR={place}/cache\n"
            f"CVMFS_RELOAD_SOCKETS={place}/run\nCVMFS_SHARED_CACHE=no\nCVMFS_QUOTA_LIMIT=1000\nCVMFS_CLAIM_OWNERSHIP=yes\n"
            f"CVMFS_USE_GEOAPI=no\nCVMFS_USYSLOG={place}/log\n"
        )
        library = Path(program).resolve().parent.parent / "lib"
        subprocess.run(
            [program, "-o", f"config={place}/client.conf,allow_other", FQRN, str(mountpoint)],
            check=True,
            capture_output=True,
            env={**os.environ, "CVMFS_LIBRARY_PATH": str(library)},
        )

    with Proxy(site.origin.url) as proxy:
        check(Job(4, site, proxy, mount), tmp_path)
