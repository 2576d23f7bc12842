"""Off-CPU times of a daemon's threads are recorded as those of the target, and not attributed to the target."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ebpf_recording import of_kind
from waiting import wait_until

from cvtrace.analysis.trace.recording import recording
from cvtrace.probes.ebpf.in_flight import in_flight_calls, mapped_table
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.ebpf.records import ABSENCE
from cvtrace.probes.events import UNFINISHED, Kind
from cvtrace.probes.probe import Daemon, Scope
from cvtrace.tracer.store import Trace

pytestmark = pytest.mark.root

DAEMON = "import os\nos.write(1, b'!')\nwhile os.read(0, 1): os.write(1, b'a')"
TURNS = 50

COUNTING_SCRIPT = """
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

SPINNING = """
import os, signal, time
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
signalled = []
signal.signal(signal.SIGUSR1, lambda *_: signalled.append(True))
print(flush=True)
while not signalled: pass
time.sleep(0.01)
time.sleep(0.01)
"""


def test_waits_of_a_daemon_are_reported_with_who_ended_them() -> None:
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
            wait_until(
                lambda: (daemon.pid, 0) in list(in_flight_calls(daemon.pid)), "the daemon is off the CPU, in read"
            )
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
    recorded = recording(Trace(Path("trace"), meta, events, texts, None))
    assert daemon.pid not in recorded.target_tgids
    off_cpu = recorded.of(Kind.OFFCPU)
    assert not recorded.is_target_thread(off_cpu.tid[off_cpu.tgid == daemon.pid]).any()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the thread must be on a CPU meanwhile")
@pytest.mark.parametrize("later_ns", [1_000_000, 3600_000_000_000], ids=["while it was back", "while it left again"])
def test_a_later_wake_up_does_not_extend_an_off_cpu_time_whose_end_was_missed(later_ns: int) -> None:
    # GIVEN a thread that computes, and by what the programs know was preempted and did not come back, but was woken later
    cpus = os.sched_getaffinity(0)
    target = subprocess.Popen([sys.executable, "-S", "-c", SPINNING], stdout=subprocess.PIPE, text=True)
    assert target.stdout is not None
    target.stdout.readline()
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(), devices=()))
        probe.add_target(target.pid)
        os.sched_setaffinity(0, cpus - {max(cpus)})  # its CPU is not needed for writing down that it was preempted
        preempted_ns = absent_while_it_runs(probe, target.pid, later_ns)
        time.sleep(0.1)
        target.send_signal(signal.SIGUSR1)
        target.communicate()
    finally:
        os.sched_setaffinity(0, cpus)
        target.kill()
        probe.stop()
    events, _ = probe.drain()

    # THEN it was back when its CPU switched before, not when it was woken
    away = of_kind(events, Kind.OFFCPU)
    (unseen,) = away[(away["tid"] == target.pid) & (away["ts"] == preempted_ns)]
    assert unseen["dur"] == 0
    assert unseen["a"] == 0
    # THEN the wake-up is that of the next absence, whenever that came, if it was later than that began; and of no other
    after = np.sort(away[(away["tid"] == target.pid) & (away["ts"] > preempted_ns)], order="ts")
    (woken,) = np.nonzero(after["a"] == preempted_ns + later_ns)
    assert woken.tolist() == ([0] if preempted_ns + later_ns > after["ts"][0] else [])


def absent_while_it_runs(probe: EbpfProbe, pid: int, later_ns: int) -> int:
    """Let the programs believe that a thread that is on a CPU was preempted, and woken so much later; return when.

    It is on its CPU when its CPU time is seen to grow, and was all the while if it did not leave until all was written.
    """
    clock = ~pid << 3 | 2  # of the process's CPU time, which grows with the ticks of its CPU
    for _ in range(1000):
        left, ran_ns, until_ns = switches(pid), time.clock_gettime_ns(clock), time.monotonic_ns() + 50_000_000
        while time.clock_gettime_ns(clock) == ran_ns and time.monotonic_ns() < until_ns:
            pass
        if time.monotonic_ns() < until_ns and switches(pid) == left:
            preempted_ns = time.monotonic_ns()
            note_absence(probe, pid, preempted_ns, preempted_ns + later_ns)
            if switches(pid) == left:
                return preempted_ns
        time.sleep(0.005)
    raise AssertionError("it was never on a CPU for long enough")


def switches(pid: int) -> str:
    """Return what the kernel counted of a thread leaving its CPU."""
    return Path(f"/proc/{pid}/status").read_text().partition("\nvoluntary_ctxt_switches:")[2]


def note_absence(probe: EbpfProbe, pid: int, preempted_ns: int, woken_ns: int) -> None:
    """Let the programs believe that the main thread of a process was preempted, and woken by this one."""
    absence = np.array([(pid, os.getpid(), preempted_ns, woken_ns, pid, 0)], dtype=ABSENCE)
    size, slot = absence.itemsize, pid & (probe.slots.thread - 1)
    with mapped_table(probe._bpf, b"off_cpu", absence.dtype, probe.slots.thread) as mapped:
        mapped[slot * size : (slot + 1) * size] = absence.tobytes()


def test_each_time_off_the_cpu_is_recorded_on_a_busy_machine() -> None:
    # GIVEN more processes than CPUs, which count how often they lose theirs
    target = subprocess.Popen(
        [sys.executable, "-S", "-c", COUNTING_SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    probe = EbpfProbe()
    try:
        probe.start(Scope(daemons=(), devices=()))
        probe.add_target(target.pid)
        output, _ = target.communicate("!")
    finally:
        target.kill()
        probe.stop()
    events, _ = probe.drain()

    # THEN each time has a record, also where the switch back was not seen (on some machines none from the host's agent is)
    away = of_kind(events, Kind.OFFCPU)
    lines = [tuple(int(number) for number in line.split()) for line in output.splitlines()]
    assert len(lines) == 6
    for pid, switches, start_ns, end_ns in lines:
        of_target = away[(away["tid"] == pid) & (away["ts"] >= start_ns) & (away["ts"] < end_ns)]
        assert len(of_target) == switches
        # THEN of two off_cpu the first ends before the second begins
        assert (of_target["ts"][1:] >= (of_target["ts"] + of_target["dur"])[:-1]).all()
    assert probe.losses().total == 0
