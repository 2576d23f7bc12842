"""A FUSE mount that looks like one of cvmfs2 from outside and holds one file: `python tiny_mount.py MOUNT WORKSPACE FQRN [UID [alone]]`.

With UID it lets go of root once it has mounted, and its workspace is closed to others, as a package's cvmfs2 does. With `alone` it is that
user's mount, without `allow_other`.

Real FUSE, a process called cvmfs2, xattrs and a talk socket with counters; no repository behind it.
"""

import ctypes
import errno
import os
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Any

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")

import mfusepy

CONTENT = b"weights\n" * 100_000
COUNTS = {"cvmfs.n_fs_open": 0, "cvmfs.n_fs_read": 0, "fetch.n_downloads": 0}


class OneFile(mfusepy.Operations):  # type: ignore[misc]
    """`/model` with CONTENT."""

    use_ns = True

    def __init__(self, fqrn: str, workspace: str, uid: int | None) -> None:
        self.workspace = workspace
        self.uid = uid
        self.xattrs = {"user.fqrn": fqrn, "user.pid": str(os.getpid()), "user.version": "2.12.0.0", "user.nopen": "7"}

    def init(self, path: str) -> None:
        os.chdir(self.workspace)  # libfuse goes to / before its loop starts
        if self.uid is not None:
            for entry in (Path(), *Path().iterdir()):
                os.chown(entry, self.uid, self.uid)
            Path().chmod(0o700)
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == "/model":
            return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": len(CONTENT)}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", "model"]

    def open(self, path: str, flags: int) -> int:
        COUNTS["cvmfs.n_fs_open"] += 1
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        COUNTS["cvmfs.n_fs_read"] += 1
        return CONTENT[offset : offset + size]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        if name not in self.xattrs:
            raise mfusepy.FuseOSError(errno.ENODATA)
        return self.xattrs[name].encode()


def talk(listener: socket.socket) -> None:
    """Answer any command as `internal affairs` is answered, one caller at a time."""
    with listener:
        while True:
            caller, _ = listener.accept()
            with caller:
                caller.recv(256)
                lines = "".join(f"{name}|{count}|of something\n" for name, count in COUNTS.items())
                caller.sendall(f"Cache Mode: read-write\n\nRaw Counters:\nName|Value|Description\n{lines}".encode())


def mounted_for(uid: int, mountpoint: str) -> str:
    """Mount as fusermount3 does for a user, who may have no right to /dev/fuse here; return what libfuse 3 takes for a mountpoint."""
    assert mfusepy.fuse_version_major == 3, "libfuse 2 would mount on /dev/fuse"
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={uid}".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"cvmfs2", os.fsencode(mountpoint), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    return f"/dev/fd/{device}"


if __name__ == "__main__":
    mountpoint, workspace, name = sys.argv[1:4]
    alone = len(sys.argv) > 5
    if alone:
        mountpoint = mounted_for(int(sys.argv[4]), mountpoint)
    os.chdir(workspace)
    source = os.environ.get("TINY_SOURCE", "cvmfs2")
    Path("/proc/self/comm").write_text(source)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"cvmfs_io.{name}")  # here, and not in the thread: libfuse goes elsewhere
    listener.listen(1)
    threading.Thread(target=talk, args=(listener,), daemon=True).start()
    mfusepy.FUSE(
        OneFile(name, workspace, int(sys.argv[4]) if len(sys.argv) > 4 else None),
        mountpoint,
        foreground=True,
        fsname=source,
        allow_other=os.geteuid() == 0 and not alone,
        nothreads=True,
    )
