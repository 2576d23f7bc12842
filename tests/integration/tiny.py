"""A mount of one file, for tests that need a CVMFS mount and not what is on it; and folders that others may enter."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from waiting import wait_until

from cvtrace.probes.cvmfs.mounts import mount_points

MOUNTPOINT = "cvmfs mount"
"""Has a space, as a mount point may."""


@contextlib.contextmanager
def tiny_mount(
    folder: Path,
    *,
    fqrn: str = "tiny.test.org",
    uid: int | None = None,
    alone: bool = False,
    wrapper: tuple[str, ...] = (),
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Mount one file in `folder` with a process that looks like cvmfs2, started through `wrapper`.

    With `uid` it lets go of root, and with `alone` nobody but that user may enter the mount.
    """
    mount, workspace = folder / MOUNTPOINT, folder / "workspace"
    mount.mkdir()
    workspace.mkdir()
    program: list[str | Path] = [sys.executable, Path(__file__).with_name("tiny_mount.py"), mount, workspace, fqrn]
    program += [] if uid is None else [str(uid), *(["alone"] if alone else [])]
    daemon = subprocess.Popen([*wrapper, *program], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: str(mount) in [point.path for point in mount_points()], f"{fqrn} is mounted")
        wait_until((workspace / f"cvmfs_io.{fqrn}").exists, "the daemon can be talked to")
        wait_until(lambda: uid is None or workspace.stat().st_uid == uid, "the daemon has let go of root")
        yield mount, daemon
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", mount], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        daemon.wait()


def open_to_all(folder: Path) -> None:
    """Let other users into a temporary folder of pytest, and into the folders above it: three, and with pytest-xdist four."""
    root = Path(os.environ["PYTEST_DEBUG_TEMPROOT"])
    assert root in folder.parents, f"{folder} is no folder of pytest's"
    for opened in (folder, *folder.parents):
        if opened == root:
            return
        opened.chmod(0o755)
