"""The lab's client where something is wrong: damaged objects, dead servers, full disks, forged repositories, mistakes of the user."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from client_files import FILES, WEIGHTS
from lab_mount import FQRN, Lab, LabMount

from cvtrace.lab.client import configure, start
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import Injection
from cvtrace.lab.publish import publish

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]


def objects_of(lab_mount: LabMount, name: str) -> list[Path]:
    """Return the objects of a file in the store."""
    rows = os.getxattr(lab_mount.root / name, "user.chunk_list").decode().split()[1:]
    suffix = "P" if len(rows) > 1 else ""
    store = lab_mount.published.store_path
    return [store / "data" / row[:2] / (row[2:40] + suffix) for row in rows]


def test_damaged_object_is_never_served(mounted: LabMount) -> None:
    # GIVEN objects on the server that differ from their hash: bit flips, and a valid stream of other content
    tokenizer = objects_of(mounted, "models/tokenizer.bin")[0]
    good = tokenizer.read_bytes()
    tokenizer.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    objects_of(mounted, "models/weights.data")[2].write_bytes(good)
    cached = len(mounted.cached_objects())

    # WHEN they are read
    for name in ("models/tokenizer.bin", "models/weights.data"):
        with pytest.raises(OSError) as caught:
            (mounted.root / name).read_bytes()
        assert caught.value.errno == errno.EIO

    # THEN the client tried again before it gave up, and kept only the good chunks; the rest of the file still reads
    assert mounted.counters()["download.n_retries"] >= 2
    assert mounted.counters()["cvmfs.n_io_error"] >= 2
    assert len(mounted.cached_objects()) <= cached + 2
    assert list((mounted.mounted.workspace / "txn").iterdir()) == []
    with (mounted.root / "models/weights.data").open("rb") as file:
        file.seek(4_000_100)
        assert file.read(1000) == WEIGHTS[4_000_100:4_001_100]
    tokenizer.write_bytes(good)
    assert (mounted.root / "models/tokenizer.bin").read_bytes() == FILES["models/tokenizer.bin"]


@pytest.mark.parametrize(
    "injection",
    [
        Injection(match="*/data/*", truncate_after_bytes=3000, times=1),
        Injection(match="*/data/*", status=503, times=1),
        Injection(match="*/data/*", drop=True, times=1),
    ],
    ids=["truncated", "status 503", "dropped"],
)
def test_a_transient_fault_is_retried(served: Lab, injection: Injection) -> None:
    # GIVEN an origin that fails once
    with served.mount() as mounted:
        served.origin.injections = [injection]

        # WHEN a file is read / THEN it is right, after one retry
        assert (mounted.root / "models/tokenizer.bin").read_bytes() == FILES["models/tokenizer.bin"]
        # libcurl itself asks again when a connection it reused was closed before it answered: no retry of the client.
        assert mounted.counters()["download.n_retries"] == (0 if injection.drop else 1)
        assert len(mounted.gets()) == 4 + 2


def test_dead_origin_is_an_io_error_and_recovers(served: Lab) -> None:
    # GIVEN a mount whose origin does not answer any more
    with served.mount(retries=2) as mounted:
        served.origin.injections = [Injection(drop=True)]
        with pytest.raises(OSError) as caught:
            (mounted.root / "models/config.json").read_bytes()
        assert caught.value.errno == errno.EIO
        assert mounted.counters()["download.n_retries"] == 2

        # WHEN it comes back / THEN the file reads
        served.origin.injections = []
        assert (mounted.root / "models/config.json").read_bytes() == FILES["models/config.json"]


def test_full_disk_is_an_io_error_and_leaves_nothing(served: Lab, tmp_path: Path) -> None:
    # GIVEN a cache on a file system with room for two chunks
    cache = tmp_path / "small"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(cache)], check=True)
    try:
        with served.mount(cache=cache) as mounted:
            # WHEN more is read
            with pytest.raises(OSError) as caught:
                (mounted.root / "models/weights.data").read_bytes()

            # THEN it is an I/O error, no half object stays, and what fits still reads
            assert caught.value.errno == errno.EIO
            assert list((mounted.mounted.workspace / "txn").iterdir()) == []
            with (mounted.root / "models/weights.data").open("rb") as file:
                assert file.read(1000) == WEIGHTS[:1000]
    finally:
        subprocess.run(["umount", str(cache)], check=True)


def tampered(served: Lab, name: str, change: bytes, to: bytes) -> None:
    path = served.published.store_path / name
    content = path.read_bytes()
    assert change in content
    path.write_bytes(content.replace(change, to, 1))


def other_key(served: Lab) -> Path:
    """Return the public key of another repository."""
    return publish(served.folder / "source", fqrn="other.example.org", store=served.folder / "other").key_path


@pytest.mark.parametrize(
    ("name", "change", "to", "reason"),
    [
        (".cvmfspublished", b"\nS1\n", b"\nS2\n", "does not match its own hash"),
        (".cvmfswhitelist", b"\nN" + FQRN.encode(), b"\nNevil.example.org", "does not match its own hash"),
        (".cvmfspublished", b"\n--\n", b"\n++\n", "carries no signature"),
    ],
)
def test_tampering_refuses_the_mount(served: Lab, name: str, change: bytes, to: bytes, reason: str) -> None:
    # GIVEN a repository whose signed files were altered / WHEN it is mounted / THEN the reason is one sentence
    tampered(served, name, change, to)
    with pytest.raises(LabError, match=reason), served.mount():
        pass
    assert not os.path.ismount(served.folder / "mnt")


def test_wrong_key_refuses_the_mount(served: Lab) -> None:
    # GIVEN the key of another repository / WHEN mounting with it / THEN it is refused
    mountpoint = served.folder / "mnt"
    mountpoint.mkdir()
    with pytest.raises(LabError, match="not signed with the given key"):
        start(configure(FQRN, mountpoint, served.url, other_key(served), served.folder / "cache"))


def test_wrong_options_are_refused_with_an_explanation(served: Lab, tmp_path: Path) -> None:
    # GIVEN a published repository / WHEN a mount is asked for wrongly / THEN each mistake has its sentence
    mountpoint = tmp_path / "mnt"
    key = served.published.key_path

    def refused(match: str, **changes: object) -> None:
        arguments: dict[str, object] = {
            "fqrn": FQRN,
            "mountpoint": mountpoint,
            "url": served.url,
            "key": key,
            "cache": tmp_path / "cache",
            "max_retries": 0,
        }
        with pytest.raises(LabError, match=match) as caught:
            start(configure(**{**arguments, **changes}))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refused("not a directory")
    mountpoint.mkdir()
    refused("cannot be downloaded .host http.", url=f"{served.origin.url}/cvmfs/nothing.example.org")
    refused("cannot be downloaded .host connection.", url=f"http://127.0.0.1:1/cvmfs/{FQRN}")
    refused("cannot read the repository's public key", key=tmp_path / "no.pub")
    refused("not a repository name", fqrn="../x")
    with served.mount():
        refused("mounted on .* already")
        refused("in use by another mount", mountpoint=served.folder / "source")
