"""The tree that is published: the folder as found, planted among what the repository already has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cvtrace.lab.errors import LabError
from cvtrace.lab.publish.catalog import Entry
from cvtrace.lab.publish.objects import Compression


@dataclass(frozen=True)
class SourceItem:
    """A path of the source folder; a regular file has no content in its entry yet."""

    entry: Entry
    source: Path

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.entry.mode)


def walk(source: Path, at: bytes, compression: Compression) -> Iterator[SourceItem]:
    """Yield everything below `source` as it will be found below `at`, directories before what is in them.

    Raises LabError for what cannot be read and for sockets, pipes and devices, which a model does not have.
    """
    pending = [(source, at)]
    while pending:
        folder, path = pending.pop()
        yield SourceItem(_entry(folder, path, folder.stat(), compression), folder)
        try:
            inside = sorted(folder.iterdir())
        except OSError as error:
            raise LabError(f"cannot read {folder}: {error.strerror}") from error
        for item in inside:
            below, status = path + b"/" + os.fsencode(item.name), item.lstat()
            if stat.S_ISDIR(status.st_mode):
                pending.append((item, below))
            else:
                yield SourceItem(_entry(item, below, status, compression), item)


def file_in(source: Path, at: bytes, compression: Compression) -> SourceItem:
    """Return a file as it will be found in the directory `at`; a link is taken as what it leads to."""
    return SourceItem(_entry(source, at + b"/" + os.fsencode(source.name), source.stat(), compression), source)


def plant(at: bytes, before: list[Entry], mtime_ns: int) -> list[Entry]:
    """Return what stands beside the new tree at `at`: old entries outside of it, directories that lead to it.

    Sorted by path, so the root comes first: cvmfs2 takes row 1 of the catalog for it (GetRootInode in catalog_mgr.h).
    Raises LabError when a file is in the way.
    """
    if at == b"":
        return []
    entries = {entry.path: entry for entry in before if entry.path != at and not entry.path.startswith(at + b"/")}
    parent = at
    while parent:
        parent = parent.rpartition(b"/")[0]
        entry_there = entries.get(parent)
        if entry_there is not None and not entry_there.is_directory:
            raise LabError(f"{os.fsdecode(parent)} is a file in the repository; publish at another path")
        entries.setdefault(parent, Entry(parent, stat.S_IFDIR | 0o755, 4096, mtime_ns))
    return [entries[path] for path in sorted(entries)]


def parse_at(at: str) -> bytes:
    """Return the path of the repository that `at` names: b"" for "/". Raises LabError."""
    parts = [part for part in at.split("/") if part]
    if not at.startswith("/") or "." in parts or ".." in parts or "\0" in at:
        raise LabError(f"'{at}' is not a path of a repository; it begins with / and has no '.' or '..' in it")
    return os.fsencode("".join(f"/{part}" for part in parts))


def _entry(source: Path, path: bytes, status: os.stat_result, compression: Compression) -> Entry:
    entry = Entry(
        path=path,
        mode=status.st_mode,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        compression=compression,
    )
    if stat.S_ISLNK(status.st_mode):
        return replace(entry, symlink=os.fsencode(source.readlink()))
    if stat.S_ISDIR(status.st_mode):
        # The root of the repository is where everybody enters, whatever the folder it came from allowed.
        return replace(entry, size_bytes=4096, mode=status.st_mode | (0o555 if path == b"" else 0))
    if not stat.S_ISREG(status.st_mode):
        raise LabError(
            f"{source} is neither a file nor a directory nor a link; only those can be published, so remove it"
        )
    return entry
