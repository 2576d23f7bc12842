"""Processes that continue after the started program has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE, RUNGS, options, run, script, succeed, trace_of
from ebpf_recording import of_kind

from cvtrace.probes.events import Kind
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

GOES_ON = """
import os, sys, time
if os.fork():
    time.sleep(0.6)  # the portable probe looks at the processes four times a second
    os._exit(3)
os.setsid()
if os.fork(): os._exit(0)
null = os.open('/dev/null', os.O_RDWR)
for number in range(3): os.dup2(null, number)
open('daemon.pid', 'w').write(str(os.getpid()))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until: time.sleep(0.05)
open(sys.argv[1], 'rb').read()
"""


@pytest.mark.parametrize("probes", RUNGS)
def test_processes_still_running_at_the_end_are_named(workdir: Path, mount: Path, probes: str) -> None:
    # WHEN a script leaves a process behind that reads from the mount later
    result = run(mount, script(GOES_ON), str(mount / "model"), "60", probes=probes)
    daemon_pid = int(Path("daemon.pid").read_text())
    try:
        # THEN the recording ends with the script, and names the process, which goes on
        assert result.returncode == 3, result.stderr
        os.kill(daemon_pid, 0)
        assert "but 1 process that it started still runs (python" in result.stderr
        assert f"pid {daemon_pid})" in result.stderr
        meta = trace_of(result).meta
        assert [item["pid"] for item in meta["still_running"]] == [daemon_pid]
        assert [word for word in meta["missing"] if "--follow-daemons" in word]
    finally:
        os.kill(daemon_pid, signal.SIGKILL)


@pytest.mark.parametrize("probes", ["strace", "ebpf"])
def test_a_remaining_process_is_recorded_to_its_end_on_request(workdir: Path, mount: Path, probes: str) -> None:
    # WHEN
    words = [*options(mount, probes), "--follow-daemons", script(GOES_ON), str(mount / "model"), "1.5"]
    result = subprocess.run([*CVTRACE, "run", *words], check=False, timeout=120)

    # THEN the recording ends with the process, has what it read, and the exit code is the script's
    assert result.returncode == 3
    trace = read_trace("trace")
    daemon_pid = int(Path("daemon.pid").read_text())
    assert "still_running" not in trace.meta
    served = of_kind(trace.events, Kind.FUSE_DAEMON)
    assert ((served["c"] & np.uint64(0xFFFFFFFF)) == daemon_pid).any()


def test_without_remaining_processes_the_recording_ends_at_once(workdir: Path, mount: Path) -> None:
    # WHEN a script waits for what it starts
    began_s = time.monotonic()
    succeed([*CVTRACE, "run", *options(mount, "ebpf"), "--follow-daemons", script("import os; os.system('true')")])
    # THEN nothing is said to go on
    assert "still_running" not in read_trace("trace").meta
    assert time.monotonic() - began_s < 60
