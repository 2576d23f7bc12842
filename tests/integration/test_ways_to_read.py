"""Every way in which the kernel lets a program read a file: the wait is for CVMFS, and the bytes are those of the file.

What is right is said by the program (how long it was off the CPU), by the client's counters and by the origin's log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import cvtrace, options
from lab_mount import LabMount, lab
from ways_to_read import AHEAD, APART, CHUNK, OTHER_FILES, WAYS

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.attribution.study import Study, study_of
from cvtrace.analysis.contract.classes import Class
from cvtrace.lab.origin import Injection
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]
SCRIPT = Path(__file__).with_name("ways_to_read.py")
DELAY_S = 0.02
FILES = {"program": b"", "library.so": b"", "script": b"#!/bin/sh\nexit 0\n"}
LAST = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nos.posix_fadvise(fd, int(sys.argv[2]), 400_000, os.POSIX_FADV_WILLNEED)\n"


@dataclass(frozen=True)
class Act:
    """What the program logged of a way."""

    offset: int
    start_ns: int
    end_ns: int
    cpu_s: float
    done: bool


@dataclass(frozen=True)
class Ways:
    """A recording of all ways."""

    study: Study
    report: Report
    acts: dict[str, Act]
    mounted: LabMount

    def classes_s(self, way: str) -> dict[str, float]:
        """Return the seconds of each class of the program's thread in a way."""
        act = self.acts[way]
        start, end = np.array([act.start_ns]), np.array([act.end_ns])
        path = self.study.threads.between(np.array([self.study.recording.target_pid]), start, end)
        spent = np.bincount(path.value, weights=path.length, minlength=len(Class))
        return {class_.label: float(spent[class_]) / 1e9 for class_ in Class}


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("ways")
    (folder / "source").mkdir()
    library = next(Path("/usr/lib").glob("*/libz.so.1*"), Path("/lib64/libz.so.1"))
    files = {**FILES, "program": Path("/bin/true").read_bytes(), "library.so": library.read_bytes()}
    for name in files:  # who is published may be executed
        (folder / "source" / name).touch(0o755)
    with (
        lab(folder, {**files, "data": os.urandom(APART * (len(WAYS) + 2))}, chunk_size=CHUNK) as served,
        served.mount() as mounted,
    ):
        mounted.origin.injections = (Injection(match="*/data/*", first_byte_delay_s=DELAY_S),)
        yield mounted


@pytest.fixture(scope="module")
def ways(mounted: LabMount, tmp_path_factory: pytest.TempPathFactory) -> Ways:
    folder = tmp_path_factory.mktemp("traced")
    log, trace = folder / "log", folder / "trace"
    mounted.drop_caches()
    options = ["--probes", "ebpf", "--no-summary", "-o", trace, "--mount", mounted.root]
    cvtrace("run", *options, "--", sys.executable, SCRIPT, mounted.root, log, *WAYS)
    acts = {name: Act(*more) for name, *more in map(json.loads, log.read_text().splitlines())}
    return Ways(study_of(read_trace(trace)), analyse(read_trace(trace)), acts, mounted)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in AHEAD])
def test_each_way_to_read_waits_for_cvmfs(ways: Ways, way: str) -> None:
    # GIVEN a program that was off the CPU, as it read what the client had to fetch
    act = ways.acts[way]
    if not act.done:
        pytest.skip(f"this kernel does not do {way} on a FUSE mount")
    waited_s = (act.end_ns - act.start_ns) / 1e9 - act.cpu_s
    assert waited_s >= DELAY_S

    # WHEN
    classes = ways.classes_s(way)

    # THEN it waited for the network, and for little else (a CPU, or a program that it started, is its own matter)
    on_cvmfs = sum(spent for name, spent in classes.items() if name.startswith(("network", "cache")))
    # (a worker of the kernel's may send the request while the program still computes, or waits for a CPU)
    computing = classes["compute.cpu"] + classes["compute.wait"]
    assert classes["network.request"] >= 0.9 * DELAY_S - computing
    assert classes["network.request"] >= 0.5 * DELAY_S
    assert on_cvmfs + classes["compute.wait"] >= 0.9 * waited_s, classes
    assert classes["other.io"] + classes["other.idle"] + classes["unattributed"] <= 0.1 * waited_s, classes


@pytest.mark.parametrize("way", [way for way in WAYS if way not in OTHER_FILES])
def test_each_way_to_read_counts_the_bytes_of_the_file(ways: Ways, way: str) -> None:
    # GIVEN a way that reads one chunk THEN READs of the program's brought all of it, and they are of that file
    act, table = ways.acts[way], ways.study.requests
    if not act.done:
        pytest.skip(f"this kernel does not do {way} on a FUSE mount")
    until = table.offset + table.read_bytes
    of_data = table.nodeid == (ways.mounted.root / "data").stat().st_ino
    of_act = table.reads & table.by_target & of_data & (until > act.offset) & (table.offset < act.offset + CHUNK)
    pages = np.zeros(CHUNK // 4096, dtype=bool)
    for begin, end in zip(
        (table.offset[of_act] - act.offset).tolist(), (until[of_act] - act.offset).tolist(), strict=True
    ):
        pages[max(begin, 0) // 4096 : end // 4096] = True
    assert pages.all()
    assert set(ways.study.file_paths.of(table.connection[of_act], table.nodeid[of_act])) == {
        str(ways.mounted.root / "data")
    }
    assert table.sent[of_act].min() >= act.start_ns
    assert table.answered[of_act].all()


def test_a_read_that_does_not_wait_is_short(ways: Ways) -> None:
    for way in AHEAD:
        classes = ways.classes_s(way)
        assert classes["network.request"] <= 0.5 * DELAY_S, (way, classes)


def test_the_reads_of_all_ways_equal_the_counters_of_the_client(ways: Ways) -> None:
    assert [(check.name, check.agree) for check in ways.report.checks if check.agree is not True] == []
    assert ways.report.failures == ()


def test_reads_that_bypass_the_page_cache_have_requests(
    mounted: LabMount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a program that reads a megabyte with O_DIRECT, twice
    monkeypatch.chdir(tmp_path)
    size = 1 << 20
    Path("script.py").write_text(
        "import mmap, os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\n"
        f"for _ in range(2): assert os.preadv(fd, [mmap.mmap(-1, {size})], 0) == {size}\n"
    )

    # WHEN
    cvtrace("run", *options(mounted.root, "ebpf"), "script.py", mounted.root / "data")
    report = analyse(read_trace("trace"))

    # THEN so much was asked for, each byte once; reading it again is no eviction
    (file,) = [row for row in report.files if row.path.endswith("/data")]
    assert file.asked_bytes == size
    assert file.read_bytes == 2 * size
    trace = study_of(read_trace("trace"))
    assert trace.requests.direct[trace.requests.reads & trace.requests.by_target].all()


def test_readahead_in_flight_at_the_end_is_counted_as_by_the_client(
    mounted: LabMount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a program whose last act is to have the kernel read ahead
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text(LAST)
    mounted.origin.injections = (Injection(match="*/data/*", first_byte_delay_s=3.0),)
    mounted.drop_caches()
    before = mounted.counters()["cvmfs.n_fs_read"]

    # WHEN
    cvtrace("run", *options(mounted.root, "ebpf"), "script.py", mounted.root / "data", str(APART * (len(WAYS) + 1)))
    mounted.origin.injections = ()
    report = analyse(read_trace("trace"))

    # THEN the table has as many as the client was asked for, and what had no answer brought nothing
    (row,) = [row for row in report.phases if row.name == "script"]
    assert row.fuse_reads == mounted.counters()["cvmfs.n_fs_read"] - before > 0
    assert {check.name: check.agree for check in report.checks}["fuse_reads"] is True
    assert (row.fuse_read_bytes or 0) < 400_000
