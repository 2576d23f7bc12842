"""Publishing: what is in the store afterwards, read the way a client does."""

import hashlib
import os
import stat
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvtrace.commands.lab_publish import command
from cvtrace.lab.errors import LabError
from cvtrace.lab.publish import Published, publish
from cvtrace.lab.publish.catalog import Entry, read_catalog
from cvtrace.lab.publish.manifest import read_manifest
from cvtrace.lab.publish.objects import Compression, Suffix, object_path

FQRN = "lab.example.org"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "empty").touch()
    (source / "model.onnx.data").write_bytes(bytes(range(256)) * 100)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "deep" / "er" / "file").write_text("deep")
    (source / "link").symlink_to("deep/er/file")
    (source / os.fsdecode(b"latin\xe9")).write_text("name")
    return source


def entries(published: Published, tmp_path: Path) -> dict[bytes, Entry]:
    """Read the catalog through the manifest, checking hashes on the way."""
    manifest = read_manifest(published.store_path / ".cvmfspublished")
    assert manifest is not None
    assert manifest.root_hash == published.root_hash
    assert manifest.revision == published.revision
    file = tmp_path / f"catalog{published.revision}"
    file.write_bytes(fetch(published, bytes.fromhex(manifest.root_hash), Suffix.CATALOG, "zlib"))
    assert file.stat().st_size == manifest.catalog_bytes
    return {entry.path: entry for entry in read_catalog(file)}


def fetch(published: Published, digest: bytes, suffix: Suffix, compression: Compression) -> bytes:
    stored = (published.store_path / object_path(digest, suffix)).read_bytes()
    assert hashlib.sha1(stored).digest() == digest
    return zlib.decompress(stored) if compression == "zlib" else stored


def content(published: Published, entry: Entry) -> bytes:
    if entry.chunks:
        return b"".join(fetch(published, c.digest, Suffix.CHUNK, entry.compression) for c in entry.chunks)
    assert entry.digest is not None
    return fetch(published, entry.digest, Suffix.FILE, entry.compression)


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_everything_can_be_read_back(source: Path, tmp_path: Path, compression: Compression) -> None:
    # WHEN
    published = publish(source, fqrn=FQRN, store=tmp_path / "store", chunk_size=10_000, compression=compression)

    # THEN
    tree = entries(published, tmp_path)
    for path, entry in tree.items():
        source_path = source / os.fsdecode(path[1:])
        status = source_path.lstat()
        if path:
            assert (entry.mode, entry.mtime_ns) == (status.st_mode, status.st_mtime_ns)
        if stat.S_ISREG(status.st_mode):
            assert content(published, entry) == source_path.read_bytes()
            assert entry.size_bytes == status.st_size
            assert entry.compression == compression
    assert len(tree) == 10
    assert tree[b"/link"].symlink == b"deep/er/file"
    assert [chunk.offset for chunk in tree[b"/model.onnx.data"].chunks] == [0, 10_000, 20_000]
    assert tree[b""].mode & 0o555 == 0o555


def test_publishing_again_adds_what_changed(source: Path, tmp_path: Path) -> None:
    # GIVEN
    store = tmp_path / "store"
    first = publish(source, fqrn=FQRN, store=store, chunk_size=10_000)

    # WHEN one chunk changes
    with (source / "model.onnx.data").open("r+b") as file:
        file.seek(10_000)
        file.write(b"changed")
    second = publish(source, fqrn=FQRN, store=store, chunk_size=10_000)

    # THEN there is that chunk and the catalog
    assert (first.revision, second.revision) == (1, 2)
    assert first.objects_reused == 0
    assert second.objects_added == 2
    assert second.objects_added + second.objects_reused == first.objects_added
    tree = entries(second, tmp_path)
    assert content(second, tree[b"/model.onnx.data"]) == (source / "model.onnx.data").read_bytes()


def test_publishing_at_a_directory_keeps_the_rest(source: Path, tmp_path: Path) -> None:
    # GIVEN
    store, other_source = tmp_path / "store", tmp_path / "other"
    other_source.mkdir()
    (other_source / "phi").write_text("phi")
    publish(source, fqrn=FQRN, store=store)

    # WHEN it is planted below, twice, the second time with other content
    publish(source, fqrn=FQRN, store=store, at="/models/cpu")
    published = publish(other_source, fqrn=FQRN, store=store, at="/models/cpu/")

    # THEN
    tree = entries(published, tmp_path)
    assert published.revision == 3
    assert content(published, tree[b"/models/cpu/phi"]) == b"phi"
    assert b"/models/cpu/config.json" not in tree
    assert content(published, tree[b"/config.json"]) == b"{}"
    assert tree[b"/models"].is_directory


def test_publish_writes_the_files_that_a_real_client_needs(source: Path, tmp_path: Path) -> None:
    # WHEN
    published = publish(source, fqrn=FQRN, store=tmp_path / "store", url="http://127.0.0.1:1234")

    # THEN
    config = published.config_path.read_text()
    assert published.config_path == tmp_path / "store" / "lab.example.org.conf"
    assert "CVMFS_SERVER_URL=http://127.0.0.1:1234/cvmfs/lab.example.org\n" in config
    assert f"CVMFS_PUBLIC_KEY={published.key_path}\n" in config
    assert "BEGIN PUBLIC KEY" in published.key_path.read_text()


def test_wrong_use_of_publish_is_refused_in_one_sentence(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(LabError, match="not a folder"):
        publish(tmp_path / "none", fqrn=FQRN, store=store)
    with pytest.raises(LabError, match="not the name of a repository"):
        publish(source, fqrn="../escape", store=store)
    with pytest.raises(LabError, match="lies inside"):
        publish(source, fqrn=FQRN, store=source / "store")
    with pytest.raises(LabError, match="not a path of a repository"):
        publish(source, fqrn=FQRN, store=store, at="/a/../b")
    with pytest.raises(LabError, match="not a compression"):
        publish(source, fqrn=FQRN, store=store, compression="lzma")  # type: ignore[arg-type]
    os.mkfifo(source / "pipe")
    with pytest.raises(LabError, match="neither a file"):
        publish(source, fqrn=FQRN, store=store)
    assert not (store / "cvmfs" / FQRN / ".cvmfspublished").exists()


def test_a_file_at_the_place_of_a_folder_is_named(source: Path, tmp_path: Path) -> None:
    # GIVEN
    publish(source, fqrn=FQRN, store=tmp_path / "store")

    # WHEN / THEN
    with pytest.raises(LabError, match=r"/config\.json is a file"):
        publish(source, fqrn=FQRN, store=tmp_path / "store", at="/config.json/below")


def test_a_damaged_catalog_is_named(source: Path, tmp_path: Path) -> None:
    # GIVEN
    published = publish(source, fqrn=FQRN, store=tmp_path / "store")
    catalog = published.store_path / object_path(bytes.fromhex(published.root_hash), Suffix.CATALOG)
    catalog.write_bytes(b"damaged")

    # WHEN / THEN
    with pytest.raises(LabError, match="catalog of revision 1 is damaged"):
        publish(source, fqrn=FQRN, store=tmp_path / "store", at="/below")


def test_publish_prints_what_it_wrote(source: Path, tmp_path: Path) -> None:
    # WHEN
    store = tmp_path / "store"
    result = CliRunner().invoke(command, [str(source), "--fqrn", FQRN, "--store", str(store), "--chunk-size", "10kB"])

    # THEN
    assert result.exit_code == 0
    assert "lab.example.org revision 1: " in result.output
    assert str(store / "lab.example.org.conf") in result.output
