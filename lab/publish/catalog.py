"""The catalog: an SQLite file with one row per path, schema 2.5 revision 7.

Format: cvmfs catalog_sql.cc, catalog_sql.h, catalog_counters.h.

One catalog holds the whole tree; nested catalogs are not written. Paths are bytes, as in the file system:
names that are not UTF-8 are stored as they are.
"""

from __future__ import annotations

import hashlib
import sqlite3
import stat
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cvtrace.lab.publish.objects import Compression

SCHEMA: Final = "2.5"
SCHEMA_REVISION: Final = "7"

FLAG_DIRECTORY: Final = 1
FLAG_FILE: Final = 4
FLAG_SYMLINK: Final = 8
FLAG_CHUNKED: Final = 64
FLAG_BUNDLE_TRIGGER: Final = 1 << 17  # kFlagBundleTrigger of 2.14; older clients pay no attention to it
COMPRESSION_SHIFT: Final = 11  # three bits: 0 zlib, 1 none. The bits at 8 to 10 name the hash: 0 is SHA-1
NO_COMPRESSION: Final = 1 << COMPRESSION_SHIFT

COUNTERS: Final = (
    "regular", "symlink", "special", "dir", "nested", "chunked", "chunks", "file_size", "chunked_size",
    "xattr", "external", "external_file_size",
)  # fmt: skip
"""What the statistics table counts, for the catalog itself (self_) and for those nested in it (subtree_)."""

_TABLES: Final = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (
  md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER, hash BLOB,
  size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT,
  uid INTEGER, gid INTEGER, xattr BLOB,
  CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (
  md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
  CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size),
  FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog (md5path_1, md5path_2));
CREATE TABLE nested_catalogs (
  path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (
  path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
"""


@dataclass(frozen=True)
class Chunk:
    """A part of a file that is an object of its own."""

    offset: int
    size_bytes: int
    digest: bytes


@dataclass(frozen=True)
class Entry:
    """One path of the repository. A file has either a digest or chunks."""

    path: bytes
    """From the root of the repository: b"" for the root, else b"/a/b"."""
    mode: int
    size_bytes: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0
    digest: bytes | None = None
    chunks: tuple[Chunk, ...] = ()
    symlink: bytes = b""
    compression: Compression = "zlib"
    bundle_trigger: bool = False
    """Clients since 2.14 prefetch the files of its bundle when it is opened."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def parent(self) -> bytes:
        return self.path.rpartition(b"/")[0]


def path_key(path: bytes) -> tuple[int, int]:
    """Return the MD5 of a path as the two signed little-endian numbers by which a catalog finds it."""
    first, second = struct.unpack("<qq", hashlib.md5(path).digest())
    return int(first), int(second)


def write_catalog(file: Path, entries: Iterable[Entry], *, revision: int, previous: str, now_s: int) -> None:
    """Write the catalog of a whole tree into `file`, which must not exist.

    `entries` holds the root and every directory before what is in it; `previous` is the hash of the catalog
    before, or "".
    """
    rows = list(entries)
    subdirectories = Counter(entry.parent for entry in rows if entry.is_directory and entry.path)
    properties = {
        "schema": SCHEMA,
        "schema_revision": SCHEMA_REVISION,
        "revision": str(revision),
        "last_modified": str(now_s),
    }
    if previous:
        properties["previous_revision"] = previous
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA page_size = 1024")  # what the client's page cache is made for
        db.executescript(_TABLES)
        db.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
        db.executemany("INSERT INTO statistics VALUES (?, ?)", statistics(rows).items())
        # Names are cast, not bound as text, because bound text would have to be UTF-8.
        db.executemany(
            "INSERT INTO catalog VALUES (?,?,?,?,?,?,?,?,?,?,?,CAST(? AS TEXT),CAST(? AS TEXT),?,?,NULL)",
            (_row(entry, subdirectories[entry.path]) for entry in rows),
        )
        db.executemany(
            "INSERT INTO chunks VALUES (?,?,?,?,?)",
            (
                (*path_key(entry.path), chunk.offset, chunk.size_bytes, chunk.digest)
                for entry in rows
                for chunk in entry.chunks
            ),
        )


def read_catalog(file: Path) -> list[Entry]:
    """Return the entries of a catalog without nested ones, each directory before what is in it."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = bytes
        chunks: dict[tuple[int, int], list[Chunk]] = {}
        for first, second, *chunk in db.execute("SELECT * FROM chunks ORDER BY offset"):
            chunks.setdefault((first, second), []).append(Chunk(*chunk))
        children: dict[tuple[int, int], list[tuple[bytes, tuple[int, int], Entry]]] = {}
        for row in db.execute("SELECT * FROM catalog"):
            key = (row[0], row[1])
            children.setdefault((row[2], row[3]), []).append((row[11], key, _entry(row, chunks.get(key, []))))
    return list(_tree(children))


def statistics(entries: Iterable[Entry]) -> dict[str, int]:
    """Return the statistics table of a catalog: how many entries of each kind, and their bytes."""
    count = dict.fromkeys(COUNTERS, 0)
    for entry in entries:
        if entry.is_directory:
            count["dir"] += 1
        elif entry.is_symlink:
            count["symlink"] += 1
        else:
            count["regular"] += 1
            count["file_size"] += entry.size_bytes
            count["chunked"] += bool(entry.chunks)
            count["chunks"] += len(entry.chunks)
            count["chunked_size"] += entry.size_bytes if entry.chunks else 0
    self_counts = {f"self_{name}": value for name, value in count.items()}
    return self_counts | dict.fromkeys((f"subtree_{name}" for name in COUNTERS), 0)


def _row(entry: Entry, subdirectories: int) -> tuple[object, ...]:
    parent = path_key(entry.parent) if entry.path else (0, 0)
    links = 2 + subdirectories if entry.is_directory else 1
    mtime_s, mtime_ns = divmod(entry.mtime_ns, 1_000_000_000)
    name = entry.path.rpartition(b"/")[2]
    return (
        *path_key(entry.path), *parent, links, entry.digest, entry.size_bytes, entry.mode, mtime_s, mtime_ns,
        _flags(entry), name, entry.symlink, entry.uid, entry.gid,
    )  # fmt: skip


def _flags(entry: Entry) -> int:
    if entry.is_directory:
        return FLAG_DIRECTORY
    if entry.is_symlink:
        return FLAG_FILE | FLAG_SYMLINK
    compression = NO_COMPRESSION if entry.compression == "none" else 0
    trigger = FLAG_BUNDLE_TRIGGER if entry.bundle_trigger else 0
    return FLAG_FILE | compression | trigger | (FLAG_CHUNKED if entry.chunks else 0)


def _entry(row: tuple[Any, ...], chunks: list[Chunk]) -> Entry:
    """Make an entry of a row; its path is only known when its parents are."""
    _, _, _, _, _, digest, size, mode, mtime_s, mtime_ns, flags, _, symlink, uid, gid, _ = row
    return Entry(
        path=b"",
        mode=mode,
        size_bytes=size,
        mtime_ns=mtime_s * 1_000_000_000 + (mtime_ns or 0),
        uid=uid,
        gid=gid,
        digest=digest,
        chunks=tuple(chunks),
        symlink=symlink,
        compression="none" if flags >> COMPRESSION_SHIFT & 7 else "zlib",
    )


def _tree(children: dict[tuple[int, int], list[tuple[bytes, tuple[int, int], Entry]]]) -> Iterable[Entry]:
    """Walk from the root (whose parent is (0, 0)), giving each entry its path."""
    pending = [(b"", (0, 0))]
    while pending:
        parent, key = pending.pop()
        for name, own_key, entry in children.get(key, []):
            path = b"" if key == (0, 0) else parent + b"/" + name
            yield replace(entry, path=path)
            if entry.is_directory:
                pending.append((path, own_key))
