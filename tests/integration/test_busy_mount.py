"""Another process reads from the mount all the time: the client's counters and the trace still agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from tiny import tiny_mount

pytestmark = pytest.mark.root

READS = """
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print("reading", flush=True)
while True:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.pread(file, 4096, 0)
"""


@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_reads_of_others_at_begin_and_end_do_not_make_the_counters_disagree(tmp_path: Path, probes: str) -> None:
    with tiny_mount(tmp_path) as (mount, _):
        # GIVEN a process that reads again and again
        reader = subprocess.Popen([sys.executable, "-c", READS, mount / "model"], stdout=subprocess.PIPE, text=True)
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
            # WHEN another one is recorded meanwhile
            run = [*CVTRACE, "run", "--probes", probes, "--no-summary", "-o", "trace", "--mount", mount, "--"]
            subprocess.run([*run, "cat", mount / "model"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        finally:
            reader.kill()
            reader.communicate()
    # THEN what is not sure to be in both counts makes no difference between them
    result = subprocess.run(
        [*CVTRACE, "report", tmp_path / "trace", "--format", "json"], check=True, capture_output=True
    )
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["fuse_reads"]["client"] > 10
    assert checks["fuse_reads"]["agree"], checks
    assert checks["opens"]["agree"], checks
