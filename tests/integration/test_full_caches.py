"""A client that cannot keep what it fetches: the file system of its cache is full, or one object is above half of its quota."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from lab_mount import LabMount, lab

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report.failed import sentences
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file system is mounted for the cache"),
]
SIZE = 3_000_000
READS_ALL = "import sys\nopen(sys.argv[1], 'rb').read()\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder for a cache on a file system that is smaller than the files."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def recorded(mount: LabMount, folder: Path) -> Report:
    """Record a program that reads a file and fails."""
    (folder / "script.py").write_text(READS_ALL)
    run = ["run", "--no-summary", "--probes", "ebpf", "-o", str(folder / "trace"), "--mount", str(mount.root)]
    command = [*CVTRACE, *run, str(folder / "script.py"), str(mount.root / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    return analyse(read_trace(folder / "trace"))


@pytest.mark.parametrize("chunk", [1_000_000, 4_000_000], ids=["chunked", "whole"])
def test_a_full_disk_of_the_cache_is_no_error_of_the_server(tmp_path: Path, small_disk: Path, chunk: int) -> None:
    # GIVEN a file that does not fit onto the disk of the cache
    files = {"data": os.urandom(SIZE)}
    with lab(tmp_path, files, chunk_size=chunk) as served, served.mount(cache=small_disk, retries=2) as mount:
        report = recorded(mount, tmp_path)
        statuses = {entry.status for entry in mount.gets()}
    # THEN the first line says that the cache could not be written, and the server, which sent what it was asked for, is not blamed
    assert report.failures[0].error == "EIO"
    assert "the cache could not be written" in sentences(report)[0]
    assert statuses == {200}
    findings = {finding.id: finding for finding in report.findings}
    assert "cache_not_written" in findings
    assert "CVMFS_QUOTA_LIMIT" in findings["cache_not_written"].advice
    assert not findings.keys() & {"server_errors", "back_off"}


def test_an_object_above_half_of_the_quota_is_named_with_both_remedies(tmp_path: Path) -> None:
    # GIVEN a file of one object, and a quota of less than twice its size
    files = {"data": os.urandom(SIZE)}
    with lab(tmp_path, files, chunk_size=2 * SIZE) as served, served.mount(quota_bytes=5 << 20) as mount:
        report = recorded(mount, tmp_path)
    # THEN the open failed for that, and the finding names file, quota and both remedies
    assert (report.failures[0].what, report.failures[0].error) == ("open", "ENOSPC")
    first = report.findings[0]
    assert first.id == "object_above_half_of_quota"
    assert str(mount.root / "data") in first.evidence
    assert "its quota of 5.24 MB" in first.evidence
    assert "CVMFS_QUOTA_LIMIT" in first.advice
    assert "publish it in chunks" in first.advice
