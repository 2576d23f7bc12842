"""Targets in a PID namespace of their own, and cvtrace in one: every number is the kernel's, and nothing is counted twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE, RUNGS, example, options, script, succeed
from ebpf_recording import of_kind
from namespaces import unshare
from tiny import tiny_mount

from cvtrace.analysis import analyse
from cvtrace.lab.stack import Options, Stack, temporary
from cvtrace.probes.cvmfs.mounts import mount_points
from cvtrace.probes.cvmfs.survey import describe
from cvtrace.probes.events import Events, Kind, Opcode
from cvtrace.probes.phases.functions import INDEX
from cvtrace.tracer.store import Trace, read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

TOKENS = 5
OWN_NAMESPACE = ("--pid", "--fork", "--mount-proc")
THREADS = """
import os, sys, threading, time
import cvtrace
def work(name):
    with cvtrace.phase(name):
        with open(sys.argv[1], 'rb') as file: file.read(4096)
        time.sleep(0.2)
threads = [threading.Thread(target=work, args=(name,)) for name in ('one', 'two')]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary(Options(size_bytes=4_000_000, client="lab")) as stack:
        yield stack


def wrapped(wrapper: str) -> list[str]:
    if wrapper == "unshare":
        return unshare(*OWN_NAMESPACE)
    wrap = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc"]
    try:
        works = subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    if not works:
        pytest.skip("bubblewrap is not installed, or is refused here")
    return wrap


def tokens(trace: Trace) -> Events:
    calls = of_kind(trace.events, Kind.PHASE)
    return calls[calls["a"] == INDEX["OgaGenerator_GenerateNextToken"]]


@pytest.mark.parametrize(
    ("wrapper", "probes"), [("bwrap", "ebpf"), *(("unshare", rung) for rung in RUNGS)], ids=lambda item: item
)
def test_tokens_of_a_target_in_a_pid_namespace_are_counted_once(
    workdir: Path, stack: Stack, wrapper: str, probes: str
) -> None:
    # WHEN a model generates in a PID namespace, with the hook and, for eBPF, with the library found while it runs
    succeed(
        [*CVTRACE, "run", *options(stack.mountpoint, probes), "--", *wrapped(wrapper), *example(stack.model, TOKENS)]
    )
    trace = read_trace("trace")

    # THEN each token is there once, and its process is known by its number on the host
    rows = tokens(trace)
    assert len(rows) == TOKENS
    assert int(rows["tgid"][0]) > 2
    report = analyse(trace)
    assert next(phase.count for phase in report.phases if phase.name == "decode") == TOKENS
    if probes == "ebpf":
        assert len(np.unique(of_kind(trace.events, Kind.SYS_READ)["tgid"])) <= 3
        assert int(rows["tgid"][0]) in of_kind(trace.events, Kind.SYS_READ)["tgid"]
        # THEN what the load read is in the load
        load = next(phase for phase in report.phases if phase.name == "load")
        assert load.fuse_requests > 0


@pytest.mark.parametrize("probes", RUNGS)
def test_marks_of_threads_in_a_pid_namespace_have_the_kernels_numbers(workdir: Path, mount: Path, probes: str) -> None:
    # WHEN threads of a process in a PID namespace mark phases
    command = [*unshare(*OWN_NAMESPACE), sys.executable, script(THREADS), str(mount / "model")]
    succeed([*CVTRACE, "run", *options(mount, probes), "--", *command])

    # THEN each mark has the numbers of the thread that read in it
    trace = read_trace("trace")
    marks = of_kind(trace.events, Kind.PHASE)
    marks = marks[marks["a"] == INDEX["cvtrace.phase"]]
    assert len(np.unique(marks["tid"])) == 2
    assert len(np.unique(marks["tgid"])) == 1
    assert (marks["tid"] > 10).all()
    if probes != "portable":
        reads = of_kind(trace.events, Kind.SYS_READ)
        for mark in marks:
            inside = reads[(reads["ts"] >= mark["ts"]) & (reads["ts"] <= mark["ts"] + mark["dur"])]
            assert mark["tid"] in inside["tid"]
    assert sorted(bytes(text) for text in trace.texts["text"][trace.texts["kind"] == Kind.PHASE]) == [b"one", b"two"]


def test_cvtrace_in_a_pid_namespace_records_a_client_outside_of_it(workdir: Path, stack: Stack) -> None:
    # GIVEN
    (client,) = [describe(point).daemon for point in mount_points() if point.path == str(stack.mountpoint)]
    assert client is not None
    # WHEN cvtrace runs in a PID namespace that the client is not in, and may choose its probe
    command = [
        *unshare(*OWN_NAMESPACE),
        *CVTRACE,
        "run",
        *options(stack.mountpoint, "auto"),
        *example(stack.model, TOKENS)[1:],
    ]
    succeed(command)

    # THEN it took eBPF, saw the target, and found the client by its answers
    trace = read_trace("trace")
    assert trace.meta["probe"] == "ebpf"
    assert len(tokens(trace)) == TOKENS
    (mount,) = trace.meta["mounts"]
    assert mount["daemon_pid"] == client.pid
    assert trace.meta["target"]["pid"] == int(tokens(trace)["tgid"][0])
    served = of_kind(trace.events, Kind.FUSE_DAEMON)
    assert set(served["tgid"].tolist()) == {client.pid}
    sends = of_kind(trace.events, Kind.FUSE_SEND)
    of_target = sends[sends["tgid"] == trace.meta["target"]["pid"]]
    assert Opcode.OPEN in (of_target["c"] >> np.uint64(32)).tolist()
    assert set(of_target["a"].tolist()) <= set(served["a"].tolist())
    # THEN that is said, with what it hides
    assert [word for word in trace.meta["missing"] if f"process {client.pid} of the host" in word]
    assert next(phase for phase in analyse(trace).phases if phase.name == "load").fuse_requests > 0


INSIDE = """
import os, subprocess, sys
number, mount, *cvtrace = sys.argv[1:]
reads = "import sys, time\\nprint('ready', flush=True)\\nwhile True: open(sys.argv[1], 'rb').read(1); time.sleep(0.001)"
with open('/proc/sys/kernel/ns_last_pid', 'w') as last: last.write(str(int(number) - 1))
target = subprocess.Popen([sys.executable, '-S', '-c', reads, mount + '/model'], stdout=subprocess.PIPE)
assert target.pid == int(number), target.pid
target.stdout.readline()
done = subprocess.run([*cvtrace, number])
target.kill()
sys.exit(done.returncode)
"""


def test_an_unrelated_process_with_the_targets_number_is_not_recorded(workdir: Path, mount: Path) -> None:
    # GIVEN a busy process on the host
    busy = "while True: open('/etc/passwd').close()"
    with subprocess.Popen([sys.executable, "-S", "-c", busy]) as stranger:
        try:
            # WHEN cvtrace records a process of the same number in a PID namespace
            attach = [*CVTRACE, "attach", "-o", "trace", "--probes", "ebpf", "--mount", str(mount), "--no-summary"]
            attach += ["--for", "1s"]
            succeed([*unshare(*OWN_NAMESPACE), sys.executable, "-c", INSIDE, str(stranger.pid), str(mount), *attach])
        finally:
            stranger.kill()

    # THEN the target was recorded and the stranger was not
    trace = read_trace("trace")
    opens = of_kind(trace.events, Kind.SYS_OPEN)
    assert trace.meta["target"]["pid"] != stranger.pid
    assert set(opens["tgid"].tolist()) == {trace.meta["target"]["pid"]}
    assert not (trace.events["tgid"] == stranger.pid).any()
    assert b"/etc/passwd" not in trace.texts["text"]


def test_a_client_in_a_pid_namespace_is_recorded(workdir: Path, tmp_path: Path) -> None:
    # GIVEN a client that was started in a PID namespace: the headers of its requests have numbers of that
    with tiny_mount(tmp_path, fqrn="inner.test.org", wrapper=tuple(unshare("--pid", "--fork"))) as (inner, _):
        # WHEN a program lists it
        command = [sys.executable, "-c", "import sys; open(sys.argv[1] + '/model').close()", str(inner)]
        succeed([*CVTRACE, "run", *options(inner, "ebpf"), "--", *command])
    # THEN the requests are joined, and the name that it looked up is there
    trace = read_trace("trace")
    sends, served = of_kind(trace.events, Kind.FUSE_SEND), of_kind(trace.events, Kind.FUSE_DAEMON)
    of_target = sends[sends["tgid"] == trace.meta["target"]["pid"]]
    assert len(of_target)
    assert set(of_target["a"].tolist()) <= set(served["a"].tolist())
    assert b"model" in trace.texts["text"][trace.texts["kind"] == Kind.FUSE_DAEMON]
