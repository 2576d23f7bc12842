"""The mountpoint of a stack: choosing it, making it, seeing what is mounted there, getting rid of what a crash left."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Final

from cvtrace.lab.errors import LabError

CVMFS: Final = Path("/cvmfs")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")  # space, tab, newline and backslash in mountinfo


def filesystem_type(mountpoint: Path) -> str | None:
    """Return the type of what is mounted exactly there, or None; does not touch it, for it may be dead."""
    target = os.fsencode(mountpoint)
    fs_type = None
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, tail = line.partition(b" - ")
        if _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), fields.split(b" ")[4]) == target:
            fs_type = tail.split(b" ")[0].decode()
    return fs_type


def choose(option: Path | None, fqrn: str, state: Path) -> Path:
    """Return the mountpoint: the one asked for, else /cvmfs/<fqrn> where that can be made, else in the state folder.

    Raises LabError when something else is mounted on the one asked for.
    """
    if option is not None:
        mountpoint = Path(os.path.abspath(option))  # noqa: PTH100  resolve() would look at a dead mount
        if filesystem_type(mountpoint) is not None:
            raise LabError(f"something is mounted on {mountpoint} already: unmount it or choose another --mount")
        return mountpoint
    below = CVMFS / fqrn
    # An automounter owns its folder: nothing can be made there, and looking starts a mount.
    if filesystem_type(CVMFS) is None and filesystem_type(below) is None and _can_be_made(below):
        return below
    return state / "mnt" / fqrn


def _can_be_made(folder: Path) -> bool:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if existing == folder:
        return os.access(folder, os.W_OK) and not any(folder.iterdir())
    return os.access(existing, os.W_OK | os.X_OK)


def make(mountpoint: Path) -> list[str]:
    """Make the folder with its parents and return those made, innermost first; raises LabError when it is not empty."""
    folders = []
    try:
        for folder in (mountpoint, *mountpoint.parents):
            if folder.exists():
                break
            folders.append(str(folder))
        mountpoint.mkdir(parents=True, exist_ok=True)
        if any(mountpoint.iterdir()):
            raise LabError(f"the mountpoint {mountpoint} is not empty: choose another --mount")
    except OSError as error:
        raise LabError(f"cannot make the mountpoint {mountpoint}: {error.strerror}") from error
    return folders


def unmake(folders: list[str]) -> None:
    """Remove the folders that `make` made, as long as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            Path(folder).rmdir()


def answers(mountpoint: Path) -> bool:
    """Say whether a mount is there and alive: a dead daemon leaves ENOTCONN behind."""
    if filesystem_type(mountpoint) is None:
        return False
    try:
        os.listdir(mountpoint)  # noqa: PTH208  the result does not matter
    except OSError:
        return False
    return True


def detach(mountpoint: Path) -> None:
    """Take a mount away whoever uses it; raises LabError when that is not allowed."""
    while filesystem_type(mountpoint) is not None:
        root = os.geteuid() == 0
        command = ["umount", "-l"] if root else ["fusermount3", "-u", "-z"]
        result = subprocess.run([*command, str(mountpoint)], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LabError(f"cannot unmount {mountpoint}: {result.stderr.strip()}")
