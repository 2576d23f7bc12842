"""When threads of a daemon are off the CPU is told as for the target, and is not taken for the target's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ebpf_recording import of_kind
from waiting import wait_until

from cvtrace.analysis.recording import recording
from cvtrace.probes.ebpf.probe import EbpfProbe, open_calls
from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.probes.probe import Daemon, Scope
from cvtrace.tracer.store import Trace

pytestmark = pytest.mark.root

DAEMON = "import os\nos.write(1, b'!')\nwhile os.read(0, 1): os.write(1, b'a')"
TURNS = 50

COUNTED = """
import os, resource, sys, time

def switches():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nvcsw + used.ru_nivcsw

def now():  # and how often it was off the CPU until then
    while True:
        before, at_ns = switches(), time.monotonic_ns()
        if switches() == before:
            return before, at_ns

sys.stdin.read(1)
for turn in range(6):
    if os.fork() == 0:
        before, start_ns = now()
        while time.monotonic_ns() < start_ns + 2_000_000_000:
            if turn % 2:
                time.sleep(0.0001)
            sum(range(3000))
        after, end_ns = now()
        os.write(1, b"%d %d %d %d\\n" % (os.getpid(), after - before, start_ns, end_ns))
        os._exit(0)
for turn in range(6):
    os.wait()
"""


def test_waits_of_a_daemon_are_told_with_who_ended_them() -> None:
    # GIVEN a daemon that answers byte by byte, and a target
    daemon = subprocess.Popen(
        [sys.executable, "-S", "-c", DAEMON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    target = subprocess.Popen([sys.executable, "-S", "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE)
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    assert daemon.stdout.read(1) == b"!"
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(Daemon(daemon.pid),), devices=()))
        probe.add_target(target.pid)

        # WHEN this process asks it so many times
        for _ in range(TURNS):
            wait_until(lambda: (daemon.pid, 0) in list(open_calls(daemon.pid)), "the daemon is off the CPU, in read")
            daemon.stdin.write(b"q")
            assert daemon.stdout.read(1) == b"a"
    finally:
        probe.stop()
        daemon.communicate()
        target.communicate()
    events, texts = probe.drain()

    # THEN each wait of the daemon is there, woken by this process, and nothing was lost
    away = of_kind(events, Kind.OFFCPU)
    away = away[(away["tgid"] == daemon.pid) & (away["c"] == 1)]
    assert TURNS - 1 <= len(away) <= TURNS  # of the first, the beginning may lie before the recording
    assert np.mean(away["b"] == os.getpid()) > 0.9
    woken_inside = (away["ts"] <= away["a"]) & (away["a"] <= away["ts"] + away["dur"])
    assert np.mean(woken_inside) > 0.9  # one that is woken before it is off has no wake-up
    assert probe.losses().total == 0
    waiting = events[events["kind"] == Kind.OFFCPU | UNFINISHED]
    assert daemon.pid in waiting["tgid"].tolist()

    # THEN the analysis counts the daemon's threads as nobody of the target
    meta = {"target": {"pid": target.pid}, "mounts": [{"path": "/m", "daemon_pid": daemon.pid}]}
    found = recording(Trace(Path("trace"), meta, events, texts, None))
    assert daemon.pid not in found.target_tgids
    assert not found.is_target_thread(found.all.tid[found.all.tgid == daemon.pid]).any()


def test_each_time_off_the_cpu_is_recorded_on_a_busy_machine() -> None:
    # GIVEN more processes than CPUs, which count how often they lose theirs
    target = subprocess.Popen(
        [sys.executable, "-S", "-c", COUNTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(), devices=()))
        probe.add_target(target.pid)
        said, _ = target.communicate("!")
    finally:
        target.kill()
        probe.stop()
    events, _ = probe.drain()

    # THEN each time has a record, also where the switch back was not seen (on some machines none from the host's agent is)
    away = of_kind(events, Kind.OFFCPU)
    lines = [tuple(int(number) for number in line.split()) for line in said.splitlines()]
    assert len(lines) == 6
    for pid, switches, start_ns, end_ns in lines:
        mine = away[(away["tid"] == pid) & (away["ts"] >= start_ns) & (away["ts"] < end_ns)]
        assert len(mine) == switches
        # THEN of two absences the first ends before the second begins
        assert (mine["ts"][1:] >= (mine["ts"] + mine["dur"])[:-1]).all()
    assert probe.losses().total == 0
