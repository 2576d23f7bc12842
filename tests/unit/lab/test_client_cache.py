"""Cache, quota and fetching, without a network: a folder, a pipe and threads."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from cvtrace.lab.client.cache import Cache, Transaction
from cvtrace.lab.client.catalog import Chunk, Entry
from cvtrace.lab.client.content import Hash, Object
from cvtrace.lab.client.counters import Counters
from cvtrace.lab.client.download import Downloader, Failure
from cvtrace.lab.client.fetch import Fetcher
from cvtrace.lab.client.handles import ChunkedFile
from cvtrace.lab.client.job import Job
from cvtrace.lab.client.quota import COMMAND, INSERT, TOUCH, Quota, command

HASHES = [Hash(f"{number:040x}") for number in range(1, 20)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quota(workspace: Path) -> Iterator[Quota]:
    quota = Quota(10_000)
    Cache(quota)  # makes the folders
    quota.start()
    yield quota
    quota.stop()


def put_object(cache: Cache, hash_: Hash, content: bytes, description: str = "/file") -> None:
    transaction = cache.begin(len(content))
    transaction.write(content)
    os.close(cache.commit(transaction, Object(hash_, description, size_bytes=len(content))))


def test_commands_are_the_structs_of_the_quota_manager() -> None:
    # GIVEN a touch and an insert as the real client wrote them, apart from the padding
    digest = bytes.fromhex("401f9de5d111cad15598630234d102f376058f2f")
    touch = bytes(16) + b"\xff\xff\xff\xff" + digest + bytes(8)
    insert = b"\1" + bytes(7) + b"\xcc\5" + bytes(6) + b"\xff\xff\xff\xff" + digest + b"\x1f\0" + bytes(6)

    # WHEN ours are made / THEN they are the same
    assert command(TOUCH, Hash(digest.hex())) == touch
    assert command(INSERT, Hash(digest.hex()), 1484, text="/models/tiny1/genai_config.json") == (
        insert + b"/models/tiny1/genai_config.json"
    )


def test_commands_carry_the_algorithm_and_stay_in_one_piece() -> None:
    # GIVEN another hash algorithm and a very long path / WHEN an insert is made
    message = command(INSERT, Hash("0" * 40, "shake128"), 5, text="/" + "ä" * 1000)

    # THEN the algorithm is in the top bits of the size, and the whole fits 512 bytes
    assert COMMAND.unpack(message[:48])[1] == 5 | 2 << 61
    assert len(message) == 512


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 20_000])
def test_a_transaction_leaves_its_last_piece_to_the_commit(workspace: Path, size: int) -> None:
    # GIVEN content received in odd pieces
    (workspace / "txn").mkdir()
    content = os.urandom(size)
    transaction = Transaction()
    for start in range(0, size, 1111):
        transaction.write(content[start : start + 1111])

    # WHEN it is looked at before and after the last write / THEN whole pieces were written, and at the end everything
    before = Path(transaction.path).stat().st_size
    assert before % 4096 == 0
    assert before == max(0, (size - 1) // 4096 * 4096)
    transaction.flush()
    assert Path(transaction.path).read_bytes() == content
    assert transaction.size_bytes == size
    transaction.abort()
    assert list((workspace / "txn").iterdir()) == []


def test_objects_appear_only_when_complete(workspace: Path, quota: Quota) -> None:
    # GIVEN a cache
    cache = Cache(quota)
    assert cache.open(HASHES[0]) is None

    # WHEN an object is committed / THEN it is there; one of the wrong size leaves nothing
    put_object(cache, HASHES[0], b"content")
    fd = cache.open(HASHES[0])
    assert fd is not None
    assert os.read(fd, 100) == b"content"
    os.close(fd)
    transaction = cache.begin(7)
    transaction.write(b"short")
    with pytest.raises(OSError, match="has 5 bytes, not 7"):
        cache.commit(transaction, Object(HASHES[1], "/file", size_bytes=7))
    assert cache.open(HASHES[1]) is None
    assert list((workspace / "txn").iterdir()) == []


def test_the_least_recently_used_objects_leave(quota: Quota, workspace: Path) -> None:
    # GIVEN a cache of 10,000 bytes with nine objects of 1,000, the oldest of which was touched again
    cache = Cache(quota)
    for hash_ in HASHES[:9]:
        put_object(cache, hash_, bytes(1000))
    fd = cache.open(HASHES[0])
    assert fd is not None
    os.close(fd)

    # WHEN two more are added
    put_object(cache, HASHES[9], bytes(1000))
    put_object(cache, HASHES[10], bytes(1000))
    quota.cleanup(10_000)  # returns when all commands before it have been obeyed

    # THEN half of the limit stays: the touched one and the newest
    remaining = [hash_ for hash_ in HASHES if (workspace / hash_.path).exists()]
    assert remaining == [HASHES[0], *HASHES[6:11]]
    assert quota.used_bytes == 6000


def test_pinned_objects_stay(quota: Quota, workspace: Path) -> None:
    # GIVEN a pinned object / WHEN everything else is cleaned up / THEN it stays, and the answer says so
    cache = Cache(quota)
    transaction = cache.begin(None)
    transaction.write(b"catalog")
    os.close(cache.commit(transaction, Object(HASHES[0], "catalog", pinned=True)))
    put_object(cache, HASHES[1], b"file")
    assert quota.cleanup(0) is False
    assert (workspace / HASHES[0].path).exists()
    assert not (workspace / HASHES[1].path).exists()


def test_a_new_client_knows_what_the_cache_holds(quota: Quota, workspace: Path) -> None:
    # GIVEN a cache with objects / WHEN another quota manager starts on it / THEN it counts them
    put_object(Cache(quota), HASHES[0], bytes(1234))
    another = Quota(10_000)
    another.start()
    assert another.used_bytes == 1234
    another.stop()


class OneDownload:
    """Stands where the network would be: holds each download until it is let go, then fills the sink."""

    def __init__(self, failure: Failure = Failure.OK) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.failure = failure
        self.jobs: list[Job] = []

    def download(self, job: Job) -> Failure:
        self.jobs.append(job)
        self.started.set()
        assert self.go.wait(10)
        job.sink.write(b"content")
        return self.failure


@pytest.mark.parametrize("failure", [Failure.OK, Failure.HOST_HTTP])
def test_all_waiting_requests_get_the_result_of_one_download(quota: Quota, failure: Failure) -> None:
    # GIVEN a slow download of one object
    network, counters = OneDownload(failure), Counters()
    fetcher = Fetcher(Cache(quota), cast(Downloader, network), counters)
    results: list[bytes | int | None] = []

    def fetch() -> None:
        try:
            fd = fetcher.fetch(Object(HASHES[0], "/file"))
        except OSError as error:
            results.append(error.errno)
        else:
            results.append(os.pread(fd, 100, 0))
            os.close(fd)

    # WHEN five threads ask for it
    threads = [threading.Thread(target=fetch) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert network.started.wait(10)
    deadline = time.monotonic() + 10
    while counters["fetch.n_invocations"] < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    network.go.set()
    for thread in threads:
        thread.join(10)

    # THEN all get the content, or the error; and it was downloaded once, unless it failed before some had asked
    assert results == [b"content" if failure is Failure.OK else errno.EIO] * 5
    assert failure is not Failure.OK or len(network.jobs) == 1
    assert counters["fetch.n_invocations"] == 5
    assert counters["fetch.n_downloads"] == len(network.jobs)


class FolderFetcher:
    """Stands where the fetcher would be: objects are files."""

    def __init__(self, contents: dict[Hash, bytes], folder: Path) -> None:
        self.fetched: list[str] = []
        self._folder = folder
        for hash_, content in contents.items():
            (folder / hash_.digits).write_bytes(content)

    def fetch(self, obj: Object) -> int:
        self.fetched.append(obj.description)
        return os.open(self._folder / obj.hash.digits, os.O_RDONLY)

    def close(self, fd: int) -> None:
        os.close(fd)


def test_reads_cross_chunks(tmp_path: Path) -> None:
    # GIVEN a file of three chunks
    pieces = [b"a" * 10, b"b" * 7, b"c" * 5]
    starts = [0, 10, 17]
    chunks = [Chunk(start, len(piece), hash_) for start, piece, hash_ in zip(starts, pieces, HASHES, strict=False)]
    fetcher = FolderFetcher(dict(zip(HASHES, pieces, strict=False)), tmp_path)
    entry = Entry("/w", 300, 0o100644, 22, 0, 0, 1, 0, 0, None, True, True, "")
    file = ChunkedFile(entry, chunks)
    buffer = ctypes.create_string_buffer(64)

    def read(size: int, offset: int) -> bytes:
        count = file.read(cast(Fetcher, fetcher), ctypes.addressof(buffer), size, offset)
        return buffer.raw[:count]

    # WHEN it is read within, across and beyond them / THEN the bytes are right, and each change of chunk fetched one
    content = b"".join(pieces)
    assert read(64, 0) == content
    assert len(fetcher.fetched) == 3
    assert fetcher.fetched[0] == "Part of /w"
    assert read(3, 18) == content[18:21]
    assert len(fetcher.fetched) == 3
    assert read(4, 8) == content[8:12]
    assert len(fetcher.fetched) == 5
    assert read(10, 20) == content[20:]
    assert read(10, 22) == read(10, 1000) == b""
    file.close(cast(Fetcher, fetcher))
