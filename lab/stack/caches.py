"""Cold, warm, hot: clearing and filling the caches between an origin and a reader."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cvtrace.lab.errors import LabError
from cvtrace.lab.stack import clients
from cvtrace.lab.stack.lifecycle import remember_client, wanted_mount
from cvtrace.lab.stack.state import Stack, StateFolder


def drop_page_cache() -> None:
    """Drop every clean page, inode and directory entry that the kernel has cached; raises LabError without root."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        raise LabError(f"cannot drop the page cache: {error.strerror}; run as root, outside a container") from error


def forget_pages(stack: Stack) -> None:
    """Drop the cached pages of the mount's files and of the client's cached objects; needs no root.

    With all in the client's cache: warm. Other files stay cached, so what runs next does not read its own program back.
    """
    os.sync()
    for folder in (stack.mountpoint, stack.workspace):
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
        pid = clients.mount(stack.client, wanted_mount(stack))
        remember_client(state, pid)
    return Stack(**{**stack.__dict__, "client_pid": pid})


def warm(stack: Stack, folder: Path | None = None) -> int:
    """Read every file below `folder` (default: the whole mount) and return the bytes read.

    Afterwards the client has it all in its cache and the kernel in its page cache: hot. With `drop_page_cache()`: warm.
    """
    read_bytes = 0
    for path in sorted((folder or stack.mountpoint).rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as stream:
                while block := stream.read(1 << 20):
                    read_bytes += len(block)
    return read_bytes
