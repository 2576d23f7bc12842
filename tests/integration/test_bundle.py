"""`cvtrace bundle` for real: the bundle of a cold run is published, a client that plays 2.14 prefetches it, and the saving is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_mount import FQRN, Lab, LabMount, lab

from cvtrace.analysis.summary.assemble import analyse
from cvtrace.lab.origin import Injection
from cvtrace.lab.publish import publish
from cvtrace.tracer.store import read_trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs are recorded")]

PARTS = 40
CHUNK = 1_000_000
CHUNKS = 4
DELAY_S = 0.02
FILES = {
    "app/first": b"f" * 10,
    "app/main": b"m" * 20,
    "app/weights": os.urandom(CHUNKS * CHUNK),
    "app/unused": b"u",
    **{f"app/part{number:02d}": os.urandom(20_000) for number in range(PARTS)},
}
USED = ["/app/main", *(f"/app/part{number:02d}" for number in range(PARTS)), "/app/weights"]
SCRIPT = f"""
import sys, time
begin = time.monotonic()
def read(name):
    with open(sys.argv[1] + "/app/" + name, "rb") as file:
        while file.read(1 << 20):
            pass
for name in ("first", "main", *(f"part{{number:02d}}" for number in range({PARTS})), "weights"):
    read(name)
print(time.monotonic() - begin)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    slow = Injection(match="*/data/*", first_byte_delay_s=DELAY_S)
    folder = tmp_path_factory.mktemp("lab")
    with lab(folder, FILES, chunk_size=CHUNK, injections=(slow,)) as served:
        (folder / "reads.py").write_text(SCRIPT)
        yield served


@pytest.fixture(scope="module")
def cold(served: Lab) -> Path:
    """The trace of a run on an empty cache, of a client that knows no bundles."""
    with served.mount(cache=served.folder / "cold") as mounted:
        return record(served, mounted, "cold.trace")


def record(served: Lab, mounted: LabMount, name: str) -> Path:
    list((mounted.root / "app").iterdir())  # the catalog is there
    words = ["run", "--no-summary", "--mount", mounted.root, "-o", served.folder / name]
    done = cvtrace(*words, served.folder / "reads.py", mounted.root)
    assert done.returncode == 0, done.stderr
    (served.folder / f"{name}.seconds").write_text(done.stdout)
    return served.folder / name


def cvtrace(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvtrace", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def described(trace: Path, *words: object) -> dict[str, Any]:
    done = cvtrace("bundle", trace, "--json", "--force", *words)
    assert done.returncode == 0, done.stderr
    description: dict[str, Any] = json.loads(done.stdout)
    return description


def test_a_bundle_lists_what_the_run_used_after_its_trigger(cold: Path, tmp_path: Path) -> None:
    # GIVEN the trace of a cold run / WHEN a bundle is made of it
    done = cvtrace("bundle", cold, "--list", "files", cwd=tmp_path)
    # THEN it lies here under the name that clients look for, and lists the files after the first one of the main folder, in the order of their use
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / ".cvmfsbundle-first").read_text())
    assert document == {"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8", "dependencies": USED}
    mounted = (tmp_path / "files").read_text().splitlines()
    assert [path.partition("/mnt")[2] for path in mounted] == ["/app/first", *USED]
    # and it says where to publish it, what it saves, and what it does not help
    assert f"Publish it as {mounted[0].removesuffix('first')}.cvmfsbundle-first\n" in done.stdout
    assert "Saves: " in done.stdout
    assert f"/app/weights: its {CHUNKS} chunks are fetched one after the other" in done.stdout
    # AND WHEN it is there already / THEN it is replaced only with --force
    again = cvtrace("bundle", cold, cwd=tmp_path)
    assert (again.returncode, "is already there" in again.stderr) == (2, True)
    assert cvtrace("bundle", cold, "--force", cwd=tmp_path).returncode == 0


def test_another_trigger_lists_what_follows_it(cold: Path, tmp_path: Path) -> None:
    # GIVEN a trigger in the middle / WHEN a bundle is made for it / THEN only what follows is listed, and what came before is said
    report = described(cold, "--trigger", "/app/part37", "-o", tmp_path)
    assert report["document"]["dependencies"] == ["/app/part38", "/app/part39", "/app/weights"]
    assert report["file"] == str(tmp_path / ".cvmfsbundle-part37")
    assert any("39 files that the run used before" in sentence for sentence in report["does_not_help"])
    printed = cvtrace("bundle", cold, "--trigger", "/app/part38", "-o", "-")
    assert json.loads(printed.stdout)["dependencies"] == ["/app/part39", "/app/weights"]
    assert "Saves: " in printed.stderr


def test_the_predicted_saving_is_the_measured_one(served: Lab, cold: Path, tmp_path: Path) -> None:
    # GIVEN which share of a cold run at 20 ms its bundle saves, as predicted
    prediction = described(cold, "-o", tmp_path)["prediction"]
    predicted = prediction["saves_s"] / float(cold.with_name("cold.trace.seconds").read_text())
    assert predicted > 0.5
    before = seconds_of_runs(served, tmp_path / "without")
    # WHEN it is published, and clients that play 2.14 run the same on empty caches
    publish(tmp_path / ".cvmfsbundle-first", fqrn=FQRN, store=served.folder / "store", at="/app")
    after = seconds_of_runs(served, tmp_path / "with")
    # THEN they save that share, within a quarter of the run. Other load only ever adds time: the shortest runs are compared
    measured = 1 - min(after) / min(before)
    assert abs(measured - predicted) < 0.25, (before, after, prediction)
    # and another trace of it counts what the server and the client count, with the prefetches
    with served.mount(cache=tmp_path / "traced", like="2.14") as mounted:
        list((mounted.root / "app").iterdir())
        gets = len(mounted.gets())
        report = analyse(read_trace(record(served, mounted, "prefetched.trace")))
        assert len(report.fetches) == len(mounted.gets()) - gets
        assert all(check.agree for check in report.checks)
        assert report.prefetching is not None
        assert report.prefetching.used_objects >= PARTS
        assert report.prefetching.unused_objects == 0
    # and of that trace, no further saving is claimed
    again = described(served.folder / "prefetched.trace", "-o", tmp_path)
    assert again["prediction"]["saves_s"] is None or again["prediction"]["saves_s"] < 3 * DELAY_S


def seconds_of_runs(served: Lab, caches: Path) -> list[float]:
    """Return what the script takes on an empty cache of a client that plays 2.14, five times."""
    times = []
    for number in range(5):
        with served.mount(cache=caches / str(number), like="2.14") as mounted:
            list((mounted.root / "app").iterdir())
            command = [sys.executable, str(served.folder / "reads.py"), str(mounted.root)]
            times.append(float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout))
    return times


def test_a_trace_without_requests_is_refused(served: Lab, tmp_path: Path) -> None:
    # GIVEN a trace without privileges / WHEN a bundle is made of it / THEN one sentence says how to record one that has the files
    with served.mount(cache=served.folder / "cold") as mounted:
        words = ["run", "--no-summary", "--probes", "portable", "--mount", mounted.root, "-o", tmp_path / "trace"]
        assert cvtrace(*words, served.folder / "reads.py", mounted.root).returncode == 0
    done = cvtrace("bundle", tmp_path / "trace", cwd=tmp_path)
    assert done.returncode == 2
    assert "the portable probe records no files: record the run with eBPF or strace (as root)" in done.stderr


def test_files_that_are_gone_are_left_out_and_said(served: Lab, cold: Path, tmp_path: Path) -> None:
    # GIVEN a revision without two files that the run used
    folder = tmp_path / "app"
    folder.mkdir()
    for name, content in FILES.items():
        if not name.endswith(("part00", "part01")):
            (tmp_path / name).write_bytes(content)
    publish(folder, fqrn=FQRN, store=served.folder / "store", at="/app", chunk_size=CHUNK)
    with served.mount(cache=tmp_path / "cache"):
        # WHEN a bundle is made of the trace
        done = cvtrace("bundle", cold, "-o", tmp_path / "out")
    # THEN it is made without them
    assert done.returncode == 0, done.stderr
    assert "left out: 2 of the files, such as /app/part00, are not in the repository any more" in done.stderr
    listed = json.loads((tmp_path / "out").read_text())["dependencies"]
    assert listed == [path for path in USED if not path.endswith(("part00", "part01"))]
