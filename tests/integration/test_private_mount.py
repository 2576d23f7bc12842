"""A mount that lets in nobody but the user who mounted it, not even root."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import open_to_all
from waiting import wait_until

from cvtrace.probes.cvmfs.counters import counters
from cvtrace.probes.cvmfs.mounts import describe, mount_points

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    mount, workspace = tmp_path / "mnt", tmp_path / "workspace"
    mount.mkdir()
    workspace.mkdir()
    open_to_all(tmp_path)
    program = [sys.executable, str(Path(__file__).with_name("tiny_mount.py")), str(mount), str(workspace)]
    daemon = subprocess.Popen([*program, "alone.test.org", str(NOBODY), "alone"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: str(mount) in [each.path for each in mount_points()], "it is mounted")
        wait_until(lambda: workspace.stat().st_uid == NOBODY, "it is the user's")
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=False)
        daemon.terminate()
        daemon.wait()


def test_root_asks_a_private_mount_as_its_owner(private: Path) -> None:
    # GIVEN a mount that does not let root in
    with pytest.raises(PermissionError):
        private.stat()
    # WHEN it is described
    (point,) = [each for each in mount_points() if each.path == str(private)]
    mount = describe(point)
    # THEN it has said who it is, its daemon is found, and its counters can be read
    assert (mount.error, mount.answers, mount.fqrn) == (None, True, "alone.test.org")
    assert mount.daemon is not None
    assert counters(mount).values["cvmfs.n_fs_open"] == 0
    assert counters(mount).error is None
    # THEN this process is still root
    assert (os.geteuid(), os.getegid()) == (0, 0)
