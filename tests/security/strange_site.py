"""Mounts of a throwaway user that call themselves cvmfs2 and misbehave; everything is undone at the end."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from throwaway import PYTHON, Somebody

from cvtrace.probes.cvmfs.mounts import MountPoint, mount_points

SERVER = Path(__file__).with_name("hostile_mount.py")
DEVICE = Path("/dev/fuse")
COUNTERS = "Name|Value|Description\ncvmfs.n_fs_open|1|x\ncvmfs.n_fs_read|2|x\n"
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Hostile:
    """A mount with its folder and the process that serves it."""

    path: Path
    workspace: Path
    process: subprocess.Popen[str]

    @property
    def point(self) -> MountPoint:
        (mount_point,) = [point for point in mount_points() if point.path == str(self.path)]
        return mount_point


@contextlib.contextmanager
def hostile_mount(user: Somebody, *, shared: bool = False, mode: int = 0o700, **behaviour: Any) -> Iterator[Hostile]:
    """Mount as `user` with fusermount3; or else as fusermount3 does, where the user may not open /dev/fuse.

    `shared` lets in everybody, which takes a line in /etc/fuse.conf.
    """
    folder = user.home / f"mount{next(_numbers)}"
    path, workspace = folder / "mnt", folder / "cache"
    for item in (folder, path, workspace):
        item.mkdir(mode=0o755)
        user.owns(item)
    workspace.chmod(mode)
    server = user.home / SERVER.name
    shutil.copy(SERVER, server)
    user.owns(server)
    is_open_to_all = bool(DEVICE.stat().st_mode & 0o002)
    descriptors = [] if is_open_to_all and not shared else [_mounted_for(user, path, "allow_other" if shared else "")]
    if descriptors:
        behaviour["fd"] = descriptors[0]
    process = user.start(
        [PYTHON, server, path, workspace, json.dumps(behaviour)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
    )
    for fd in descriptors:
        os.close(fd)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        yield Hostile(path, workspace, process)
    finally:
        subprocess.run(["umount", "--lazy", path], stderr=subprocess.DEVNULL, check=False)
        process.kill()
        process.communicate()


def _mounted_for(user: Somebody, path: Path, options: str) -> int:
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={user.uid},group_id={user.gid},{options}".rstrip(",")
    if _libc.mount(b"cvmfs2", os.fsencode(path), b"fuse", 6, options.encode()):  # MS_NOSUID | MS_NODEV
        raise OSError(ctypes.get_errno(), "mount")
    return device
