"""The eBPF probe in the running kernel, on programs whose behaviour is known exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ebpf_recording import of_kind, record
from waiting import wait_until

from cvtrace.probes.ebpf.in_flight import in_flight_calls
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.probes.probe import CannotObserve, Scope

pytestmark = pytest.mark.root


@pytest.fixture
def probe() -> Iterator[EbpfProbe]:
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(), devices=()))
    except CannotObserve as reason:
        pytest.skip(str(reason))
    yield probe
    probe.stop()


def test_every_read_of_a_loop_is_recorded(probe: EbpfProbe) -> None:
    # GIVEN a program that reads 200,000 single bytes from a descriptor it alone uses
    count = 200_000
    program = (
        f"import os\nfd = os.dup2(os.open('/dev/zero', os.O_RDONLY), 200)\nfor _ in range({count}): os.read(fd, 1)"
    )

    # WHEN
    pid, events, _ = record(probe, program)

    # THEN each call is there, with its result, and nothing was lost
    reads = of_kind(events, Kind.SYS_READ)
    reads = reads[reads["a"] == 200]
    assert len(reads) == count
    assert (reads["ret"] == 1).all()
    assert (reads["tgid"] == pid).all()
    assert (np.diff(np.sort(reads["ts"]).astype(np.int64)) > 0).all()
    assert probe.losses().total == 0


def test_paths_are_as_the_program_gave_them(probe: EbpfProbe, tmp_path: Path) -> None:
    # GIVEN a file with a long name
    path = tmp_path / ("n" * 200)
    path.write_text("x")

    # WHEN
    _, events, texts = record(probe, "import sys; open(sys.argv[1])", str(path))

    # THEN the open has that text
    named = texts[texts["text"] == os.fsencode(path)]
    assert len(named) == 1
    opened = events[(events["ts"] == named["ts"][0]) & (events["tid"] == named["tid"][0])]
    assert opened["kind"][0] == Kind.SYS_OPEN
    assert opened["ret"][0] >= 0


def test_a_text_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    # GIVEN a ring of a few texts that goes round and round, and names that are long and short in turns
    probe = EbpfProbe(buffer_bytes=64 << 10)
    probe.start(Scope(daemons=(), devices=()))
    program = (
        "import os, time\n"
        "for n in range(90):\n"
        "    try: os.open('/secret-' + 's' * 200 if n % 2 else '/short', 0)\n"
        "    except OSError: time.sleep(0.02)"
    )

    # WHEN
    _, _, texts = record(probe, program)

    # THEN
    assert {b"/short", b"/secret-" + b"s" * 200} <= set(texts["text"].tolist())
    assert [text for text in texts["text"].tolist() if b"\0" in text] == []


def test_children_and_threads_are_followed(probe: EbpfProbe) -> None:
    # GIVEN a program with a thread, a forked child and a child that execs
    program = (
        "import os, subprocess, sys, threading\n"
        "def read(fd): os.read(os.dup2(os.open('/dev/zero', os.O_RDONLY), fd), 1)\n"
        "t = threading.Thread(target=read, args=(201,)); t.start(); t.join()\n"
        "pid = os.fork()\n"
        "if pid == 0: read(202); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "subprocess.run([sys.executable, '-S', '-c', 'import os; "
        'os.read(os.dup2(os.open("/dev/zero", os.O_RDONLY), 203), 1)\'])'
    )

    # WHEN
    pid, events, _ = record(probe, program)

    # THEN the reads are told, each by its own process and thread
    reads = of_kind(events, Kind.SYS_READ)
    thread, forked, execed = (reads[reads["a"] == fd] for fd in (201, 202, 203))
    assert thread["tgid"].tolist() == [pid]
    assert thread["tid"][0] != pid
    assert len({pid, int(forked["tgid"][0]), int(execed["tgid"][0])}) == 3
    assert len(of_kind(events, Kind.PROC_EXEC)) == 2


def test_time_off_the_cpu_names_who_ended_it(probe: EbpfProbe) -> None:
    # GIVEN a thread that waits for another, which sleeps first
    program = (
        "import os, threading, time\n"
        "r, w = os.pipe()\n"
        "def wake(): time.sleep(0.2); os.write(w, b'x')\n"
        "threading.Thread(target=wake).start()\n"
        "os.read(r, 1)"
    )

    # WHEN
    pid, events, _ = record(probe, program)

    # THEN the main thread was off for most of that time, woken by the other thread
    away = of_kind(events, Kind.OFFCPU)
    longest = away[away["tid"] == pid][np.argmax(away[away["tid"] == pid]["dur"])]
    assert longest["dur"] > 100_000_000
    assert longest["c"] == 1
    assert longest["ts"] < longest["a"] <= longest["ts"] + longest["dur"]
    waker = int(longest["b"])
    assert waker != pid
    assert waker in set(events[events["tgid"] == pid]["tid"].tolist())


def test_a_call_that_is_open_at_the_end_is_reported_as_unfinished(probe: EbpfProbe) -> None:
    # GIVEN a program that blocks for good
    program = "import os\nr, w = os.pipe()\nos.read(os.dup2(r, 204), 1)"

    # WHEN the recording stops while it is blocked
    pid, events, _ = record(probe, program, kill_after=1.0)

    # THEN
    open_reads = events[events["kind"] == Kind.SYS_READ | UNFINISHED]
    assert open_reads["tgid"].tolist() == [pid]
    assert open_reads["dur"][0] > 0


def test_processes_outside_of_the_target_are_not_recorded(probe: EbpfProbe) -> None:
    # GIVEN a busy process that is not the target
    noise = subprocess.Popen([sys.executable, "-S", "-c", "import os\nwhile True: os.stat('/'); open('/dev/null')"])

    # WHEN
    try:
        pid, events, _ = record(probe, "import time; time.sleep(0.2)")
    finally:
        noise.kill()
        noise.wait()

    # THEN
    assert set(events["tgid"].tolist()) == {pid}


def test_a_thread_blocked_before_the_recording_is_recorded() -> None:
    # GIVEN a process that blocks in a read
    child = subprocess.Popen([sys.executable, "-S", "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE)
    wait_until(lambda: (child.pid, 0) in list(in_flight_calls(child.pid)), "the process is in its read")
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(), devices=()))

        # WHEN the recording begins, and then the read returns
        probe.add_target(child.pid)
        assert child.stdin is not None
        child.stdin.write(b"x")
        child.stdin.close()
        child.wait(timeout=10)
    finally:
        probe.stop()
        events, _ = probe.drain()

    # THEN the call is there
    reads = of_kind(events, Kind.SYS_READ)
    assert 1 in reads[reads["a"] == 0]["ret"].tolist()


def test_a_ring_that_is_too_small_counts_what_it_lost() -> None:
    # GIVEN a ring of one page, and nobody who drains it
    probe = EbpfProbe(buffer_bytes=4096)
    probe.start(Scope(daemons=(), devices=()))
    program = "import os\nfd = os.open('/dev/zero', os.O_RDONLY)\nfor _ in range(10000): os.read(fd, 1)"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os.execv(sys.executable, [sys.executable, "-S", "-c", program])

    # WHEN
    probe.add_target(pid)
    os.write(writer, b"x")
    os.waitpid(pid, 0)
    probe.stop()
    events, _ = probe.drain()

    # THEN what is missing is counted
    records = len(of_kind(events, Kind.SYS_READ))
    losses = probe.losses().by_kind["SYS_READ"]
    assert records < 100
    assert records + losses >= 10_000
    assert {name: sum(counts) for name, counts in probe.losses().by_cpu.items()} == probe.losses().by_kind


def test_records_that_wrap_around_the_end_of_the_ring_are_complete(tmp_path: Path) -> None:
    # GIVEN rings that the records of a program go round several times, texts not dividing theirs
    probe = EbpfProbe(buffer_bytes=256 * 1024)
    probe.start(Scope(daemons=(), devices=()))
    names = [f"{tmp_path}/{number:04}-{'n' * 150}" for number in range(1000)]
    program = (
        "import os, sys, time\n"
        f"for number in range({len(names)}):\n"
        f" try: os.open(f'{tmp_path}/{{number:04}}-' + 'n' * 150, 0)\n"
        " except OSError: pass\n"
        " if number % 20 == 0: time.sleep(0.02)"
    )

    # WHEN
    _, _, texts = record(probe, program)

    # THEN every text is there as it was
    recorded_names = [text["text"][: text["size"]].decode() for text in texts]
    assert len(texts) * (texts.dtype.itemsize + 8) > 3 * 64 * 1024
    assert probe.losses().total == 0
    assert [name for name in recorded_names if name.startswith(str(tmp_path))] == names


def test_the_memory_of_the_recorder_is_bounded() -> None:
    # GIVEN a process that observes, and has drained its whole ring
    program = (
        "import psutil\nfrom cvtrace.probes.ebpf.probe import EbpfProbe\nfrom cvtrace.probes.probe import Scope\n"
        "import cvtrace.tracer.session\n"
        "probe = EbpfProbe()\nprobe.start(Scope((), ()))\nprobe.drain()\n"
        "print(psutil.Process().memory_info().rss)\nprobe.stop()"
    )

    # WHEN
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # THEN neither LLVM nor the second half of a ring counts as its memory
    assert int(result.stdout) < 200e6


def test_without_root_the_error_says_what_to_do() -> None:
    # GIVEN a child without privileges
    program = (
        "import os\nfrom cvtrace.probes.ebpf.probe import EbpfProbe\nfrom cvtrace.probes.probe import *\nos.setuid(65534)\n"
        "try: EbpfProbe().start(Scope((), ()))\nexcept CannotObserve as e: print(e)"
    )

    # WHEN
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    # THEN
    assert "sudo cvtrace run" in result.stdout, result.stderr
