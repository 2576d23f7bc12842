"""Cold, warm, hot: clearing and filling the caches between an origin and a reader."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import Final

from cvtrace.lab.errors import LabError
from cvtrace.lab.stack import clients
from cvtrace.lab.stack.lifecycle import mount_settings, remember_client
from cvtrace.lab.stack.state import Stack, StateFolder

_REMOUNT: Final = 32  # MS_REMOUNT
_KEPT: Final = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
"""Flags of a mount that a remount would take away if it did not name them; their values are those of mount(2)."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


def drop_page_cache() -> None:
    """Drop what the kernel has cached of every file of the machine; raises LabError without root.

    Whatever else runs here reads its files anew, so this is for measurements, where a recorder has to be cold, too. For all
    else there is `drop_mount_cache`.
    """
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        raise LabError(f"cannot drop the page cache: {error.strerror}; run as root, outside a container") from error


def drop_mount_cache(mountpoint: Path, workspace: Path | None = None) -> None:
    """Drop what the kernel has cached of one mount: names, attributes and pages, but for files that are open or mapped.

    With `workspace`, also the pages of the client's cached objects. The client sees no request but FORGET, its own cache stays,
    and no other mount changes. Raises LabError without root.
    """
    # A remount drops all names of a superblock that are not in use (shrink_dcache_sb in fs/super.c), and FUSE drops a file
    # with its last name (generic_delete_inode), pages included.
    flags = _REMOUNT | os.statvfs(mountpoint).f_flag & _KEPT
    if _libc.mount(None, os.fsencode(mountpoint), None, flags, None):
        raise LabError(f"cannot drop the cache of {mountpoint}: {os.strerror(ctypes.get_errno())}; run as root")
    if workspace is not None:
        for path in workspace.glob("[0-9a-f][0-9a-f]/*"):
            _forget_pages_of(path, written=True)


def _forget_pages_of(path: Path, *, written: bool = False) -> None:
    """Drop the pages of a file; of one that was `written`, once they are on the disk, as others cannot be dropped."""
    with path.open("rb") as stream:
        if written:
            os.fdatasync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def forget_pages(stack: Stack) -> None:
    """Drop the cached pages of the mount's files and of the client's cached objects; needs no root.

    With all in the client's cache: warm. Other files stay cached, so what runs next does not read its own program back.
    """
    os.sync()
    for folder in (stack.mountpoint, stack.workspace):
        for path in folder.rglob("*"):
            if path.is_file():
                _forget_pages_of(path)


def wipe_client_cache(stack: Stack) -> Stack:
    """Unmount, delete the client's cache and mount again; return the stack with its new client.

    Cold: nothing is in the client's cache but the catalog, and no page of the mount is cached. Raises LabError.
    """
    return remount(stack, wipe=True)


def remount(stack: Stack, *, wipe: bool = False) -> Stack:
    """Unmount and mount again, with the quota that `stack` says; return the stack with its new client. Raises LabError.

    What the client had cached it still has, unless it is to be wiped; what the kernel had is gone.
    """
    state = StateFolder(stack.state)
    with state.locked():
        clients.unmount(stack.mountpoint, stack.client_pid)
        if wipe:
            shutil.rmtree(stack.workspace, ignore_errors=True)
        pid = clients.mount(stack.client, mount_settings(stack))
        remember_client(state, pid)
    return Stack(**{**stack.__dict__, "client_pid": pid})


def warm(stack: Stack, folder: Path | None = None) -> int:
    """Read every file below `folder` (default: the whole mount) and return the bytes read.

    Afterwards the client has it all in its cache and the kernel in its page cache: hot. With `drop_mount_cache`: warm.
    """
    read_bytes = 0
    for path in sorted((folder or stack.mountpoint).rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as stream:
                while block := stream.read(1 << 20):
                    read_bytes += len(block)
    return read_bytes
