"""Objects: named by what is stored, stored once."""

import hashlib
import zlib
from pathlib import Path

import pytest

from cvtrace.lab.publish.chunker import Span, is_chunked, spans
from cvtrace.lab.publish.objects import ObjectStore, Suffix, object_path


def test_name_is_the_hash_of_the_compressed_bytes(tmp_path: Path) -> None:
    # GIVEN
    store = ObjectStore(tmp_path)

    # WHEN
    stored = store.add(b"weights" * 1000, Suffix.CHUNK)

    # THEN
    on_disk = (tmp_path / object_path(stored.digest, Suffix.CHUNK)).read_bytes()
    assert hashlib.sha1(on_disk).digest() == stored.digest
    assert zlib.decompress(on_disk) == b"weights" * 1000
    assert stored.stored_bytes == len(on_disk)
    assert object_path(bytes(20), Suffix.CATALOG) == "data/00/" + "0" * 38 + "C"


def test_empty_file_is_an_object_like_any_other(tmp_path: Path) -> None:
    # WHEN
    plain = ObjectStore(tmp_path).add(b"", Suffix.FILE, "none")
    packed = ObjectStore(tmp_path).add(b"", Suffix.FILE, "zlib")

    # THEN the hash is the one every publisher computes
    assert plain.digest.hex() == "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    assert zlib.decompress((tmp_path / object_path(packed.digest, Suffix.FILE)).read_bytes()) == b""


def test_same_content_is_stored_once_and_a_cut_object_is_replaced(tmp_path: Path) -> None:
    # GIVEN
    first = ObjectStore(tmp_path).add(b"x" * 100, Suffix.FILE, "none")
    path = tmp_path / object_path(first.digest, Suffix.FILE)

    # WHEN the object is there, and when it was left incomplete
    again = ObjectStore(tmp_path).add(b"x" * 100, Suffix.FILE, "none")
    path.write_bytes(b"x" * 99)
    mended = ObjectStore(tmp_path).add(b"x" * 100, Suffix.FILE, "none")

    # THEN
    assert (first.added, again.added, mended.added) == (True, False, True)
    assert path.read_bytes() == b"x" * 100
    assert list((tmp_path / "data" / "txn").iterdir()) == []


@pytest.mark.parametrize(
    "size, chunk, expected",
    [
        (0, 4, [Span(0, 0)]),
        (3, 4, [Span(0, 3)]),
        (4, 4, [Span(0, 4)]),
        (5, 4, [Span(0, 4), Span(4, 1)]),
        (8, 4, [Span(0, 4), Span(4, 4)]),
    ],
)
def test_spans_cover_the_file_exactly(size: int, chunk: int, expected: list[Span]) -> None:
    # WHEN / THEN
    assert spans(size, chunk) == expected
    assert is_chunked(size, chunk) == (len(expected) > 1)
