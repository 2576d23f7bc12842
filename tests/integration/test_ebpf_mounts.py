"""Mounts and daemons that come and go while a recording runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvtrace_run import CVTRACE
from ebpf_recording import of_kind
from lab_mount import lab
from tiny import tiny_mount
from waiting import wait_until

from cvtrace.probes.events import Kind
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

READER = """
import os, sys
for line in sys.stdin:
    print(len(open(line.strip(), 'rb').read()), flush=True)
"""


def mounts_in(trace: Path) -> list[dict[str, Any]]:
    """Return the mounts that a running recording knows."""
    meta = trace / "meta.json"
    mounts: list[dict[str, Any]] = json.loads(meta.read_text())["mounts"] if meta.exists() else []
    return mounts


def mounts_at(trace: Path, path: Path) -> list[dict[str, Any]]:
    """Return those whose client was asked for its counters."""
    return [mount for mount in mounts_in(trace) if mount["path"] == str(path) and mount["counters_before"]]


def test_a_repository_that_is_mounted_and_mounted_again_during_the_run(tmp_path: Path) -> None:
    # GIVEN a recording that began with another mount, of a program that reads the files it is told
    trace = tmp_path / "trace"
    (tmp_path / "other").mkdir()
    argv = [*CVTRACE, "run", "-o", str(trace), "--probes", "ebpf", "--no-summary"]
    with tiny_mount(tmp_path / "other"), lab(tmp_path, {"weights": os.urandom(300_000)}) as served:
        target = subprocess.Popen(
            [*argv, "--", sys.executable, "-S", "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert target.stdin is not None
        assert target.stdout is not None
        wait_until(lambda: bool(mounts_in(trace)), "the recording has begun", 60)
        pids = []
        try:
            # WHEN the repository is mounted, read and unmounted, twice
            for turn in (1, 2):
                with served.mount() as mounted:
                    pids.append(mounted.mounted.pid)
                    wait_until(
                        lambda turn=turn: len(mounts_at(trace, tmp_path / "mnt")) == turn, "the mount is observed", 60
                    )
                    target.stdin.write(f"{mounted.root}/weights\n")
                    target.stdin.flush()
                    assert target.stdout.readline() == "300000\n"
            target.communicate(timeout=120)
        finally:
            target.kill()
            target.wait()

    # THEN both daemons were observed from then on, with their counters, and their ends are told
    mounts = mounts_at(trace, tmp_path / "mnt")
    assert [mount["daemon_pid"] for mount in mounts] == pids
    assert all(len(mount["counted_ns"]) == 2 for mount in mounts)
    assert mounts[0]["daemon_ended_ns"] is not None
    events = read_trace(trace).events
    served_by = of_kind(events, Kind.FUSE_DAEMON)
    reads = served_by[served_by["c"] >> np.uint64(32) == 15]
    assert set(pids) <= set(reads["tgid"].tolist())
    assert pids[0] in of_kind(events, Kind.HTTP_SEND)["tgid"].tolist()
    assert "was mounted while the recording ran" in " ".join(json.loads((trace / "meta.json").read_text())["missing"])
