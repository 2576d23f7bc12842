"""Events whose slot is taken by a thread, request or mount with the same low bits are recorded through a hash."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ebpf_recording import of_kind, record
from lab_mount import lab

from cvtrace.probes.ebpf.loader import Slots
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.events import UNFINISHED, Events, Kind, Opcode
from cvtrace.probes.probe import Daemon, Scope

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

THREADS, FILES, NAPS = 8, 40, 20
PROGRAM = f"""
import os, sys, threading, time
os.sched_setaffinity(0, {{0}})
started = threading.Barrier({THREADS})
def work(number):
    fd = os.dup2(os.open('/dev/zero', os.O_RDONLY), 300 + number)
    started.wait()
    for name in range(number, {FILES}, {THREADS}):
        with open(f'{{sys.argv[1]}}/{{name}}', 'rb', buffering=0) as file:
            file.read(4096)
    for _ in range({NAPS}):
        os.read(fd, 1)
        time.sleep(0.001)
threads = [threading.Thread(target=work, args=(number,)) for number in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
threading.Thread(target=os.read, args=(os.dup2(os.pipe()[0], 400), 1)).start()
time.sleep(60)
"""

CROWD = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("slots", [Slots(), Slots(thread=1, request=1, device=1), Slots(thread=4, request=2, device=1)])
def test_an_event_whose_slot_is_occupied_is_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: Slots
) -> None:
    # GIVEN a mount, and threads that all read through it, wait, and read from elsewhere; on one CPU, as two could take the only slot at once
    monkeypatch.setattr(EbpfProbe, "slots", slots)
    probe = EbpfProbe()
    files = {str(name): os.urandom(4096) for name in range(FILES)}
    with lab(tmp_path, files) as served, served.mount() as mounted:
        for task in Path(f"/proc/{mounted.mounted.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {0})
        mounted.drop_caches()
        before = mounted.counters()
        other_device = 0xFFFFE
        device = mounted.root.stat().st_dev
        probe.start(Scope(daemons=(Daemon(mounted.mounted.pid),), devices=(other_device, device)))
        # WHEN
        pid, events, _ = record(probe, PROGRAM, str(mounted.root), kill_after=3.0)
        after = mounted.counters()

    # THEN every call, request, and absence is told, as many as the program and the client count
    for number in range(THREADS):
        reads = of_kind(events, Kind.SYS_READ)
        assert (reads["a"] == 300 + number).sum() == NAPS
    sends, served_by = of_kind(events, Kind.FUSE_SEND), of_kind(events, Kind.FUSE_DAEMON)
    assert (sends["b"] == device).all()
    assert opcodes(sends).count(Opcode.READ) == opcodes(served_by).count(Opcode.READ) == FILES
    assert after["cvmfs.n_fs_read"] - before["cvmfs.n_fs_read"] == FILES
    assert set(sends["a"].tolist()) <= set(served_by["a"].tolist())
    away = of_kind(events, Kind.OFFCPU)
    for tid in np.unique(of_kind(events, Kind.SYS_READ)["tid"][of_kind(events, Kind.SYS_READ)["a"] >= 300]):
        assert (away["tid"][away["c"] == 1] == tid).sum() >= NAPS or tid_of_last(events) == tid
    assert probe.losses().total == 0

    # THEN what was under way at the end is told as that
    assert tid_of_last(events)
    assert {pid, tid_of_last(events)} <= set(of_kind(events, Kind.OFFCPU | UNFINISHED)["tid"].tolist())


def test_calls_without_a_free_slot_or_hash_entry_are_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN room for one call that is under way, and for one more that finds that taken
    monkeypatch.setattr(EbpfProbe, "slots", Slots(thread=1, displaced=1))
    probe = EbpfProbe()
    probe.start(Scope(daemons=(), devices=()))
    # WHEN threads are in calls at the same time
    record(probe, CROWD)
    # THEN the loss is known
    assert probe.losses().by_kind["system calls"] > 0


def opcodes(requests: Events) -> list[int]:
    opcode = requests["c"] >> np.uint64(32)
    return [int(number) for number in opcode]


def tid_of_last(events: Events) -> int:
    """Return the thread whose read did not return."""
    blocked = events[events["kind"] == Kind.SYS_READ | UNFINISHED]
    return int(blocked["tid"][0])
