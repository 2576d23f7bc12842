"""Recording on a mount of one file, for tests: the mount, waiting, and folders that others may enter."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DEADLINE_S = 30.0
CVTRACE = [sys.executable, "-m", "cvtrace"]


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fail after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def tiny_mount(folder: Path, *uid: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Mount one file with a process that looks like cvmfs2, and may have let go of root."""
    mount, workspace = folder / "mnt", folder / "workspace"
    mount.mkdir()
    workspace.mkdir()
    program = [sys.executable, Path(__file__).with_name("tiny_mount.py"), mount, workspace, "tiny.test.org", *uid]
    daemon = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: mount.is_mount() and (workspace / "cvmfs_io.tiny.test.org").exists())
        wait_for(lambda: not uid or workspace.stat().st_uid == int(uid[0]))
        yield mount, daemon
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", mount], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        daemon.wait()


def open_to_all(folder: Path) -> None:
    """Let other users into a temporary folder of pytest."""
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
