"""A process that waits for a fetch when the recording begins: what the client counts of that fetch is explained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from lab_mount import lab
from tiny import open_to_all
from waiting import wait_until

from cvtrace.analysis import analyse
from cvtrace.lab.origin import Injection
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

CHUNK = 1_000_003
READS = f"""
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
for chunk in range(2):
    os.pread(descriptor, 4096, chunk * {CHUNK + 50_000})
"""


@pytest.mark.parametrize(
    "slow",
    [{"first_byte_delay_s": 1.8}, {"bandwidth_bytes_per_s": 500_000}],
    ids=["before its first byte", "in its body"],
)
def test_a_fetch_that_was_under_way_is_no_disagreement(tmp_path: Path, slow: dict[str, float]) -> None:
    # GIVEN a process that waits for a chunk that is slow to come
    open_to_all(tmp_path)
    content = {"data": os.urandom(3 * CHUNK)}
    injections = (Injection(match="*P", **slow),)  # type: ignore[arg-type]
    with lab(tmp_path, content, compression="none", injections=injections) as site, site.mount() as mounted:
        command = [sys.executable, "-c", READS, mounted.root / "data"]
        with subprocess.Popen(command) as target:
            wait_until(lambda: mounted.counters()["download.n_requests"] > 4, "the chunk was asked for")

            # WHEN it is attached to, and ends
            trace = tmp_path / "trace"
            attach = [*CVTRACE, "attach", str(target.pid), "--probes", "ebpf", "--no-summary", "-o", str(trace)]
            done = subprocess.run([*attach, "--mount", mounted.root], capture_output=True, text=True, check=False)

    # THEN the bytes of that chunk, which the client counted at its end, are explained
    assert done.returncode == 0, done.stderr
    report = analyse(read_trace(trace))
    checks = {check.name: check for check in report.checks}
    assert checks["http_bytes"].client == (checks["http_fetches"].client or 0) * CHUNK + CHUNK
    assert all(check.agree for check in report.checks), report.checks
    assert "counters_disagree" not in {finding.id for finding in report.findings}
