"""A trace has the requests of other users of the same mount, and none of the names that they looked up."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cvtrace_run import CVTRACE
from lab_mount import Lab, LabMount, lab
from throwaway import PYTHON, Somebody
from tiny import open_to_all
from waiting import wait_until

from cvtrace.analysis import analyse
from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

NAMES_OF_BEN = ("thesis-of-ben", "chapter-on-strikes", "not-there-but-wanted")
CHILDREN = 40
"""Processes that live for one path check, while strace still writes of them."""
FILES = {
    "own/weights-of-ann": bytes(range(256)) * 4000,
    "own/shared-by-both": b"both read it" * 1000,
    f"{NAMES_OF_BEN[0]}/{NAMES_OF_BEN[1]}": b"nobody's business" * 50_000,
    **{f"checked/path-{number:02}": b"checked" for number in range(CHILDREN)},
}
READS = """
import os, sys
for folder, names, files in os.walk(sys.argv[1]):
    pass
for round in range(int(sys.argv[2])):
    for name in sys.argv[3:]:
        path = os.path.join(sys.argv[1], name)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        os.read(descriptor, 1 << 20)
        os.close(descriptor)
"""
READS_OWN_FILES = """
import os, sys, time
def wait(path):
    begin = time.monotonic()
    while not os.path.exists(path) and time.monotonic() - begin < 60:
        time.sleep(0.01)
folder, began, first, ended = sys.argv[1:]
open(began, "w").close()
wait(first)
open(os.path.join(folder, "own/weights-of-ann"), "rb").read()
open(os.path.join(folder, "own/shared-by-both"), "rb").read()
open(began + "-reading", "w").close()
wait(ended)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    open_to_all(folder)
    with lab(folder, FILES) as mount:
        yield mount


@pytest.fixture
def cold(site: Lab) -> Iterator[LabMount]:
    """Mount with nothing in the client's cache."""
    shutil.rmtree(site.folder / "cache", ignore_errors=True)
    with site.mount() as mounted:
        yield mounted


def contents(trace: Path) -> bytes:
    """Return every byte of a trace as it is, and those of its Parquet files unpacked, column by column."""
    parts = [path.read_bytes() for path in trace.iterdir()]
    for path in trace.glob("*.parquet"):
        for column in pq.read_table(path).columns:
            for chunk in column.chunks:
                parts += [buffer.to_pybytes() for buffer in chunk.buffers() if buffer is not None]
                if isinstance(chunk, pa.DictionaryArray):
                    parts += [buffer.to_pybytes() for buffer in chunk.dictionary.buffers() if buffer is not None]
    return b"\n".join(parts)


def digests(name: str) -> list[bytes]:
    """Return what a name could be recognised by, hashed."""
    hashed = [hashlib.new(algorithm, name.encode()) for algorithm in ("md5", "sha1", "sha256")]
    return [form for digest in hashed for form in (digest.digest()[:12], digest.hexdigest()[:16].encode())]


@pytest.mark.parametrize("is_first", [True, False], ids=["others-first", "target-first"])
@pytest.mark.parametrize("probes", ["ebpf", "strace", "portable"])
def test_names_looked_up_by_other_users_are_not_in_a_trace(
    cold: LabMount, workdir: Path, ben: Somebody, probes: str, is_first: bool
) -> None:
    """Before: names that anybody looked up on the mount, and paths of what was fetched for them, were in the trace."""
    # GIVEN a target that reads its own files, and another user who lists the mount, reads other files of it and misses one
    marker, first, ended, trace = (workdir / name for name in ("began", "first", "ended", "trace"))
    paths = [f"{NAMES_OF_BEN[0]}/{NAMES_OF_BEN[1]}", f"{NAMES_OF_BEN[0]}/{NAMES_OF_BEN[2]}", "own/shared-by-both"]
    command = [*CVTRACE, "run", "--probes", probes, "--no-summary", "-o", trace, "--mount", cold.root]
    with subprocess.Popen(
        [*command, "--", sys.executable, "-c", READS_OWN_FILES, cold.root, marker, first, ended]
    ) as target:
        wait_until(lambda: marker.exists() or target.poll() is not None, "the target runs")
        if not is_first:
            first.touch()
            wait_until((workdir / "began-reading").exists, "the target has read")
        # WHEN both happens in one recording
        reader = ben.run([PYTHON, "-c", READS, cold.root, "20", *paths])
        first.touch()
        wait_until((workdir / "began-reading").exists, "the target has read")
        ended.touch()
        assert target.wait(60) == 0
    assert reader.returncode == 0, reader.stderr

    # THEN no name of theirs is in it, as it is or hashed
    content = contents(trace)
    for name in NAMES_OF_BEN:
        assert name.encode() not in content, name
        for digest in (*digests(name), *digests(paths[0]), *digests(f"/{paths[0]}")):
            assert digest not in content, name
    if probes == "portable":
        # AND of the mount there are only numbers
        assert set(kinds(trace)) <= {Kind.COUNTER, Kind.PHASE, Kind.PROC_EXEC, Kind.PROC_EXIT, Kind.PROC_FORK}
        return
    # AND the target's own are, also of what both read
    assert b"weights-of-ann" in content
    assert b"shared-by-both" in content
    report = analyse(read_trace(trace))
    rows = {Path(row.path).name: row for row in report.files}
    assert rows["weights-of-ann"].reads
    assert rows["shared-by-both"].opens
    # AND what they did is still told apart from what the target did: the client's counters agree
    assert all(check.agree is not False for check in report.checks), report.checks
    assert report.verdict.generation_hits_cvmfs != "yes"


@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_names_looked_up_by_short_processes_of_the_target_are_in_its_trace(
    cold: LabMount, workdir: Path, probes: str
) -> None:
    """Such a process is gone before strace has told of it: its names must not be taken for somebody else's."""
    # GIVEN a script that checks each path in a process of its own, which does nothing else
    script = 'for path in "$1"/checked/*; do ( [ -e "$path" ] ) || exit 1; done'
    trace = workdir / "trace"
    command = [*CVTRACE, "run", "--probes", probes, "--no-summary", "-o", trace, "--mount", cold.root]

    # WHEN it is recorded
    subprocess.run([*command, "--", "/bin/sh", "-c", script, "sh", cold.root], check=True)

    # THEN each name that the client was asked for is there
    texts = read_trace(trace).texts
    names = {bytes(text) for text in texts["text"][texts["kind"] == Kind.FUSE_DAEMON]}
    assert {f"path-{number:02}".encode() for number in range(CHILDREN)} <= names


def kinds(trace: Path) -> list[Kind]:
    """Return the kinds of a trace's events and texts."""
    trace_ = read_trace(trace)
    return [Kind(kind & ~UNFINISHED) for kind in {*trace_.events["kind"].tolist(), *trace_.texts["kind"].tolist()}]
