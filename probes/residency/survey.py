"""Files on CVMFS, and how much of each is in the page cache, in the client's disk cache, or nowhere on this machine.

Looking must not change what is looked at. To ask for a file's residency in the page cache, it has to be opened, and a client fetches an
unchunked file when it is opened. So such a file is opened only if the client's cache holds it. The client is asked in child processes:
one that hangs does not hang this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cvtrace.probes.cvmfs.deadline import NoAnswer, within
from cvtrace.probes.cvmfs.mounts import Mount, MountPoint
from cvtrace.probes.probe import CannotObserve
from cvtrace.probes.residency.objects import Object, cached_objects, objects_of
from cvtrace.probes.residency.page_cache import cached_bytes

ANSWER_S: Final = 30.0
MOST_FILES: Final = 20_000
MOST_ANSWER_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class File:
    """A regular file on a CVMFS mount."""

    path: str
    device: int
    inode: int
    size: int
    objects: tuple[Object, ...] | None
    """None if the client does not list them."""


@dataclass(frozen=True)
class FileResidency:
    """Where the bytes of a file are; None where that is not known."""

    file: File
    page_cache: tuple[int, ...] | None
    """Bytes of each object in the page cache; a file whose objects are not known counts as one."""
    cached: tuple[bool, ...] | None
    """Whether the client's disk cache holds each object."""

    @property
    def page_cache_bytes(self) -> int | None:
        return None if self.page_cache is None else sum(self.page_cache)

    @property
    def client_cache_bytes(self) -> int | None:
        if self.cached is None or self.file.objects is None:
            return None
        return sum(each.size for each, is_cached in zip(self.file.objects, self.cached, strict=True) if is_cached)

    @property
    def remote_bytes(self) -> int | None:
        """Bytes that are in neither cache: reading them fetches from the network."""
        if self.cached is None or self.file.objects is None:
            return None
        resident = self.page_cache or (0,) * len(self.cached)
        parts = zip(self.file.objects, self.cached, resident, strict=True)
        return sum(each.size - pages for each, is_cached, pages in parts if not is_cached)


class NotLookedAt(CannotObserve):
    """A path that is not on a CVMFS mount, cannot be read, or whose client does not answer: one sentence."""


def files_of(
    paths: Sequence[str], points: Sequence[MountPoint | Mount], switch: Callable[[], None], seconds: float = ANSWER_S
) -> list[File]:
    """Return the files that the paths name, folders with all that is below them; links are followed as far as they lead to CVMFS mounts.

    `points` are those mounts, `switch` gives the child the rights of the user who called. Raises NotLookedAt, FileNotFoundError with a sentence.
    """
    devices = [point.device for point in points]
    try:
        rows = within(seconds, partial(_listed, tuple(paths), devices, switch), MOST_ANSWER_BYTES)
    except NoAnswer as failure:
        raise NotLookedAt(
            f"{paths[0]} does not answer within {seconds:.0f} s ({failure}): look at the mount with `cvtrace doctor`"
        ) from None
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise NotLookedAt(failure.strerror or str(failure)) from None
    return [
        File(path, device, inode, size, None if objects is None else tuple(Object(*each) for each in objects))
        for path, device, inode, size, objects in rows
    ]


def _listed(paths: Sequence[str], devices: Sequence[int], switch: Callable[[], None]) -> list[list[Any]]:
    """In the child."""
    switch()
    rows: dict[tuple[int, int], list[Any]] = {}
    not_on_cvmfs = 0
    for path in paths:
        for name in _below(path):
            status = Path(name).stat()
            if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) in rows:
                continue
            if status.st_dev not in devices:
                if name == path:
                    raise OSError(None, f"{path} is not on a CVMFS mount: `cvtrace doctor` lists the mounts")
                not_on_cvmfs += 1
                continue
            if not os.access(name, os.R_OK):
                raise OSError(None, f"{name} cannot be read by this user")
            if len(rows) >= MOST_FILES:
                raise OSError(None, f"{path} holds more than {MOST_FILES:,} files: name a folder below it")
            objects = objects_of(name)
            listed = None if objects is None else [[each.hash, each.offset, each.size] for each in objects]
            rows[status.st_dev, status.st_ino] = [name, status.st_dev, status.st_ino, status.st_size, listed]
    if not rows and (not_on_cvmfs or all(Path(path).stat().st_dev not in devices for path in paths)):
        raise OSError(None, f"no file in {paths[0]} is on a CVMFS mount: `cvtrace doctor` lists the mounts")
    return list(rows.values())


def _below(path: str) -> Iterator[str]:
    try:
        if not stat.S_ISDIR(Path(path).stat().st_mode):
            yield path
            return
    except OSError as failure:
        reason = (
            f"there is no {path}" if failure.errno == errno.ENOENT else f"{path}: {os.strerror(failure.errno or 0)}"
        )
        raise OSError(failure.errno, reason) from None
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (f"{folder}/{name}" for name in sorted(names) if os.path.exists(f"{folder}/{name}"))  # noqa: PTH110


def residency(files: Sequence[File], mounts: Sequence[Mount]) -> list[FileResidency]:
    """Return where the bytes of the files are at this moment. Raises NotLookedAt if a client does not answer."""
    cached = client_caches(files, mounts)
    ranges = [[(each.offset, each.size) for each in file.objects or (Object("", 0, file.size),)] for file in files]
    resident = resident_bytes(files, ranges, cached)
    return [FileResidency(*parts) for parts in zip(files, resident, cached, strict=True)]


def client_caches(files: Sequence[File], mounts: Sequence[Mount]) -> list[tuple[bool, ...] | None]:
    """Return for each file whether the cache of its client holds each of its objects; None where that is not known."""
    held: dict[int, dict[str, int] | None] = {}
    for mount in mounts:
        hashes = {each.hash for file in files if file.device == mount.device for each in file.objects or ()}
        held[mount.device] = cached_objects(mount.daemon.pid, hashes) if mount.daemon is not None and hashes else None
    rows: list[tuple[bool, ...] | None] = []
    for file in files:
        sizes = held.get(file.device)
        rows.append(
            None
            if sizes is None or file.objects is None
            else tuple(sizes.get(each.hash) == each.size for each in file.objects)
        )
    return rows


def resident_bytes(
    files: Sequence[File], ranges: Sequence[Sequence[tuple[int, int]]], cached: Sequence[tuple[bool, ...] | None]
) -> list[tuple[int, ...] | None]:
    """Return the bytes of each range (offset, size) of each file in the page cache; None for a file that was not opened, or not told.

    Raises NotLookedAt if a client does not answer.
    """
    opened = [number for number, file in enumerate(files) if _opens_without_fetch(file, cached[number])]
    chosen = [
        (files[number].path, files[number].device, files[number].inode, list(ranges[number])) for number in opened
    ]
    try:
        answers = within(ANSWER_S, partial(_resident, chosen), MOST_ANSWER_BYTES) if chosen else []
    except (NoAnswer, OSError) as failure:
        raise NotLookedAt(f"the page cache could not be looked at: {failure}") from None
    by_number = dict(zip(opened, answers, strict=True))
    return [None if by_number.get(number) is None else tuple(by_number[number]) for number in range(len(files))]


def _opens_without_fetch(file: File, cached: tuple[bool, ...] | None) -> bool:
    """Return whether open(2) makes the client fetch nothing: chunks are fetched by reads, a whole file by the open itself."""
    if file.size == 0 or file.objects is None:
        return False
    return len(file.objects) > 1 or (cached is not None and all(cached))


def _resident(chosen: Sequence[tuple[str, int, int, list[tuple[int, int]]]]) -> list[list[int] | None]:
    """In the child."""
    rows: list[list[int] | None] = []
    for path, device, inode, ranges in chosen:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            rows.append(None)
            continue
        try:
            status = os.fstat(fd)
            same = (status.st_dev, status.st_ino) == (device, inode) and stat.S_ISREG(status.st_mode)
            rows.append(cached_bytes(fd, ranges) if same else None)
        finally:
            os.close(fd)
    return rows


def drop_pages(files: Sequence[File]) -> None:
    """Have the kernel drop the clean pages of files (posix_fadvise(2)). Raises NotLookedAt if a client does not answer.

    The open of a file that is not chunked may fetch it: empty the client's cache afterwards. A file that cannot be opened is left as it is.
    """
    try:
        within(ANSWER_S, partial(_drop, [file.path for file in files if file.size]))
    except NoAnswer as failure:
        raise NotLookedAt(f"the pages of the files could not be dropped: {failure}") from None


def _drop(paths: Sequence[str]) -> None:
    """In the child."""
    for path in paths:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
