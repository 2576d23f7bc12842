"""The catalog: keys and rows that a client queries."""

import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cvtrace.lab.publish.catalog import (
    FLAG_CHUNKED,
    FLAG_DIRECTORY,
    FLAG_FILE,
    FLAG_SYMLINK,
    NO_COMPRESSION,
    Chunk,
    Entry,
    path_key,
    read_catalog,
    statistics,
    write_catalog,
)

ROOT = Entry(b"", stat.S_IFDIR | 0o755, 4096, 1_000_000_007)
FOLDER = Entry(b"/model", stat.S_IFDIR | 0o755, 4096, 2)
FILE = Entry(b"/model/config.json", stat.S_IFREG | 0o644, 5, 3, digest=b"\x01" * 20)
WEIGHTS = Entry(
    b"/model/latin\xe9",
    stat.S_IFREG | 0o444,
    12,
    4,
    chunks=(Chunk(0, 8, b"\x02" * 20), Chunk(8, 4, b"\x03" * 20)),
    compression="none",
)
LINK = Entry(b"/link", stat.S_IFLNK | 0o777, 12, 5, symlink=b"model/latin\xe9")
TREE = [ROOT, FOLDER, FILE, WEIGHTS, LINK]


def write(tmp_path: Path) -> Path:
    file = tmp_path / "catalog"
    write_catalog(file, TREE, revision=3, previous="ab" * 20, now_s=1234)
    return file


def test_path_key_is_the_md5_in_two_signed_numbers() -> None:
    # THEN the root is md5(""), d41d8cd98f00b204 e9800998ecf8427e, little-endian
    assert path_key(b"") == (0x04B2008FD98C1DD4, 0x7E42F8EC980980E9)
    assert all(-(2**63) <= half < 2**63 for half in path_key(b"/a"))


def test_rows_have_the_values_that_a_client_queries(tmp_path: Path) -> None:
    # GIVEN
    file = write(tmp_path)

    # WHEN
    with closing(sqlite3.connect(file)) as db:
        db.text_factory = bytes
        rows = {
            row[0]: row[1:]
            for row in db.execute(
                "SELECT name, flags, hardlinks, hash, symlink, mtime, mtimens, parent_1, parent_2 FROM catalog"
            )
        }
        properties = dict(db.execute("SELECT key, value FROM properties"))
        types = {row[0] for row in db.execute("SELECT typeof(name) FROM catalog")}

    # THEN
    assert rows[b""] == (FLAG_DIRECTORY, 3, None, b"", 1, 7, 0, 0)
    assert rows[b"model"][:2] == (FLAG_DIRECTORY, 2)
    assert rows[b"config.json"][:4] == (FLAG_FILE, 1, b"\x01" * 20, b"")
    assert rows[b"latin\xe9"][:3] == (FLAG_FILE | FLAG_CHUNKED | NO_COMPRESSION, 1, None)
    assert rows[b"link"][:4] == (FLAG_FILE | FLAG_SYMLINK, 1, None, b"model/latin\xe9")
    assert rows[b"config.json"][6:] == path_key(b"/model")
    assert properties[b"schema"] == b"2.5"
    assert properties[b"schema_revision"] == b"7"
    assert properties[b"revision"] == b"3"
    assert properties[b"previous_revision"] == b"ab" * 20
    assert b"root_prefix" not in properties
    assert types == {b"text"}


def test_a_written_catalog_is_read_back(tmp_path: Path) -> None:
    # WHEN
    entries = read_catalog(write(tmp_path))

    # THEN
    assert sorted(entries, key=lambda entry: entry.path) == sorted(TREE, key=lambda entry: entry.path)
    assert [entry.path for entry in entries].index(b"/model") < [e.path for e in entries].index(FILE.path)


def test_statistics_count_every_entry_once() -> None:
    # WHEN
    count = statistics(TREE)

    # THEN
    assert len(count) == 24
    assert {name: value for name, value in count.items() if value} == {
        "self_dir": 2,
        "self_regular": 2,
        "self_symlink": 1,
        "self_file_size": 17,
        "self_chunked": 1,
        "self_chunks": 2,
        "self_chunked_size": 12,
    }


IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""SQLite waits for the disk at each commit."""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=255).filter(lambda n: not set(n) & {0, 47}), unique=True))
def test_any_file_name_is_read_back(names: list[bytes]) -> None:
    # GIVEN
    entries = [ROOT] + [Entry(b"/" + name, stat.S_IFREG | 0o644, 0, 0, digest=bytes(20)) for name in names]

    # WHEN
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        file = Path(folder) / "catalog"
        write_catalog(file, entries, revision=1, previous="", now_s=0)
        paths = {entry.path for entry in read_catalog(file)}

    # THEN
    assert paths == {entry.path for entry in entries}
