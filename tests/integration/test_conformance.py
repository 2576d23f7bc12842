"""The lab's client makes the system calls of cvmfs2 2.12.0, in the same order, for everything a tracer looks at.

tests/data/golden/conformance-* are excerpts of strace logs of the real client: each distinct sequence once.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import CLOSE, DOWNLOAD, HIT, MISS, PREAD, Grammar
from lab_mount import LabMount, lab, strace
from waiting import wait_until

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
GOLDEN_CATALOG = "5e/bc65e7a1644d06fb09052803b079f8a3834681"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]


def golden(name: str) -> Grammar:
    with gzip.open(GOLDEN / f"conformance-{name}.strace.gz", "rt") as log:
        return Grammar.of(log, GOLDEN_CATALOG)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[LabMount]:
    noise = random.Random(7)
    files = {
        "config.json": b'{"a": 1}\n' * 100,
        "model.onnx": noise.randbytes(20_000),
        "pages.bin": noise.randbytes(10 * 4096),
        "weights.data": noise.randbytes(12_000_000),
    }
    with lab(tmp_path, files) as served, served.mount() as mounted:
        assert sorted(path.name for path in mounted.root.iterdir()) == sorted(files)
        yield mounted


def read_whole_files(root: Path) -> None:
    for name in ("config.json", "model.onnx", "pages.bin"):
        (root / name).read_bytes()


def read_chunks(root: Path) -> None:
    """Touch chunks in every way in which a read can meet them, a page at a time."""
    path = root / "weights.data"
    rows = os.getxattr(path, "user.chunk_list").decode().split()[1:]
    starts = [int(row.split(",")[1]) for row in rows]
    assert len(starts) > 10
    assert all(start % 4096 for start in starts[1:]), "a page must be able to lie on both sides of a boundary"

    def pages(*offsets: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in offsets:
            assert len(os.pread(fd, 4096, offset // 4096 * 4096)) == 4096
        os.close(fd)

    pages(0, 8192, starts[1], starts[5] + 8192, starts[8])
    pages(starts[10])
    os.close(os.open(path, os.O_RDONLY))


def record(mounted: LabMount, log: Path) -> Grammar:
    with strace(mounted.mounted.pid, log):
        read_whole_files(mounted.root)
        read_chunks(mounted.root)
        wait_until(lambda: mounted.counters()["cvmfs.no_open_files"] == 0, "all files released")
    with log.open() as lines:
        return Grammar.of(lines)


def with_get(shapes: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return shapes in which a hit and a miss are the same."""
    return {tuple("get" if word in ("hit", "miss") else word for word in shape) for shape in shapes}


def test_cold_warm_and_hot_follow_the_grammar_of_the_real_client(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN logs of the real client, with whole files and with chunks
    runs = {name: golden(f"tiny1-hex.{name}") for name in ("cold", "warm", "hot")}
    chunked = {name: golden(f"t100-hex.{name}") for name in ("cold", "warm")}

    # WHEN the same kinds of files are read cold, warm and hot
    cold = record(mounted, tmp_path / "cold.strace")
    mounted.drop_caches()
    warm = record(mounted, tmp_path / "warm.strace")
    hot = record(mounted, tmp_path / "hot.strace")

    # THEN a miss of a whole file happens in OPEN, call by call as in the real client, and a chunked file opens without a call
    assert cold.requests["OPEN"] == {MISS, ()}
    assert cold.requests["OPEN"] == chunked["cold"].requests["OPEN"]
    assert cold.downloads == runs["cold"].downloads == chunked["cold"].downloads == {DOWNLOAD}

    # THEN chunks are fetched in READ, one descriptor at a time
    assert cold.shapes("READ") == {
        (PREAD,),
        ("miss", PREAD),
        (PREAD, CLOSE, "miss", PREAD),
        (CLOSE, "miss", PREAD),
        (CLOSE, "miss", PREAD, CLOSE, "miss", PREAD),
        ("miss", PREAD, CLOSE, "miss", PREAD),
    }
    assert with_get(cold.shapes("READ")) == with_get(chunked["cold"].shapes("READ"))

    # THEN warm reads are hits, in the real client's orders, and nothing is downloaded
    assert warm.requests["OPEN"] == runs["warm"].requests["OPEN"] | {()} == {HIT, ()}
    assert warm.requests["OPEN"] == chunked["warm"].requests["OPEN"]
    assert warm.shapes("READ") == chunked["warm"].shapes("READ")
    assert warm.downloads == set()

    # THEN hot files are opened and released without a READ
    assert hot.requests["OPEN"] - {()} == runs["hot"].requests["OPEN"] == {HIT}
    assert hot.requests["RELEASE"] - {()} == runs["hot"].requests["RELEASE"] == {(CLOSE,)}
    assert not hot.requests["READ"]
    assert not runs["hot"].requests["READ"]
    assert hot.downloads == set()

    # THEN closing a chunked file closes the chunk that was open, if one was
    assert warm.requests["RELEASE"] == chunked["warm"].requests["RELEASE"] == {(CLOSE,), ()}


def test_reads_are_as_large_as_the_real_clients(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a file larger than the readahead window / WHEN it is read from one end to the other
    with strace(mounted.mounted.pid, tmp_path / "log"):
        (mounted.root / "weights.data").read_bytes()
    with (tmp_path / "log").open() as lines:
        sizes = Grammar.of(lines).read_bytes

    # THEN the largest READ is of 128 KiB
    assert max(sizes) == max(golden("t100-hex.warm").read_bytes) == 128 * 1024
