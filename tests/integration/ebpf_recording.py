"""Runs a small Python program under the eBPF probe, for tests."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.events import Events, Kind, Texts


def record(
    probe: EbpfProbe, program: str, *arguments: str, kill_after: float | None = None
) -> tuple[int, Events, Texts]:
    """Run a Python program under `probe` from its first instruction; return its pid and what was seen."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os.execv(sys.executable, [sys.executable, "-S", "-c", program, *arguments])
    probe.add_target(pid)
    os.write(writer, b"x")
    drained = []
    started = time.monotonic()
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        drained.append(probe.drain())
        time.sleep(0.005)
        if kill_after is not None and time.monotonic() - started > kill_after:
            break
    probe.stop()
    drained.append(probe.drain())
    if kill_after is not None:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    return pid, np.concatenate([e for e, _ in drained]), np.concatenate([t for _, t in drained])


def of_kind(events: Events, kind: Kind) -> Events:
    return events[events["kind"] == kind]
