"""Opening files where other users may have put something else: by descriptor, never following a link of theirs.

A trace comes from elsewhere, and a report may go into a folder that another user can write. A name says nothing then:
between a look at it and its use it can become a link, a FIFO or a device. So a folder is opened once, and what is in it is
reached through its descriptor, by names without a slash. A file is opened for reading only after it is known to be a
regular one (opening a device or a FIFO can already have an effect).

For root there is one rule more: on the way to a folder only links of root's own are followed. A process with the rights of a
user follows what that user could follow anyway.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PLACE: Final = getattr(os, "O_PATH", 0)
"""Open as a place only, which has no effect on what is there (Linux)."""
OWN_FILES: Final = "/proc/self/fd"

OPENAT2: Final = 437
"""Number of openat2(2), the same on every architecture; Linux 5.6."""
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
MOST_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""

_libc = ctypes.CDLL(None, use_errno=True)


class Unsafe(OSError):
    """What is there is not opened; `strerror` says why, in words that go on after "cannot read X: "."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EPERM, reason)


class NotRegular(Unsafe):
    """It is a folder, a FIFO, a device or a socket."""


class WrongPlace(Unsafe):
    """It lies where it should not."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_folder(path: Path | str) -> int:
    """Open a folder and return its descriptor. Raises OSError, Unsafe for root where a link of another user is on the way."""
    if not _is_root():
        return os.open(path, FOLDER)
    try:
        return _openat2(None, os.fspath(path), FOLDER, RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EAGAIN):
            raise
    return _walk(os.fspath(path))


def open_below(folder: int, name: str) -> int:
    """Open the folder `name` of an open folder, which is no link. Raises OSError."""
    return _beneath(folder, name, FOLDER | os.O_NOFOLLOW)


def open_below_or_linked(folder: int, name: str) -> int:
    """Open the folder `name` of an open folder, or where a link of that name leads; root follows its own links only."""
    if not _is_root():
        return os.open(name, FOLDER, dir_fd=folder)
    return _walk(name, folder)


def open_regular(folder: int, name: str, most_bytes: int | None = None) -> BinaryIO:
    """Open a regular file of an open folder for reading.

    Raises Unsafe if it is a link, no regular file, larger than `most_bytes`, or a hard link to a file of another user than
    the folder's; OSError if it cannot be opened.
    """
    place = -1
    if PLACE and os.path.isdir(OWN_FILES):  # noqa: PTH112
        place = _beneath(folder, name, PLACE | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if place >= 0:
            _check_regular(os.fstat(place), folder, name, most_bytes)
            fd = os.open(f"{OWN_FILES}/{place}", READ & ~os.O_NOFOLLOW)
        else:
            fd = _beneath(folder, name, READ)
    finally:
        if place >= 0:
            os.close(place)
    try:
        _check_regular(os.fstat(fd), folder, name, most_bytes)
    except OSError:
        os.close(fd)
        raise
    return os.fdopen(fd, "rb")


def open_followed(path: Path | str, is_allowed: Callable[[int], bool] = lambda _: True) -> BinaryIO:
    """Open a regular file for reading, through links, too: one that the user, or a trace, names by its path.

    `is_allowed` is shown a descriptor of the place before the file is opened. Raises NotRegular, WrongPlace if that says no, or
    OSError.
    """
    known = PLACE and os.path.isdir(OWN_FILES)  # noqa: PTH112
    place = os.open(path, PLACE | os.O_CLOEXEC if known else READ & ~os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise NotRegular("it is not a regular file")
        if not is_allowed(place):
            raise WrongPlace("it leads elsewhere")
        return os.fdopen(os.open(f"{OWN_FILES}/{place}", READ & ~os.O_NOFOLLOW) if known else os.dup(place), "rb")
    finally:
        os.close(place)


@contextlib.contextmanager
def replacing(folder: int, name: str) -> Iterator[BinaryIO]:
    """Write a new file of an open folder that takes the place of `name` when all is written; nothing is left if that fails."""
    part = f".{name[:100]}.{secrets.token_hex(4)}.part"
    fd = os.open(part, NEW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as stream:
            yield stream
        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise


def open_special(folder: int, name: str) -> BinaryIO | None:
    """Open a terminal, pipe or other stream for writing; None for what is none: a file, a folder, nothing.

    Raises Unsafe for root if a link that leads there, or the pipe itself, is another user's.
    """
    try:
        entry = os.stat(name, dir_fd=folder, follow_symlinks=False)
        place = os.open(name, (PLACE or os.O_WRONLY | os.O_NONBLOCK) | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(place)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return None
        if stat.S_ISBLK(status.st_mode):
            raise Unsafe("it is a disk")
        if _is_root() and (entry.st_uid not in _own_uids() or not _is_stream_of_ours(status)):
            raise Unsafe("it belongs to another user")
        return os.fdopen(os.open(f"{OWN_FILES}/{place}" if PLACE else name, os.O_WRONLY | os.O_CLOEXEC), "wb")
    finally:
        os.close(place)


def _is_stream_of_ours(status: os.stat_result) -> bool:
    """Return whether root may write there: a character device is whose it is, a FIFO in a folder may have been planted."""
    return stat.S_ISCHR(status.st_mode) or status.st_uid in _own_uids()


def _check_regular(status: os.stat_result, folder: int, name: str, most_bytes: int | None) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Unsafe(f"{name} is a link, which is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise Unsafe(f"{name} is not a regular file")
    if _is_root() and status.st_nlink > 1 and status.st_uid != os.fstat(folder).st_uid:
        raise Unsafe(f"{name} is a second name of a file of another user")
    if most_bytes is not None and status.st_size > most_bytes:
        raise Unsafe(f"{name} has {status.st_size:,} bytes, and cvtrace reads {most_bytes:,} at most")


def _beneath(folder: int, name: str, flags: int) -> int:
    if not name or "/" in name or name in (".", ".."):
        raise Unsafe(f"{name!r} is not the name of a file")
    try:
        return _openat2(folder, name, flags, RESOLVE_BENEATH | (0 if flags & PLACE else RESOLVE_NO_SYMLINKS))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unsafe(f"{name} is a link, which is not followed") from None
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EAGAIN):
            raise
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unsafe(f"{name} is a link, which is not followed") from None
        raise


def _walk(path: str, base: int | None = None) -> int:
    """Open a folder step by step, from the folder `base` on: what openat2 does, and links of root's are followed."""
    parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    passing = (PLACE or os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open("/" if path.startswith("/") else ".", passing, dir_fd=base)
    links = 0
    try:
        while parts:
            part = parts.pop()
            step = os.open(part, (PLACE or os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                target = _target_of(step, part)
                links += target is not None
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                start = "/" if (target or "").startswith("/") else "."
                following = os.open(start, passing, dir_fd=step if target is None else folder)
            finally:
                os.close(step)
            os.close(folder)
            folder = following
            parts += [each for each in reversed((target or "").split("/")) if each not in ("", ".")]
        return os.open(".", FOLDER, dir_fd=folder)
    finally:
        os.close(folder)


def _target_of(step: int, part: str) -> str | None:
    """Return where a link leads, None for what is no link. Raises Unsafe for one of another user."""
    status = os.fstat(step)
    if not stat.S_ISLNK(status.st_mode):
        return None
    if status.st_uid not in _own_uids():
        raise Unsafe(f"{part} is a link of another user, which root does not follow: name the folder that it leads to")
    return os.readlink("", dir_fd=step)


def _own_uids() -> tuple[int, int]:
    return 0, os.geteuid()


def _is_root() -> bool:
    """Return whether files are opened with root's rights: not so while this thread acts as another user (setfsuid)."""
    return os.geteuid() == 0 and int(_libc.setfsuid(-1)) == 0


def _openat2(folder: int | None, name: str, flags: int, resolve: int) -> int:
    at = -100 if folder is None else folder  # AT_FDCWD
    how = _How(flags, 0, resolve)
    fd: int = _libc.syscall(
        ctypes.c_long(OPENAT2),
        ctypes.c_int(at),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return fd
