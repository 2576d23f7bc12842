"""A mount of one file, for tests that need a CVMFS mount and not what is on it; and folders that others may enter."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from waiting import wait_until

MOUNTPOINT = "cvmfs mount"
"""Has a space, as a mount point may."""


@contextlib.contextmanager
def tiny_mount(
    folder: Path, *uid: str, fqrn: str = "tiny.test.org", wrapper: tuple[str, ...] = ()
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Mount one file in `folder` with a process that looks like cvmfs2, is started through `wrapper`, and may have let go of root."""
    mount, workspace = folder / MOUNTPOINT, folder / "workspace"
    mount.mkdir()
    workspace.mkdir()
    program = [sys.executable, Path(__file__).with_name("tiny_mount.py"), mount, workspace, fqrn, *uid]
    daemon = subprocess.Popen([*wrapper, *program], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: mount.is_mount() and (workspace / f"cvmfs_io.{fqrn}").exists(), f"{fqrn} is mounted")
        wait_until(lambda: not uid or workspace.stat().st_uid == int(uid[0]), "the daemon has let go of root")
        yield mount, daemon
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", mount], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        daemon.wait()


def open_to_all(folder: Path) -> None:
    """Let other users into a temporary folder of pytest, which lies two folders below the one for temporary files."""
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
