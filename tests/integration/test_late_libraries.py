"""Calls of the GenAI library are recorded from the first one on: in a chroot, behind a wrapper, and in a call in progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE, example, options, succeed
from ebpf_recording import of_kind
from namespaces import unshare
from waiting import wait_until

from cvtrace.analysis import analyse
from cvtrace.lab.stack import Options, Stack, temporary
from cvtrace.probes.cvmfs.mounts import mount_points
from cvtrace.probes.cvmfs.survey import describe
from cvtrace.probes.events import Events, Kind
from cvtrace.probes.phases.functions import FUNCTIONS, INDEX
from cvtrace.probes.phases.library import find_libraries
from cvtrace.tracer.store import Trace, read_trace

LIBRARIES = find_libraries(sys.executable, {})
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
    pytest.mark.skipif(not LIBRARIES, reason="needs onnxruntime-genai"),
]
TOKENS = 3
IN_CHROOT = """
root=$1; shift
for folder in /*; do
  if [ -L "$folder" ]; then cp -P "$folder" "$root$folder"
  elif [ -d "$folder" ]; then mkdir -p "$root$folder"; mount --rbind "$folder" "$root$folder"; fi
done
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin ORT_DISABLE_TELEMETRY=1 "$@"
"""
LOADS = """
import sys, onnxruntime_genai as og
print('ready', flush=True)
sys.stdin.readline()
model = og.Model(sys.argv[1])
print('loaded', flush=True)
sys.stdin.readline()
og.Tokenizer(model)
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        yield stack


def calls(trace: Trace, symbol: str) -> Events:
    phases = of_kind(trace.events, Kind.PHASE)
    return phases[phases["a"] == INDEX[symbol]]


@pytest.mark.parametrize("wrapper", ["shell", "chroot"])
def test_the_first_calls_behind_a_wrapper_are_marked(workdir: Path, stack: Stack, wrapper: str) -> None:
    # GIVEN an interpreter that is not named on the command line, in an environment without the hook
    words = example(stack.model, TOKENS)
    if wrapper == "shell":
        command = ["env", "-i", "PATH=/usr/bin:/bin", "ORT_DISABLE_TELEMETRY=1", "sh", "-c", '"$@"; true', "sh", *words]
    else:
        (workdir / "root").mkdir()
        command = [*unshare("--mount", "--propagation", "private"), "sh", "-ec", IN_CHROOT, "sh", str(workdir / "root")]
        command += words
    # WHEN
    succeed([*CVTRACE, "run", *options(stack.mountpoint, "ebpf"), "--", *command])

    # THEN every call is there, from the first on, and the load is no import
    trace = read_trace("trace")
    assert [len(calls(trace, name)) for name in ("OgaCreateConfig", "OgaCreateModelFromConfig")] == [1, 1]
    assert len(calls(trace, "OgaGenerator_GenerateNextToken")) == TOKENS
    assert trace.meta["missing"] == []
    load = next(phase for phase in analyse(trace).phases if phase.name == "load")
    assert load.fuse_requests > 0


def test_a_recording_that_begins_in_the_middle_of_a_load(workdir: Path, stack: Stack) -> None:
    # GIVEN a program that loads a model, and a client that is stopped meanwhile
    (client,) = [describe(point).daemon for point in mount_points() if point.path == str(stack.mountpoint)]
    assert client is not None
    for path in stack.model.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    target = subprocess.Popen(
        [sys.executable, "-c", LOADS, str(stack.model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert target.stdin is not None
    assert target.stdout is not None
    assert target.stdout.readline() == "ready\n"
    os.kill(client.pid, signal.SIGSTOP)
    recorder = None
    try:
        target.stdin.write("\n")
        target.stdin.flush()
        wait_until(lambda: waits(target.pid), "the load waits for the client")
        # WHEN a recording begins
        words = ["-o", "trace", "--probes", "ebpf", "--mount", str(stack.mountpoint), "--no-summary", str(target.pid)]
        recorder = subprocess.Popen([*CVTRACE, "attach", *words])
        wait_until(lambda: recording_began(workdir / "trace"), "the recording has begun", 60)
        os.kill(client.pid, signal.SIGCONT)
        assert target.stdout.readline() == "loaded\n"
        target.communicate("\n", timeout=120)
        assert recorder.wait(60) == 0
    finally:
        os.kill(client.pid, signal.SIGCONT)
        for process in (target, recorder):
            if process is not None:
                process.kill()
                process.wait()

    # THEN the load is there from the begin of the recording on, until the call returned, and what it read is in it
    trace = read_trace("trace")
    (load,) = loads(trace)
    assert abs(int(load["ts"]) - trace.meta["clock"]["start_ns"]) < 1e9
    assert (int(load["ret"]), int(load["tgid"])) == (0, target.pid)
    (tokenizer,) = calls(trace, "OgaCreateTokenizer")
    assert int(load["ts"] + load["dur"]) < int(tokenizer["ts"])
    served = of_kind(trace.events, Kind.FUSE_DAEMON)
    reads = served[served["c"] >> np.uint64(32) == 15]
    assert ((reads["ts"] >= load["ts"]) & (reads["ts"] <= load["ts"] + load["dur"])).any()
    # THEN that is said
    assert [word for word in trace.meta["missing"] if "in the middle of a load" in word]


def loads(trace: Trace) -> Events:
    """Return the calls that load a model. What is found on a stack may be the function by which OgaCreateModel does it."""
    phases = of_kind(trace.events, Kind.PHASE)
    return phases[np.isin(phases["a"], [function.index for function in FUNCTIONS if function.phase == "load"])]


def waits(pid: int) -> bool:
    """Whether a process waits for a file that is not there yet."""
    return (
        Path(f"/proc/{pid}/wchan").read_text() in ("request_wait_answer", "folio_wait_bit_common")
        or "D" in (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    )


def recording_began(trace: Path) -> bool:
    meta = trace / "meta.json"
    return meta.exists() and json.loads(meta.read_text())["probe"] is not None
