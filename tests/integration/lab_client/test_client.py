"""The lab's client over real FUSE: content, counters, cache, and the talk socket."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client_files import CHUNKS, FILES, WEIGHTS
from lab_mount import FQRN, Lab, LabMount, lab
from waiting import wait_until

from cvtrace.lab.client.delays import read_injected
from cvtrace.lab.origin import Injection

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_content_is_what_was_published(tmp_path: Path, compression: str) -> None:
    # GIVEN a repository with whole, chunked and empty files
    with lab(tmp_path, FILES, compression=compression) as served, served.mount() as mounted:
        # WHEN they are read cold, warm and through a mapping
        cold = {name: (mounted.root / name).read_bytes() for name in FILES}
        mounted.drop_caches()
        warm = {name: (mounted.root / name).read_bytes() for name in FILES}
        mounted.drop_caches()
        fd = os.open(mounted.root / "models/weights.data", os.O_RDONLY)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapping:
            mapped = mapping[4_000_000:4_100_000] + mapping[900_000:1_100_000]
        os.close(fd)

        # THEN every byte is right
        assert cold == warm == FILES
        assert mapped == WEIGHTS[4_000_000:4_100_000] + WEIGHTS[900_000:1_100_000]


def test_device_type_threads_and_inodes_are_those_of_the_real_client(mounted: LabMount) -> None:
    # GIVEN a mount / WHEN it is looked at from outside
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(mounted.root) in line)
    status = (mounted.root / "models/weights.data").stat()
    pid = mounted.mounted.pid

    # THEN device, type, names of the threads and working directory are those of cvmfs2, and inodes are not made up anew
    assert line.startswith(f"cvmfs2 {mounted.root} fuse ro,")
    # (a recent libfuse calls its workers fuse_worker)
    names = {(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}
    assert (Path(f"/proc/{pid}") / "comm").read_text() == "cvmfs2\n"
    assert names <= {"cvmfs2", "fuse_worker"}
    assert Path(f"/proc/{pid}/cwd").readlink() == mounted.mounted.workspace
    assert mounted.root.stat().st_ino == 256
    mounted.drop_caches()
    assert (mounted.root / "models/weights.data").stat().st_ino == status.st_ino
    assert sorted(path.name for path in (mounted.root / "models").iterdir()) == sorted(
        name.removeprefix("models/") for name in FILES
    )
    with pytest.raises(OSError, match="Read-only"):
        (mounted.root / "new").write_text("")


def test_counters_equal_what_origin_and_reader_saw(mounted: LabMount) -> None:
    # GIVEN a fresh mount, which has asked for manifest, certificate, whitelist and catalog in this order
    at_mount = [entry.path.removeprefix(f"/cvmfs/{FQRN}/") for entry in mounted.gets()]
    assert at_mount[0] == ".cvmfspublished"
    assert at_mount[1].endswith("X")
    assert at_mount[2] == ".cvmfswhitelist"
    assert at_mount[3].endswith("C")
    assert len(at_mount) == 4
    before = mounted.counters()
    assert (before["download.n_requests"], before["fetch.n_downloads"]) == (4, 1)

    # WHEN many threads read everything at once
    def read(name: str) -> bytes:
        return (mounted.root / name).read_bytes()

    with ThreadPoolExecutor(16) as pool:
        names = list(FILES) * 20
        assert [len(content) for content in pool.map(read, names)] == [len(FILES[name]) for name in names]

    # THEN nothing is lost or counted twice, and nothing was fetched twice
    after = mounted.counters()
    gets = mounted.gets()
    assert after["cvmfs.n_fs_open"] == len(names)
    assert after["download.n_requests"] == len(gets) == 4 + 3 + CHUNKS
    assert after["fetch.n_downloads"] == 1 + 3 + CHUNKS
    assert after["download.sz_transferred_bytes"] == sum(entry.body_bytes for entry in gets)
    assert len({entry.path for entry in gets}) == len(gets)
    assert len({entry.port for entry in gets}) <= 16
    wait_until(lambda: mounted.counters()["cvmfs.no_open_files"] == 0, "all files released")


def test_serial_downloads_share_one_connection(mounted: LabMount) -> None:
    # GIVEN a cold mount / WHEN one reader reads all chunks
    (mounted.root / "models/weights.data").read_bytes()

    # THEN the connection made for the manifest served them all
    assert len({entry.port for entry in mounted.gets()}) == 1


def test_the_read_counter_equals_the_requests_of_the_kernel(mounted: LabMount) -> None:
    # GIVEN a file read page by page without readahead
    before = mounted.counters()
    fd = os.open(mounted.root / "models/weights.data", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    # WHEN eight distant pages are read
    for page in range(0, 800, 100):
        os.pread(fd, 4096, page * 4096)
    os.close(fd)

    # THEN eight READs and one OPEN are counted, and again none when the pages are hot
    after = mounted.counters()
    assert after["cvmfs.n_fs_read"] - before["cvmfs.n_fs_read"] == 8
    assert after["cvmfs.n_fs_open"] - before["cvmfs.n_fs_open"] == 1


def test_xattrs_describe_mount_and_file(mounted: LabMount) -> None:
    # GIVEN a mount
    def xattr(path: str, name: str) -> str:
        return os.getxattr(mounted.root / path, f"user.{name}").decode()

    # WHEN its attributes are read / THEN they say who serves it, from where, and how a file is stored
    assert int(xattr("", "pid")) == mounted.mounted.pid
    assert xattr("models/weights.data", "fqrn") == FQRN
    assert xattr("", "host") == f"{mounted.origin.url}/cvmfs/{FQRN}"
    assert xattr("", "proxy") == "DIRECT"
    assert xattr("", "revision") == "1"
    assert xattr("", "root_hash") == mounted.published.root_hash
    assert xattr("", "version").startswith("cvtrace-lab ")
    assert xattr("models/weights.data", "chunks") == str(CHUNKS)
    assert xattr("models/weights.data", "compression") == "zlib"
    assert len(xattr("models/config.json", "hash")) == 40
    assert xattr("models/weights.data", "chunk_list~0") == xattr("models/weights.data", "chunk_list")
    assert xattr("models/weights.data", "chunk_list~?") == "num_pages, 1"
    assert "user.pid" in os.listxattr(mounted.root)
    for path, name in (("models", "hash"), ("models/weights.data", "hash"), ("", "nonsense"), ("", "pid~1")):
        with pytest.raises(OSError) as caught:
            xattr(path, name)
        assert caught.value.errno == errno.ENODATA


def test_injected_delays_of_the_client_are_logged(mounted: LabMount) -> None:
    # GIVEN a client that was told to be slow
    assert read_injected(mounted.mounted.workspace) == []
    assert mounted.talk('inject {"lookup_delay_s": 0.05}') == "OK\n"

    # WHEN a path is searched for
    began_ns = time.monotonic_ns()
    assert not (mounted.root / "nowhere").exists()
    ended_ns = time.monotonic_ns()

    # THEN the log says what was done, within that time
    (line,) = [line for line in read_injected(mounted.mounted.workspace) if line["what"] == "lookup"]
    assert began_ns < line["start_ns"] < line["end_ns"] < ended_ns
    assert line["end_ns"] - line["start_ns"] >= 50_000_000

    # AND it says what it does not know
    assert "cannot inject other" in mounted.talk('inject {"other": 1}')
    assert "number of seconds" in mounted.talk('inject {"lookup_delay_s": -1}')
    assert mounted.talk("inject 3") == "an injection is a JSON object\n"
    assert mounted.talk("inject {") != "OK\n"


def test_the_talk_socket_answers_each_command(mounted: LabMount) -> None:
    # GIVEN a mount with a cached file / WHEN it is talked to / THEN it answers like the client does
    (mounted.root / "models/config.json").read_bytes()
    assert mounted.talk("pid") == f"{mounted.mounted.pid}\n"
    assert mounted.talk("version").startswith("cvtrace-lab ")
    assert mounted.talk("nonsense") == "unknown command\n"
    assert mounted.talk("cleanup") == "Usage: cleanup <MB>\n"
    lines = mounted.talk("internal affairs").splitlines()
    assert "Name|Value|Description" in lines
    assert any(line.startswith("cvmfs.n_fs_open|1|") for line in lines)


def test_cleaned_cache_is_fetched_again_while_open_files_stay_readable(mounted: LabMount) -> None:
    # GIVEN a file that is cached and open
    path = mounted.root / "models/tokenizer.bin"
    with path.open("rb") as file:
        gets = len(mounted.gets())

        # WHEN the cache is emptied
        assert mounted.talk("cleanup 0") in ("OK\n", "Not fully cleaned (there might be pinned chunks)\n")

        # THEN the open file reads on without a download, opening it anew downloads it, and the catalog has stayed
        assert len(mounted.cached_objects()) == 1
        mounted.drop_caches()
        assert file.read() == FILES["models/tokenizer.bin"]
        assert len(mounted.gets()) == gets
    assert path.read_bytes() == FILES["models/tokenizer.bin"]
    assert len(mounted.gets()) == gets + 1


def test_dropping_the_cache_of_a_mount_leaves_other_mounts_alone(tmp_path: Path) -> None:
    # GIVEN two mounts, all of whose files are in the kernel's cache
    files = {name: FILES[name] for name in ("models/weights.data", "models/tokenizer.bin")}
    with contextlib.ExitStack() as stack:
        one, second = (
            stack.enter_context(stack.enter_context(lab(tmp_path / name, files)).mount()) for name in ("one", "other")
        )
        for item in (one, second):
            read_all(item, files)
        before = [item.counters() for item in (one, second)]

        # WHEN what the kernel has of one is dropped, and both are read again
        one.drop_caches()
        gets = len(one.gets())
        for item in (one, second):
            read_all(item, files)

        # THEN that one looks the names up and reads all again, from its own cache, and the other does not
        lookups, reads = (
            [
                after[name] - first[name]
                for first, after in zip(before, (one.counters(), second.counters()), strict=True)
            ]
            for name in ("cvmfs.n_fs_lookup", "cvmfs.n_fs_read")
        )
        assert lookups == [3, 0]
        assert reads[0] >= len(WEIGHTS) / (128 << 10)
        assert reads[1] == 0
        assert len(one.gets()) == gets


def read_all(mounted: LabMount, files: Iterable[str]) -> None:
    for name in files:
        (mounted.root / name).read_bytes()


def test_quota_evicts_the_least_recently_used(served: Lab) -> None:
    # GIVEN a cache that holds half of the weights
    with served.mount(quota_bytes=2_600_000) as mounted:
        # WHEN all of them are read, and then again
        for _ in range(2):
            mounted.drop_caches()
            assert (mounted.root / "models/weights.data").read_bytes() == WEIGHTS

        # THEN the cache stayed below its limit, and chunks had to be fetched again
        used = sum(path.stat().st_size for path in mounted.cached_objects())
        assert used <= 2_600_000
        assert mounted.counters()["fetch.n_downloads"] > 1 + CHUNKS


def test_object_larger_than_half_the_quota_is_refused(served: Lab) -> None:
    # GIVEN a quota of less than two chunks / WHEN a chunk is read / THEN it is an I/O error, and nothing was downloaded for it
    with served.mount(quota_bytes=1_500_000) as mounted:
        gets = len(mounted.gets())
        with pytest.raises(OSError) as caught:
            (mounted.root / "models/weights.data").read_bytes()
        assert caught.value.errno == errno.EIO
        assert len(mounted.gets()) == gets


def test_second_request_waits_for_the_running_download(served: Lab) -> None:
    # GIVEN an origin that takes its time
    with served.mount() as mounted:
        served.origin.injections = [Injection(match="*/data/*", first_byte_delay_s=0.3)]
        before = mounted.counters()

        # WHEN eight readers open the same file at once
        def read(_: int) -> bytes:
            return (mounted.root / "models/config.json").read_bytes()

        with ThreadPoolExecutor(8) as pool:
            contents = set(pool.map(read, range(8)))

        # THEN one download serves them all
        after = mounted.counters()
        assert contents == {FILES["models/config.json"]}
        assert after["fetch.n_downloads"] - before["fetch.n_downloads"] == 1
        assert after["fetch.n_invocations"] - before["fetch.n_invocations"] == 8


def test_several_misses_are_downloaded_in_parallel(served: Lab) -> None:
    # GIVEN an origin that takes its time
    with served.mount() as mounted:
        served.origin.injections = [Injection(match="*/data/*", first_byte_delay_s=0.3)]

        # WHEN three files are opened at once
        def read(name: str) -> bytes:
            return (mounted.root / name).read_bytes()

        names = ["models/config.json", "models/tokenizer.bin", "models/empty"]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(read, names))

        # THEN their requests overlap
        gets = sorted(mounted.gets()[-3:], key=lambda entry: entry.start_ns)
        assert gets[-1].start_ns < gets[0].end_ns
