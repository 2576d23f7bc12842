"""The catalogs: SQLite files that say which paths exist, what they are, and which objects hold their content.

Format: schema 2.5 of CVMFS. A path is found by its MD5, of which each half is stored as a signed 64-bit integer.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cvtrace.lab.client.content import ALGORITHMS, Hash
from cvtrace.lab.errors import LabError

_INODE_OFFSET: Final = 255
"""Inodes are this plus the row's number, beyond the numbers of the catalogs loaded before. The root is 256, as in the client."""

_FLAG_NESTED_MOUNTPOINT: Final = 2
_FLAG_CHUNKED: Final = 64
_FLAG_HIDDEN: Final = 0x8000
_FLAG_BUNDLE_TRIGGER: Final = 1 << 17
_HASH_SHIFT: Final = 8
_COMPRESSION_SHIFT: Final = 11

Row = tuple[Any, ...]
"""A row of the catalog, in the order of `_COLUMNS`; the types are those of the schema."""

_COLUMNS: Final = "rowid, name, mode, size, mtime, mtimens, hardlinks, hash, flags, symlink, uid, gid"


@dataclass(frozen=True, slots=True)
class Entry:
    """A path of the repository."""

    path: str
    """From the repository's root; empty for the root itself."""
    inode: int
    mode: int
    size_bytes: int
    mtime_s: int
    mtime_ns: int
    links: int
    uid: int
    gid: int
    hash: Hash | None
    compressed: bool
    chunked: bool
    symlink: str
    bundle_trigger: bool = False
    """Opening it has the files of its bundle prefetched."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a chunked file; offset and size count uncompressed bytes."""

    offset: int
    size_bytes: int
    hash: Hash


@dataclass(frozen=True)
class _Catalog:
    mountpoint: str
    hash: Hash
    inode_offset: int
    database: sqlite3.Connection
    nested: dict[str, Hash]


def md5_halves(path: str) -> tuple[int, int]:
    """Return the key of a path in the catalog."""
    first, second = struct.unpack("<qq", hashlib.md5(os.fsencode(path), usedforsecurity=False).digest())
    return first, second


class Catalogs:
    """The root catalog and the nested ones met so far; `fetch(hash, mountpoint)` returns a descriptor of a catalog's file, `close` closes it."""

    def __init__(self, root: Hash, fetch: Callable[[Hash, str], int], close: Callable[[int], None] = os.close) -> None:
        self._fetch = fetch
        self._close = close
        self._lock = threading.RLock()
        self._catalogs: dict[str, _Catalog] = {}
        self._entries: dict[str, Entry | None] = {}
        self._next_inode = _INODE_OFFSET + 1
        self._load(root, "")

    @property
    def loaded(self) -> int:
        """How many catalogs are loaded."""
        return len(self._catalogs)

    @property
    def last_inode(self) -> int:
        """The highest inode given out so far."""
        return self._next_inode - 1

    def lookup(self, path: str) -> Entry | None:
        """Return what is at a path, or None; raises OSError when a nested catalog cannot be had."""
        with self._lock:
            if path not in self._entries:
                row = self._row(path)
                self._entries[path] = None if row is None else self._entry(self._holding(path), path, row)
            return self._entries[path]

    def listing(self, path: str) -> list[Entry]:
        """Return the entries of a directory, sorted by name."""
        with self._lock:
            catalog = self._holding(path)
            rows = catalog.database.execute(
                f"SELECT {_COLUMNS} FROM catalog WHERE parent_1 = ? AND parent_2 = ? ORDER BY name", md5_halves(path)
            ).fetchall()
            entries = []
            for row in rows:
                child = f"{path}/{row[1]}"
                if row[8] & _FLAG_HIDDEN or child == path + "/":
                    continue
                if row[8] & _FLAG_NESTED_MOUNTPOINT:  # its row in the nested catalog gives the inode
                    entry = self.lookup(child) or self._entry(catalog, child, row)
                else:
                    entry = self._entry(catalog, child, row)
                    self._entries[child] = entry
                entries.append(entry)
            return entries

    def chunks(self, entry: Entry) -> list[Chunk]:
        """Return the chunks of a chunked file, in order."""
        with self._lock:
            database = self._holding(entry.path).database
            key = md5_halves(entry.path)
            (flags,) = database.execute(
                "SELECT flags FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", key
            ).fetchone()
            rows = database.execute(
                "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset", key
            ).fetchall()
        return [Chunk(offset, size, _hash(digest, flags)) for offset, size, digest in rows]

    def counters(self) -> dict[str, int]:
        """Return the statistics of the repository: the root catalog's own plus everything below."""
        with self._lock:
            rows = self._catalogs[""].database.execute("SELECT counter, value FROM statistics").fetchall()
        totals: dict[str, int] = {}
        for counter, value in rows:
            name = counter.partition("_")[2]
            totals[name] = totals.get(name, 0) + value
        return totals

    def _row(self, path: str) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        row: Row | None = self._holding(path).database.execute(query, md5_halves(path)).fetchone()
        return row

    def _holding(self, path: str) -> _Catalog:
        """Return the catalog that describes a path, loading nested ones on the way down."""
        catalog = self._catalogs[""]
        while True:
            for mountpoint, hash_ in catalog.nested.items():
                if path == mountpoint or path.startswith(mountpoint + "/"):
                    catalog = self._catalogs.get(mountpoint) or self._load(hash_, mountpoint)
                    break
            else:
                return catalog

    def _load(self, hash_: Hash, mountpoint: str) -> _Catalog:
        fd = self._fetch(hash_, mountpoint)
        try:
            # SQLite reads single pages, with pread, from the object in the cache, as it does in the client.
            database = sqlite3.connect(f"file:/proc/self/fd/{fd}?immutable=1", uri=True, check_same_thread=False)
            database.text_factory = os.fsdecode  # names need not be UTF-8
            (highest,) = database.execute("SELECT max(rowid) FROM catalog").fetchone()
            nested = dict(database.execute("SELECT path, sha1 FROM nested_catalogs").fetchall())
        except sqlite3.Error as error:
            raise LabError(f"the catalog {hash_} is damaged: publish the repository again") from error
        finally:
            self._close(fd)
        catalog = _Catalog(
            mountpoint,
            hash_,
            self._next_inode - 1,
            database,
            {path: Hash.parse(digits) for path, digits in nested.items()},
        )
        self._next_inode += highest or 0
        self._catalogs[mountpoint] = catalog
        return catalog

    def _entry(self, catalog: _Catalog, path: str, row: Row) -> Entry:
        rowid, _, mode, size, mtime, mtime_ns, links, digest, flags, symlink, uid, gid = row
        target = str(symlink or "")
        return Entry(
            path=path,
            inode=catalog.inode_offset + rowid,
            mode=mode,
            size_bytes=len(os.fsencode(target)) if stat.S_ISLNK(mode) else size,
            mtime_s=mtime,
            mtime_ns=mtime_ns or 0,
            links=max(1, links & 0xFFFFFFFF),
            uid=uid,
            gid=gid,
            hash=_hash(digest, flags) if digest else None,
            compressed=flags >> _COMPRESSION_SHIFT & 7 == 0,
            chunked=bool(flags & _FLAG_CHUNKED),
            symlink=target,
            bundle_trigger=bool(flags & _FLAG_BUNDLE_TRIGGER),
        )


def _hash(digest: bytes, flags: int) -> Hash:
    return Hash(digest.hex(), ALGORITHMS[flags >> _HASH_SHIFT & 7])
