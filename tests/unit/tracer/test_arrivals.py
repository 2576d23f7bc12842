"""News of mounts: what wakes the recorder, and systems that have none."""

import os
import select
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cvtrace.probes.cvmfs.mounts import MountPoint
from cvtrace.tracer import arrivals
from cvtrace.tracer.arrivals import Arrivals


def ready(watched: Arrivals, timeout_s: float = 5.0) -> bool:
    poll = select.poll()
    for descriptor, events in watched.descriptors.items():
        poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1000))


def test_a_system_without_a_table_of_mounts_has_no_news(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN a system without /proc, as macOS, which has no eventfd either
    monkeypatch.setattr(arrivals, "MOUNTINFO", tmp_path / "none")
    monkeypatch.delattr(os, "eventfd")
    # WHEN a recording asks for news THEN there are none
    watched = Arrivals((), ())
    assert (watched.descriptors, watched.appeared(), watched.described()) == ({}, [], [])
    watched.close()


@pytest.mark.root
def test_a_change_and_what_is_learnt_of_it_wake_the_recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN nothing new
    present: list[MountPoint] = []
    answer = threading.Event()

    def describe(point: MountPoint) -> SimpleNamespace:
        answer.wait()
        return SimpleNamespace(path=point.path, daemon=None)

    monkeypatch.setattr(arrivals, "mount_points", lambda: present)
    monkeypatch.setattr(arrivals, "describe", describe)
    watched = Arrivals((), ())
    assert watched.appeared() == []
    try:
        # WHEN something is mounted
        subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
        # THEN the recorder is told, and finds it
        assert ready(watched)
        present.append(MountPoint(str(tmp_path), tmp_path.stat().st_dev))
        assert (watched.appeared(), watched.described()) == (present, [])
        # WHEN it answers THEN the recorder is told again
        assert not ready(watched, 0.0)
        answer.set()
        assert ready(watched)
        (described,) = watched.described()
        assert described[0].mount.path == str(tmp_path)
    finally:
        answer.set()
        subprocess.run(["umount", str(tmp_path)], check=True)
        watched.close()
