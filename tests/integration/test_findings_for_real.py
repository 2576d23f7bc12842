"""Findings and causes on a client whose cache is smaller than what is read, and on one with enough room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE

from cvtrace.analysis import Report, analyse
from cvtrace.lab.stack import Options, Stack, temporary
from cvtrace.tracer.store import read_trace

CHUNK = 1 << 20
SIZE = 12_000_000
QUOTA = 6 << 20
READ_TWICE = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for turn in range(2):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    offset = 0
    while got := os.pread(fd, 1 << 20, offset):
        offset += len(got)
"""
pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=[QUOTA, 4_000_000_000], ids=["small", "large"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Report]]:
    """Record a script that reads the weights twice, and drops their pages before."""
    folder = tmp_path_factory.mktemp("findings")
    (folder / "twice.py").write_text(READ_TWICE)
    options = Options(size_bytes=SIZE, client="lab", chunk_bytes=CHUNK, quota_bytes=request.param)
    with temporary(options) as stack:
        trace = folder / "trace"
        run = ["run", "--no-summary", "--probes", "ebpf", "-o", str(trace), "--mount", str(stack.mountpoint)]
        run += ["--python", sys.executable, str(folder / "twice.py"), str(stack.model / "model.onnx.data")]
        result = subprocess.run([*CVTRACE, *run], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        yield stack, analyse(read_trace(trace))


def test_a_client_cache_smaller_than_the_files_is_reported(traced: tuple[Stack, Report]) -> None:
    stack, report = traced
    data = str(stack.model / "model.onnx.data")
    chunks = [row for row in report.chunks if row.path == data]
    size = Path(data).stat().st_size
    assert len(chunks) == -(-size // CHUNK)
    assert sum(row.size_bytes or 0 for row in chunks) == size

    cache = report.client_cache
    assert cache is not None
    assert cache.quota_bytes == stack.quota_bytes // (1 << 20) * (1 << 20)
    ids = [finding.id for finding in report.findings]
    if stack.quota_bytes > SIZE:
        # GIVEN room for everything THEN each object was fetched once, and nothing says otherwise
        assert {row.fetches for row in chunks} == {1}
        assert (cache.fetched_again, cache.evicted, cache.thrash) == (0, 0, False)
        assert "quota_too_small" not in ids
        return
    # GIVEN less room THEN objects were fetched again, as the client itself counted, and the finding says how much would do
    (downloads,) = (check for check in report.checks if check.name == "http_fetches")
    assert downloads.agree
    assert sum(row.fetches for row in chunks) > len(chunks)
    assert cache.thrash
    assert cache.fetched_again == sum(row.fetches - 1 for row in chunks) == sum(row.evictions for row in chunks)
    assert ids[0] == "quota_too_small"
    assert "the cache may hold 6.29 MB" in report.findings[0].evidence


def test_asked_bytes_of_a_file_read_completely_are_its_size(traced: tuple[Stack, Report]) -> None:
    stack, report = traced
    (file,) = (row for row in report.files if row.path == str(stack.model / "model.onnx.data"))
    size = Path(file.path).stat().st_size
    assert file.asked_bytes is not None
    assert size <= file.asked_bytes < size + 4096
    assert file.read_bytes >= 2 * size
