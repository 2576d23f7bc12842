"""The folder of a trace: created as the user who asked, never over something else.

All files are reached through the descriptor of the folder, by names without a slash, and created with O_EXCL
and O_NOFOLLOW: whatever is renamed or linked around it, nothing outside it is written or removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any, Final

from cvtrace.tracer.errors import TraceExists, TraceUnwritable
from cvtrace.tracer.user import User, acting_as

META: Final = "meta.json"
EVENTS_BLOCKS: Final = "events.blocks"
TEXTS_BLOCKS: Final = "texts.blocks"
EVENTS_PARQUET: Final = "events.parquet"
TEXTS_PARQUET: Final = "texts.parquet"
TEMPORARY: Final = ".new"
NODES_PARQUET: Final = "nodes.parquet"
PROFILE_PREFIX: Final = "ort-profile"
PROFILES: Final = tuple(f"{PROFILE_PREFIX}-{number}.json" for number in range(1, 17))
FILES: Final = (META, EVENTS_BLOCKS, TEXTS_BLOCKS, EVENTS_PARQUET, TEXTS_PARQUET, NODES_PARQUET, *PROFILES)


class Folder:
    """An open trace folder that belongs to `owner`."""

    def __init__(self, path: Path, fd: int, owner: User | None) -> None:
        self.path = path
        self.fd = fd
        self.owner = owner

    def create(self, name: str) -> int:
        """Create a new file and return its descriptor, opened for reading and writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with acting_as(self.owner):
            return os.open(name, flags, 0o666, dir_fd=self.fd)

    def replace(self, old: str, new: str) -> None:
        """Rename a file of the folder over another one."""
        with acting_as(self.owner):
            os.replace(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Remove a file of the folder; none is fine."""
        with acting_as(self.owner), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def write_whole(self, name: str, data: bytes, *, durable: bool) -> None:
        """Write a file so that readers see the old or the new content, whole, whenever this process dies.

        `durable` waits for the disk, so that this holds for a crash of the machine too.
        """
        temporary = name + TEMPORARY
        self.remove(temporary)
        fd = self.create(temporary)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(fd)
            self.replace(temporary, name)
        except OSError:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise

    def remove_itself(self) -> None:
        """Remove the folder if it is empty."""
        with acting_as(self.owner), contextlib.suppress(OSError):
            self.path.rmdir()

    def close(self) -> None:
        """Close the folder, which also lets go of its lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def create_folder(path: Path, owner: User | None, *, force: bool) -> Folder:
    """Create the folder of a new trace, as `owner`, and lock it.

    With `force` the files of an earlier trace are removed from it (other files stay); a folder that is
    neither a trace nor empty is left alone. Raises TraceExists or TraceUnwritable with one sentence.
    """
    try:
        if not path.name:
            raise _exists(path)
        with acting_as(owner):
            folder = Folder(path, _open_new(path, force), owner)
        try:
            _lock(folder)
            if force:
                _clear(folder)
        except BaseException:
            folder.close()
            raise
        return folder
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise TraceUnwritable(f"cannot create {path}: {reason}; choose another folder with -o DIR") from None


def _open_new(path: Path, force: bool) -> int:
    directory = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    parent = os.open(path.parent, directory)
    try:
        try:
            os.mkdir(path.name, dir_fd=parent)
        except FileExistsError:
            if not force:
                raise _exists(path) from None
        try:
            return os.open(path.name, directory | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise TraceExists(f"{path} is not a folder: it is left alone; choose another with -o DIR") from None
            raise
    finally:
        os.close(parent)


def _exists(path: Path) -> TraceExists:
    return TraceExists(f"{path} is already there: choose another folder with -o DIR, or replace a trace with --force")


def _lock(folder: Folder) -> None:
    try:
        fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TraceExists(f"{folder.path} is being recorded right now: choose another folder with -o DIR") from None
    except OSError:  # a file system without locks: nothing is lost but this courtesy
        return


def is_locked(path: Path) -> bool:
    """Return whether a recorder is writing the trace `path` right now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _clear(folder: Folder) -> None:
    with acting_as(folder.owner):
        present = os.listdir(folder.fd)  # noqa: PTH208 - pathlib knows no descriptors
        if not present:
            return
        if not _is_trace(folder.fd):
            raise TraceExists(f"{folder.path} is not a trace: it is left alone even with --force")
    for name in FILES:
        folder.remove(name)
        folder.remove(name + TEMPORARY)


def _is_trace(fd: int) -> bool:
    meta = read_meta_at(fd)
    return isinstance(meta, dict) and str(meta.get("schema", "")).startswith("cvtrace-trace/")


def read_meta_at(fd: int) -> Any:
    """Return the parsed meta.json of the folder `fd`, or None if there is none that can be parsed."""
    try:
        meta_fd = os.open(META, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return None
    with os.fdopen(meta_fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(meta_fd).st_mode):
            return None
        try:
            return json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            return None
