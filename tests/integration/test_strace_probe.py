"""The strace probe on real programs and on a real FUSE mount, against what client, web server and program say themselves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from lab_mount import LabMount, lab
from unprivileged import NOBODY
from waiting import wait_until

from cvtrace.probes.events import UNFINISHED, Events, Kind, Opcode, Texts
from cvtrace.probes.probe import CannotObserve, Daemon, Scope
from cvtrace.probes.strace import processes
from cvtrace.probes.strace.probe import StraceProbe

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

EMPTY_SCOPE = Scope((), ())
OBJECT = re.compile(rb"\./[0-9a-f]{2}/[0-9a-f]{38}")


@pytest.fixture
def probe() -> Iterator[StraceProbe]:
    probe = StraceProbe()
    yield probe
    probe.stop()


@dataclass
class Recording:
    """What a probe gave, drained as a recorder does."""

    probe: StraceProbe
    parts: list[tuple[Events, Texts]] = field(default_factory=list)

    def drain(self) -> None:
        self.parts.append(self.probe.drain())

    def until(self, condition: Callable[[], bool], condition_name: str) -> None:
        def drained() -> bool:
            self.drain()
            return condition()

        wait_until(drained, condition_name)

    def stop(self) -> None:
        self.probe.stop()
        self.drain()

    @property
    def events(self) -> Events:
        return np.concatenate([events for events, _ in self.parts])

    @property
    def texts(self) -> Texts:
        return np.concatenate([texts for _, texts in self.parts])

    def of(self, kind: Kind) -> Events:
        events = self.events
        selected: Events = events[events["kind"] == kind]
        return selected

    def with_text(self, kind: Kind) -> list[tuple[bytes, int]]:
        named = {(row["ts"], row["tid"]): bytes(row["text"]) for row in self.texts if row["kind"] == kind}
        return [(named[row["ts"], row["tid"]], int(row["ret"])) for row in self.of(kind)]


def run(probe: StraceProbe, argv: list[str], **options: object) -> tuple[int, Recording]:
    """Run a command under a started probe to its end."""
    process = subprocess.Popen(probe.command(argv), **options)  # type: ignore[call-overload]
    probe.add_target(process.pid)
    recording = Recording(probe)
    recording.until(lambda: process.poll() is not None, "the target ends")
    recording.stop()
    return int(process.returncode), recording


# The target


def test_a_target_keeps_exit_code_parent_and_terminal(probe: StraceProbe, tmp_path: Path) -> None:
    # GIVEN a script that tells who it is, reads stdin and exits with 7
    script = "import os, sys; print(os.getpid(), os.getppid(), os.getpgid(0), input()); sys.exit(7)"
    probe.start(EMPTY_SCOPE)
    # WHEN it runs under the probe
    argv = probe.command([sys.executable, "-c", script])
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    probe.add_target(process.pid)
    out, err = process.communicate("hello\n", timeout=120)
    recording = Recording(probe)
    recording.stop()
    # THEN it is our own child, in our process group, and strace is not to be heard
    assert out.split() == [str(process.pid), str(os.getpid()), str(os.getpgid(0)), "hello"]
    assert (process.returncode, err) == (7, "")
    ended = recording.of(Kind.PROC_EXIT)
    assert ended[ended["tid"] == process.pid]["ret"].tolist() == [7]


def test_a_signal_reaches_the_target_and_not_strace(probe: StraceProbe) -> None:
    # GIVEN a script that ends by SIGTERM
    probe.start(EMPTY_SCOPE)
    process = subprocess.Popen(probe.command(["sleep", "60"]))
    probe.add_target(process.pid)
    recording = Recording(probe)
    recording.until(lambda: Kind.PROC_EXEC in recording.events["kind"], "the target has started")
    # WHEN it gets one
    process.send_signal(signal.SIGTERM)
    recording.until(lambda: process.poll() is not None, "the target ends")
    recording.stop()
    # THEN it died of it, and the trace says so
    assert process.returncode == -signal.SIGTERM
    assert recording.of(Kind.PROC_EXIT)["ret"].tolist() == [128 + signal.SIGTERM]


def test_opens_and_reads_of_a_target_are_exact(probe: StraceProbe, tmp_path: Path) -> None:
    # GIVEN a script that reads a file in 1,000 pieces, in a thread and in a child of its own
    path = tmp_path / 'a "file" with 5 = 5 <0.1>'
    path.write_bytes(b"x" * 1000)
    script = (
        "import os, sys, threading\n"
        "def work():\n"
        "    fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "    while os.read(fd, 1): pass\n"
        "    os.pread(fd, 10, 990)\n"
        "    os.close(fd)\n"
        "t = threading.Thread(target=work); t.start(); t.join()\n"
        "pid = os.fork()\n"
        "if pid == 0: work(); os._exit(3)\n"
        "os.waitpid(pid, 0)\n"
    )
    before = time.monotonic_ns()
    probe.start(EMPTY_SCOPE)
    # WHEN it runs
    code, recording = run(probe, [sys.executable, "-c", script, str(path)])
    after = time.monotonic_ns()
    # THEN every call is there once, with its numbers, at its time, in its process
    assert code == 0
    assert probe.losses().total == 0
    opened = [(text, ret) for text, ret in recording.with_text(Kind.SYS_OPEN) if text == os.fsencode(path)]
    assert len(opened) == 2
    reads = recording.of(Kind.SYS_READ)
    assert ((reads["c"] == 1) & (reads["ret"] == 1)).sum() == 2000
    ends = reads[(reads["c"] == 10) & (reads["b"] == 990)]
    assert ends["ret"].tolist() == [10, 10]
    assert len(set(ends["tgid"].tolist())) == 2
    forks = recording.of(Kind.PROC_FORK)
    assert (forks["a"] != forks["b"]).sum() == 1
    times = recording.events["ts"].astype(np.int64)
    assert before - 1_000_000 <= times.min()
    assert times.max() <= after + 1_000_000


def test_a_released_target_continues(probe: StraceProbe) -> None:
    # GIVEN a target that waits in a read for its stdin
    probe.start(EMPTY_SCOPE)
    process = subprocess.Popen(probe.command(["cat"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    probe.add_target(process.pid)
    process.stdin.write(b"hello\n")
    assert process.stdout.read(6) == b"hello\n"
    wait_until(lambda: processes.status_field(process.pid, "State").startswith("S"), "the target reads again")
    # WHEN the probe stops
    recording = Recording(probe)
    recording.stop()
    # THEN the target is untraced and works, and its open call is flagged
    assert processes.tracer_of(process.pid) == 0
    assert not processes.is_stopped(process.pid)
    out, _ = process.communicate(b"still here", timeout=30)
    assert (out, process.returncode) == (b"still here", 0)
    assert (recording.events["kind"] == Kind.SYS_READ | UNFINISHED).sum() == 1


def test_strace_attaches_to_a_running_process_and_releases_it(probe: StraceProbe) -> None:
    # GIVEN a process that reads and another thread that sleeps
    script = (
        "import os, threading, time\n"
        "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
        "fd = os.open('/dev/zero', os.O_RDONLY)\n"
        "while True: os.read(fd, 123); time.sleep(0.01)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(lambda: len(processes.task_ids(process.pid)) == 2, "the process has started")
        # WHEN the probe attaches for a while
        probe.start(EMPTY_SCOPE)
        probe.add_target(process.pid)
        recording = Recording(probe)
        recording.until(lambda: (recording.of(Kind.SYS_READ)["c"] == 123).sum() >= 10, "reads are seen")
        recording.stop()
        # THEN both threads are of that process, the sleeper is flagged, and the process runs on, untraced
        assert set(recording.events["tgid"].tolist()) == {process.pid}
        assert (recording.events["kind"] == Kind.SYS_WAIT | UNFINISHED).any()
        assert process.poll() is None
        assert processes.tracer_of(process.pid) == 0
        assert not processes.is_stopped(process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.mark.root
def test_a_target_of_another_user_runs_with_its_ids() -> None:
    # GIVEN a probe of root, and a target that is to run as somebody else
    probe = StraceProbe(owner=(NOBODY, NOBODY))
    probe.start(EMPTY_SCOPE)
    # WHEN the target becomes that user before it becomes strace
    code, recording = run(
        probe,
        ["/bin/sh", "-c", "id -u; exit 5"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        stdout=subprocess.PIPE,
        cwd="/",
    )
    # THEN its calls are seen
    assert code == 5
    assert b"/bin/sh" in {text for text, _ in recording.with_text(Kind.PROC_EXEC)}
    assert recording.of(Kind.PROC_EXIT)["ret"].max() == 5


def test_strace_leaves_no_process_and_no_file(
    probe: StraceProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    probe.start(EMPTY_SCOPE)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    code, _ = run(probe, ["true"])
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) < descriptors
    assert len(probe.drain()[0]) == 0


# What cannot be observed


def test_without_strace_the_error_is_one_sentence(probe: StraceProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CannotObserve, match="strace is not installed: apt install strace"):
        probe.start(EMPTY_SCOPE)


def test_a_daemon_that_has_ended_is_refused(probe: StraceProbe) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(CannotObserve, match=f"process {process.pid} is not running"):
        probe.start(Scope((Daemon(process.pid),), ()))


def test_a_daemon_that_is_already_traced_is_refused(probe: StraceProbe) -> None:
    process = subprocess.Popen(["sleep", "60"])
    second_probe = StraceProbe()
    try:
        second_probe.start(Scope((Daemon(process.pid),), ()))
        with pytest.raises(CannotObserve, match="already traced by process"):
            probe.start(Scope((Daemon(process.pid),), ()))
    finally:
        second_probe.stop()
        process.kill()
        process.wait()


@pytest.mark.root
def test_a_daemon_of_another_user_is_refused() -> None:
    # GIVEN a process of root WHEN an unprivileged user would trace it THEN one sentence says how to mend that
    process = subprocess.Popen(["sleep", "60"])
    script = (
        "import os, sys; from cvtrace.probes.probe import *; from cvtrace.probes.strace.probe import StraceProbe\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"try: StraceProbe().start(Scope((Daemon({process.pid}),), ()))\n"
        "except CannotObserve as refusal: print(refusal)\n"
    )
    try:
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
        )
        assert result.stdout.startswith(f"strace is not allowed to attach to process {process.pid}: run with sudo"), (
            result.stderr
        )
    finally:
        process.kill()
        process.wait()


# The daemon

SIZE = 3_000_000
FILES = {
    "models/config.json": b"{}" * 700,
    "models/chunked.bin": bytes(np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)),
}
READER = "import sys\nfor path in sys.argv[1:]: open(path, 'rb').read()\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[LabMount]:
    with lab(tmp_path, FILES) as served, served.mount() as mounted:
        yield mounted


def observe(mounted: LabMount, argv: list[str]) -> tuple[Recording, dict[str, int]]:
    """Run a command under the probe; return what it saw and by how much the client's counters grew."""
    probe = StraceProbe()
    try:
        probe.start(Scope((Daemon(mounted.mounted.pid),), (mounted.root.stat().st_dev,)))
        before = mounted.counters()
        code, recording = run(probe, argv)
        assert code == 0
        after = mounted.counters()
    finally:
        probe.stop()
    assert probe.losses().total == 0
    return recording, {name: value - before.get(name, 0) for name, value in after.items()}


@pytest.mark.root
def test_events_equal_the_counts_of_client_and_server(mounted: LabMount) -> None:
    argv = [sys.executable, "-c", READER, *(str(mounted.root / name) for name in FILES)]
    for state in ("cold", "warm", "hot"):
        # GIVEN the caches in this state
        if state == "warm":
            mounted.drop_caches()
        gets_before = len(mounted.gets())
        # WHEN the files are read under the probe
        recording, grown = observe(mounted, argv)
        # THEN requests, opens, misses and fetches agree with all who counted them
        gets = mounted.gets()[gets_before:]
        reads, requests = recording.of(Kind.FUSE_READ), recording.of(Kind.FUSE_DAEMON)
        assert len(reads) == grown["cvmfs.n_fs_read"], state
        opens = requests[requests["c"] >> np.uint64(32) == Opcode.OPEN]
        assert len(opens) == grown["cvmfs.n_fs_open"] == len(FILES), state
        paths = [text.split()[1].decode() for text, _ in recording.with_text(Kind.HTTP_SEND)]
        assert paths == [entry.path for entry in gets], state
        missed = {t for t, ret in recording.with_text(Kind.CACHE_OPEN) if ret == -2 and OBJECT.fullmatch(t)}
        assert len(missed) == grown["fetch.n_downloads"] == len(gets), state
        lengths = [
            int(line.split(b":")[1])
            for text in recording.texts["text"][recording.texts["kind"] == Kind.HTTP_RECV].tolist()
            for line in text.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ]
        assert lengths == [entry.body_bytes for entry in gets], state
        replies = recording.of(Kind.FUSE_REPLY)
        answers = replies[np.isin(replies["a"], reads["a"])]
        payload = (answers["b"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - 16
        # (Whoever drops the page cache of the machine meanwhile makes it more.)
        assert payload.sum() >= (0 if state == "hot" else sum(map(len, FILES.values()))), state
        assert (payload.sum() == 0) == (grown["cvmfs.n_fs_read"] == 0), state
        # AND each request names the thread of the target that asked
        target = set(recording.of(Kind.SYS_READ)["tid"].tolist())
        assert {int(c) & 0xFFFFFFFF for c in opens["c"]} <= target, state
        assert len(paths) == (4 if state == "cold" else 0), state


@pytest.mark.root
def test_the_daemon_continues_untraced(mounted: LabMount) -> None:
    pid = mounted.mounted.pid
    threads = set(processes.task_ids(pid))
    observe(mounted, ["true"])
    assert threads <= set(processes.task_ids(pid))
    assert all(processes.tracer_of(tid) == 0 for tid in processes.task_ids(pid))
    assert not processes.is_stopped(pid)
    assert (mounted.root / "models/config.json").read_bytes() == FILES["models/config.json"]


@pytest.mark.root
def test_a_recorder_that_is_killed_leaves_the_daemon_as_it_was(mounted: LabMount) -> None:
    # GIVEN a recorder that traces the daemon
    pid = mounted.mounted.pid
    script = (
        "import time; from cvtrace.probes.probe import *; from cvtrace.probes.strace.probe import StraceProbe\n"
        f"StraceProbe().start(Scope((Daemon({pid}),), ())); print('attached', flush=True); time.sleep(100)\n"
    )
    recorder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == b"attached\n"
    # WHEN it is killed THEN its strace lets go as soon as the daemon does anything
    recorder.kill()
    recorder.wait()
    recorder.stdout.close()

    def let_go() -> bool:
        mounted.counters()
        return processes.tracer_of(pid) == 0

    wait_until(let_go, "strace detaches")
    assert not processes.is_stopped(pid)


def test_a_process_that_has_ended_is_left_to_the_targets_log(probe: StraceProbe) -> None:
    # GIVEN a process that has ended and has no tracer any more, as one of the target's has before its parent waits, and one that runs
    ended, running = subprocess.Popen(["true"]), subprocess.Popen(["sleep", "60"])
    try:
        wait_until(lambda: not processes.is_running(ended.pid), "the process has ended")
        # THEN the log of the target decides about the first, and the second is not the target's
        assert probe._is_target(ended.pid, 0) is None
        assert probe._is_target(running.pid, 0) is False
    finally:
        running.kill()
        running.wait()
        ended.wait()
