"""The folder of a trace: created as the user who asked, never over something else.

All files are reached through the descriptor of the folder, by names without a slash, and created with O_EXCL
and O_NOFOLLOW: whatever is renamed or linked around it, nothing outside it is written or removed. The folder is of mode
0700: arguments and paths of the program are in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final

from cvtrace.tracer.errors import TraceExists, TraceUnwritable
from cvtrace.tracer.safe_open import Unsafe, open_below, open_folder, open_regular
from cvtrace.tracer.user import User, acting_as

META: Final = "meta.json"
EVENTS_BLOCKS: Final = "events.blocks"
TEXTS_BLOCKS: Final = "texts.blocks"
EVENTS_PARQUET: Final = "events.parquet"
TEXTS_PARQUET: Final = "texts.parquet"
TEMPORARY: Final = ".new"
NODES_PARQUET: Final = "nodes.parquet"
SAMPLES_PARQUET: Final = "samples.parquet"
FRAMES_PARQUET: Final = "frames.parquet"
TENSORS: Final = "tensors.json"
"""Names and places of the model's tensors, where the user wanted them kept."""
PROFILE_PREFIX: Final = "ort-profile"
PROFILES: Final = tuple(f"{PROFILE_PREFIX}-{number}.json" for number in range(1, 17))
MOST_META_BYTES: Final = 16_000_000
"""The command line is the largest thing in it: `session` keeps at most 1 MB of that."""
MOST_META_VALUES: Final = 1_000_000
"""Each takes some 100 bytes of memory when it is read."""
STACKS: Final = (SAMPLES_PARQUET, FRAMES_PARQUET)
FILES: Final = (
    META,
    EVENTS_BLOCKS,
    TEXTS_BLOCKS,
    EVENTS_PARQUET,
    TEXTS_PARQUET,
    NODES_PARQUET,
    TENSORS,
    *STACKS,
    *PROFILES,
)

SQUASHED: Final = (0, 65534)
"""Whose the files are that root makes; on a network file system, nobody's."""


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
            return os.open(name, flags, 0o600, dir_fd=self.fd)

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
            parent = open_folder(self.path.parent)
            try:
                os.rmdir(self.path.name, dir_fd=parent)
            finally:
                os.close(parent)

    def close(self) -> None:
        """Close the folder, which also lets go of its lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def check_new(path: Path | None, *, force: bool) -> None:
    """Raise TraceExists if something is in the place of a trace that is to be created later, and is not to be replaced."""
    if path is not None and not force and (path.exists() or path.is_symlink()):
        raise _exists(path)


def create_folder(path: Path, owner: User | None, *, force: bool) -> Folder:
    """Create the folder of a new trace, as `owner`, and lock it.

    With `force` the files of an earlier trace are removed from it (other files stay); a folder that is
    neither a trace nor empty is left alone. Raises TraceExists or TraceUnwritable with one sentence.
    """
    try:
        if not path.name:
            raise _exists(path)
        with acting_as(owner):
            folder = Folder(path, _open_new(path, owner, force=force), owner)
        try:
            _lock(folder)
            if force:
                _clear(folder)
        except BaseException:
            folder.close()
            raise
        return folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise TraceUnwritable(f"cannot create {path}: {reason}; choose another folder with -o DIR") from None


def _open_new(path: Path, owner: User | None, *, force: bool) -> int:
    parent = open_folder(path.parent)
    try:
        try:
            os.mkdir(path.name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not force:
                raise _exists(path) from None
        try:
            fd = open_below(parent, path.name)
        except OSError as error:
            if isinstance(error, Unsafe) or error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise TraceExists(f"{path} is not a folder: it is left alone; choose another with -o DIR") from None
            raise
    finally:
        os.close(parent)
    if os.fstat(fd).st_uid not in (os.geteuid() if owner is None else owner.uid, *SQUASHED):
        os.close(fd)
        raise TraceExists(f"{path} is a folder of another user: it is left alone; choose another with -o DIR")
    return fd


def _exists(path: Path) -> TraceExists:
    return TraceExists(f"{path} is already there: choose another folder with -o DIR, or replace a trace with --force")


def _lock(folder: Folder) -> None:
    try:
        fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TraceExists(f"{folder.path} is being recorded right now: choose another folder with -o DIR") from None
    except OSError:  # a file system without locks: nothing is lost but this courtesy
        return


def is_locked(folder: int) -> bool:
    """Return whether a recorder is writing the trace in an open folder right now."""
    try:
        fd = os.open(
            ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder
        )  # locks are of the opening, not the folder
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
    with acting_as(folder.owner), contextlib.suppress(OSError):  # one of an earlier version may be open to others
        os.fchmod(folder.fd, 0o700)


def is_trace(folder: int) -> bool:
    """Return whether a file in the place of meta.json is in an open folder; what it holds is not looked at."""
    try:
        open_regular(folder, META).close()
    except OSError:
        return False
    return True


def _is_trace(fd: int) -> bool:
    try:
        meta = read_meta_at(fd)
    except TooLarge:
        return False
    return isinstance(meta, dict) and str(meta.get("schema", "")).startswith("cvtrace-trace/")


class TooLarge(ValueError):
    """A meta.json that is larger than is read."""


def read_meta_at(fd: int) -> Any:
    """Return the parsed meta.json of the folder `fd`, or None if there is none that can be parsed. Raises TooLarge."""
    try:
        file = open_regular(fd, META)
    except OSError:
        return None
    with file:
        try:
            data = file.read(MOST_META_BYTES + 1)
        except OSError:
            return None
    if len(data) > MOST_META_BYTES:
        raise TooLarge(f"its {META} is larger than the {MOST_META_BYTES // 10**6} MB that are read")
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_META_VALUES:
        raise TooLarge(f"its {META} has more than the {MOST_META_VALUES:,} values that are read")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
