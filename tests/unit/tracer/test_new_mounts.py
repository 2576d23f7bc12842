"""News of mounts: what wakes the recorder, and systems that have none."""

import os
import select
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cvtrace.probes.cvmfs.choice import MountChoice
from cvtrace.probes.cvmfs.mounts import MountPoint
from cvtrace.tracer import new_mounts
from cvtrace.tracer.new_mounts import NewMounts


def ready(watched: NewMounts, timeout_s: float = 5.0) -> bool:
    poll = select.poll()
    for descriptor, events in watched.descriptors.items():
        poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1000))


def test_without_proc_mountinfo_no_changes_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN a system without /proc, as macOS, which has no eventfd either
    monkeypatch.setattr(new_mounts, "MOUNTINFO", tmp_path / "none")
    monkeypatch.delattr(os, "eventfd")
    # WHEN a recording asks for news THEN there are none
    watched = NewMounts(MountChoice(), ())
    assert (watched.descriptors, watched.appeared(), watched.described()) == ({}, [], [])
    watched.close()


@pytest.mark.root
def test_a_change_of_mounts_wakes_the_recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN nothing new
    present: list[MountPoint] = []
    answer = threading.Event()

    def survey(points: list[MountPoint], among: object) -> SimpleNamespace:
        answer.wait()
        return SimpleNamespace(mounts=[SimpleNamespace(path=point.path, daemon=None) for point in points], managers=())

    monkeypatch.setattr(new_mounts, "cvmfs_and_others", lambda: (present, []))
    monkeypatch.setattr(new_mounts, "survey", survey)
    watched = NewMounts(MountChoice(), ())
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


def test_mounts_that_come_and_go_all_the_time_are_queried_a_limited_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # GIVEN somebody who mounts something new whenever the recorder looks
    queried: list[MountPoint] = []
    devices = iter(range(1, 10**6))
    monkeypatch.setattr(new_mounts, "cvmfs_and_others", lambda: ([MountPoint("/cvmfs/x.org", next(devices))], []))
    monkeypatch.setattr(NewMounts, "_ask", lambda self, point, *, is_certain: queried.append(point))
    watched = NewMounts(MountChoice(), ())
    # WHEN it looks a thousand times THEN it has asked some of them
    for _ in range(1000):
        watched.appeared()
    watched.close()
    assert len(queried) == new_mounts.MOST


def test_a_mount_added_by_another_user_is_not_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a mount of the user's, and one of somebody else's
    points = [MountPoint("/home/u/mnt", 1, owner=1000), MountPoint("/tmp/evil", 2, owner=1001)]
    monkeypatch.setattr(new_mounts, "cvmfs_and_others", lambda: (points, []))
    monkeypatch.setattr(NewMounts, "_ask", lambda self, point, *, is_certain: None)
    # WHEN they appear THEN the first is observed, and both if the user named the second
    for arguments, expected in (((), points[:1]), (("--model=/tmp/evil/model",), points)):
        watched = NewMounts(MountChoice(arguments=arguments, users=frozenset({1000})), ())
        assert sorted(watched.appeared(), key=lambda point: point.device) == expected
        watched.close()
