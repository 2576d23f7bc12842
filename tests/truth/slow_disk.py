"""A slow disk under the client's cache: a read-only file system of our own that waits before it answers a read, and logs it.

    slow_disk.py SOURCE MOUNTPOINT LOG SECONDS

The cached objects are replaced by links into it, so that the client's own pread takes that long.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class SlowDisk:
    """While it is entered, all objects in a client's workspace lie on a slow disk."""

    def __init__(self, workspace: Path, folder: Path, log: Path, delay_s: float) -> None:
        self._workspace, self._folder, self._log, self._delay_s = workspace, folder, log, delay_s
        self._objects: list[Path] = []

    def __enter__(self) -> SlowDisk:
        source, mountpoint = self._folder / "source", self._folder / "mnt"
        for folder in (source, mountpoint):
            folder.mkdir(parents=True)
        command = [sys.executable, __file__, str(source), str(mountpoint), str(self._log), str(self._delay_s)]
        self._process = subprocess.Popen(command)
        deadline_s = time.monotonic() + 30
        while not os.path.ismount(mountpoint):
            assert self._process.poll() is None, "the slow disk did not come up"
            assert time.monotonic() < deadline_s, "the slow disk did not come up in time"
            time.sleep(0.01)
        for path in self._workspace.glob("[0-9a-f][0-9a-f]/*"):
            name = path.parent.name + path.name
            shutil.copyfile(path, source / name)
            path.unlink()
            path.symlink_to(mountpoint / name)
            self._objects.append(path)
        return self

    def give_back(self) -> None:
        """Put the objects back where they were; who has one open keeps it on the slow disk."""
        for path in self._objects:
            name = path.parent.name + path.name
            if path.is_symlink():
                path.unlink()
                shutil.copyfile(self._folder / "source" / name, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()
        subprocess.run(["umount", "-l", str(self._folder / "mnt")], check=False)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # whoever still has a file open loses it; why, the error that led here tells
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)


def serve(source: str, mountpoint: str, log: str, delay_s: float) -> None:
    """Mount and serve until unmounted."""
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    import mfusepy

    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    class Disk(mfusepy.Operations):
        def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
            try:
                status = os.lstat(source + path)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from error
            return {name: getattr(status, name) for name in ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid")}

        def open(self, path: str, flags: int) -> int:
            return os.open(source + path, os.O_RDONLY)

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            start_ns = time.monotonic_ns()
            time.sleep(delay_s)
            data = os.pread(fh, size, offset)
            line = {"start_ns": start_ns, "end_ns": time.monotonic_ns(), "path": path, "bytes": len(data)}
            os.write(log_fd, json.dumps(line).encode() + b"\n")
            return data

    mfusepy.FUSE(Disk(), mountpoint, foreground=True, direct_io=True, ro=True, allow_other=True, fsname="slow-disk")


if __name__ == "__main__":
    # The mount goes with whoever made it.
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGTERM
    serve(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
