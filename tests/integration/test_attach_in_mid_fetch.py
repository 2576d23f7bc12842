"""A recording that begins while the process waits for a fetch: the check of the client's counters allows for that fetch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def attach(pid: int, mount: Path, trace: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Record a process."""
    words = [*CVTRACE, "attach", str(pid), "--probes", "ebpf", "--no-summary", "-o", str(trace), "--mount", str(mount)]
    return subprocess.run([*words, *more], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("moment", ["before its first byte", "in its body"])
def test_a_fetch_in_flight_at_the_begin_does_not_make_the_counters_disagree(tmp_path: Path, moment: str) -> None:
    # GIVEN a process that waits for a chunk, for which it has to wait longer than an attach takes on this machine at present
    open_to_all(tmp_path)
    content = {"data": os.urandom(3 * CHUNK)}
    with lab(tmp_path, content, compression="none") as site, site.mount(timeout_s=120) as mounted:
        began_s = time.monotonic()
        assert attach(os.getpid(), mounted.root, tmp_path / "first", "--for", "0.1s").returncode == 0
        slow_s = 2 * (time.monotonic() - began_s)
        slow = (
            {"first_byte_delay_s": slow_s}
            if moment == "before its first byte"
            else {"bandwidth_bytes_per_s": CHUNK / slow_s}
        )
        site.origin.injections = (Injection(match="*P", **slow),)  # type: ignore[arg-type]
        command = [sys.executable, "-c", READS, mounted.root / "data"]
        with subprocess.Popen(command) as target:
            wait_until(lambda: mounted.counters()["download.n_requests"] > 4, "the chunk was asked for")

            # WHEN it is attached to, and ends
            trace = tmp_path / "trace"
            result = attach(target.pid, mounted.root, trace)

    # THEN the bytes of that chunk, which the client counted at its end, are explained
    assert result.returncode == 0, result.stderr
    report = analyse(read_trace(trace))
    checks = {check.name: check for check in report.checks}
    assert checks["http_bytes"].client == (checks["http_fetches"].client or 0) * CHUNK + CHUNK
    assert all(check.agree for check in report.checks), report.checks
    assert "counters_disagree" not in {finding.id for finding in report.findings}
