"""Runs on a client that prefetches a bundle: what is a prefetch, whose it is not, and that all counts agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import Lab, LabMount, lab

from cvtrace.analysis.contract.report_options import ReportOptions
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report.text import summary
from cvtrace.analysis.summary.assemble import analyse
from cvtrace.lab.origin import Injection
from cvtrace.tracer.store import read_trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs are recorded")]

USED = [f"/app/part{number:02d}" for number in range(16)]
UNUSED = [f"/app/unused{number}" for number in range(3)]
BUNDLE = "/app/.cvmfsbundle-trigger"
FILES = {
    "app/trigger": b"t",
    **{path[1:]: os.urandom(30_000) for path in (*USED, *UNUSED)},
    BUNDLE[1:]: json.dumps({"name": "CVMFS_BUNDLE", "version": "1.0.0", "dependencies": [*USED, *UNUSED]}).encode(),
}
SCRIPT = """
import sys, time
open(sys.argv[1] + "/app/trigger").read()
for number in range(16):
    time.sleep(float(sys.argv[2]))
    open(f"{sys.argv[1]}/app/part{number:02d}", "rb").read()
time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    slow = Injection(match="*/data/*", first_byte_delay_s=0.02)
    with lab(tmp_path_factory.mktemp("lab"), FILES, injections=(slow,)) as served:
        yield served


@pytest.fixture
def mounted(served: Lab, tmp_path: Path) -> Iterator[LabMount]:
    (tmp_path / "reads.py").write_text(SCRIPT)
    with served.mount(cache=tmp_path / "cache", like="2.14") as mount:
        list((mount.root / "app").iterdir())  # the catalog is there
        yield mount


def record(mounted: LabMount, folder: Path, probes: str, pause_s: float = 0.0) -> Report:
    command = [sys.executable, "-m", "cvtrace", "run", "--no-summary", "--probes", probes, "--mount", mounted.root]
    command += ["-o", folder / "trace", folder / "reads.py", mounted.root, pause_s]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return analyse(read_trace(folder / "trace"), options=ReportOptions(access_log=mounted.access_log))


@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_prefetches_are_no_fetches_of_the_target_and_counted_as_the_server_counts(
    mounted: LabMount, tmp_path: Path, probes: str
) -> None:
    # GIVEN a cold client that plays 2.14, and a bundle of 19 files of which the script reads 16
    before = len(mounted.gets())
    # WHEN the run is recorded, slow enough that all is there when it is needed
    report = record(mounted, tmp_path, probes, pause_s=0.03)
    # THEN the trace has exactly the GETs of the server's log, and the client counts the same
    gets = len(mounted.gets()) - before
    assert len(report.fetches) == gets == 1 + 1 + len(USED) + len(UNUSED)
    assert all(check.agree for check in report.checks), report.checks
    assert report.access_log is not None
    assert (report.access_log.matched, report.access_log.only_in_log) == (gets, 0)
    # and all but the trigger, which the target opened, were prefetched; those that it read have the path of its file
    prefetched = [fetch for fetch in report.fetches if fetch.prefetch]
    names = [fetch.path.removeprefix(str(mounted.root)) for fetch in prefetched]
    assert sorted(names) == sorted(["", *USED, *[""] * len(UNUSED)])  # of what no request used, no path is recorded
    assert not any(fetch.by_target or fetch.phase for fetch in prefetched)
    assert [fetch.path.rpartition("/")[2] for fetch in report.fetches if not fetch.prefetch] == ["trigger"]
    # and what was of use, and what was not, is as it was
    row = report.prefetching
    assert row is not None
    assert (row.fetches, row.objects, row.bundles) == (gets - 1, len(USED) + len(UNUSED), 1)
    assert (row.used_objects, row.unused_objects) == (len(USED), len(UNUSED))
    assert row.used_bytes == sum(fetch.bytes for fetch in prefetched if fetch.path)
    assert row.used_bytes + row.unused_bytes < row.bytes
    assert row.saves_at_most_s >= len(USED) * 0.02 - row.waited_s
    # and the target waited for its own fetch alone
    assert sum(phase.http_fetches or 0 for phase in report.phases) == 1
    waited_s = sum(phase.network_s for phase in report.phases)
    assert waited_s - row.waited_s < 2 * 0.02 + 0.05
    printed = summary(read_trace(tmp_path / "trace"))
    assert "Prefetched" in printed
    assert "16 used" in printed
    assert "3 for nothing" in printed


def test_a_wait_for_a_prefetch_is_a_wait_for_another_download(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a script that reads on at once / WHEN it is recorded
    report = record(mounted, tmp_path, "ebpf")
    # THEN it awaited prefetches, as network.shared, and no prefetch became its own
    row = report.prefetching
    assert row is not None
    assert row.waited_s > 0
    assert row.waited_s <= sum(phase.classes["network.shared"] for phase in report.phases) + 1e-6
    assert not any(fetch.by_target for fetch in report.fetches if fetch.prefetch)
    assert all(check.agree for check in report.checks)


def test_without_privileges_a_prefetch_is_never_a_yes(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a program that has opened a trigger before it is attached to, and then reads nothing
    script = tmp_path / "idle.py"
    script.write_text("import sys\nfile = open(sys.argv[1] + '/app/trigger')\nprint('ready', flush=True)\ninput()\n")
    slow = Injection(match="*/data/*", first_byte_delay_s=0.5)
    mounted.origin.injections = (slow,)
    try:
        process = subprocess.Popen(
            [sys.executable, script, mounted.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # WHEN it is recorded without single requests while the bundle is being fetched
        command = [sys.executable, "-m", "cvtrace", "attach", process.pid, "--probes", "portable", "--for", "2s"]
        command += ["--no-summary", "-o", tmp_path / "trace"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
        process.communicate("\n", timeout=10)
    finally:
        mounted.origin.injections = ()
    # THEN it fetched meanwhile, and the answer is no yes
    assert done.returncode == 0, done.stderr
    report = analyse(read_trace(tmp_path / "trace"))
    assert report.verdict.answer != "yes"
