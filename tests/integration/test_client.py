"""The lab's client over real FUSE: content, counters, what it says of itself, and everything that can go wrong."""

from __future__ import annotations

import errno
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab_mount import FQRN, Lab, LabMount, drop_caches, lab
from waiting import wait_until

from cvtrace.lab.client import mount, unmount
from cvtrace.lab.client.injection import read_injected
from cvtrace.lab.client.mounting import is_running
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import Injection

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

NOISE = random.Random(11)
WEIGHTS = NOISE.randbytes(5_000_000)
FILES = {
    "models/config.json": b'{"a": 1}\n' * 1000,
    "models/empty": b"",
    "models/tokenizer.bin": NOISE.randbytes(70_001),
    "models/weights.data": WEIGHTS,
}
CHUNKS = 5


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, FILES) as served:
        (tmp_path / "source/models/link").symlink_to("config.json")
        yield served


@pytest.fixture
def mounted(served: Lab) -> Iterator[LabMount]:
    with served.mount() as mounted:
        yield mounted


def objects_of(lab_mount: LabMount, name: str) -> list[Path]:
    """Return the objects of a file in the store."""
    rows = os.getxattr(lab_mount.root / name, "user.chunk_list").decode().split()[1:]
    suffix = "P" if len(rows) > 1 else ""
    store = lab_mount.published.store_path
    return [store / "data" / row[:2] / (row[2:40] + suffix) for row in rows]


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_content_is_what_was_published(tmp_path: Path, compression: str) -> None:
    # GIVEN a repository with whole, chunked and empty files
    with lab(tmp_path, FILES, compression=compression) as served, served.mount() as mounted:
        # WHEN they are read cold, warm and through a mapping
        cold = {name: (mounted.root / name).read_bytes() for name in FILES}
        drop_caches()
        warm = {name: (mounted.root / name).read_bytes() for name in FILES}
        drop_caches()
        fd = os.open(mounted.root / "models/weights.data", os.O_RDONLY)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapping:
            mapped = mapping[4_000_000:4_100_000] + mapping[900_000:1_100_000]
        os.close(fd)

        # THEN every byte is right
        assert cold == warm == FILES
        assert mapped == WEIGHTS[4_000_000:4_100_000] + WEIGHTS[900_000:1_100_000]


def test_the_mount_looks_like_that_of_the_real_client(mounted: LabMount) -> None:
    # GIVEN a mount / WHEN it is looked at from outside
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(mounted.root) in line)
    status = (mounted.root / "models/weights.data").stat()
    pid = mounted.mounted.pid

    # THEN device, type, names of the threads and working directory are those of cvmfs2, and inodes are not made up anew
    assert line.startswith(f"cvmfs2 {mounted.root} fuse ro,")
    names = {(task / "comm").read_text() for task in Path(f"/proc/{pid}/task").iterdir()}
    assert names == {"cvmfs2\n"}
    assert Path(f"/proc/{pid}/cwd").readlink() == mounted.mounted.workspace
    assert mounted.root.stat().st_ino == 256
    drop_caches()
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


def test_reads_are_counted_like_the_kernel_sends_them(mounted: LabMount) -> None:
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


def test_xattrs_speak_of_mount_and_file(mounted: LabMount) -> None:
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


def test_client_is_slow_on_purpose_and_logs_it(mounted: LabMount) -> None:
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


def test_talk_socket_answers(mounted: LabMount) -> None:
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
    with path.open("rb") as held:
        gets = len(mounted.gets())

        # WHEN the cache is emptied
        assert mounted.talk("cleanup 0") in ("OK\n", "Not fully cleaned (there might be pinned chunks)\n")

        # THEN the open file reads on without a download, opening it anew downloads it, and the catalog has stayed
        assert len(mounted.cached_objects()) == 1
        drop_caches()
        assert held.read() == FILES["models/tokenizer.bin"]
        assert len(mounted.gets()) == gets
    assert path.read_bytes() == FILES["models/tokenizer.bin"]
    assert len(mounted.gets()) == gets + 1


def test_quota_evicts_the_least_recently_used(served: Lab) -> None:
    # GIVEN a cache that holds half of the weights
    with served.mount(quota_bytes=2_600_000) as mounted:
        # WHEN all of them are read, and then again
        for _ in range(2):
            drop_caches()
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
def test_a_passing_fault_is_retried(served: Lab, injection: Injection) -> None:
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


def tampered(served: Lab, name: str, change: bytes, to: bytes) -> None:
    path = served.published.store_path / name
    content = path.read_bytes()
    assert change in content
    path.write_bytes(content.replace(change, to, 1))


def other_key(served: Lab) -> Path:
    """Return the public key of another repository."""
    from cvtrace.lab.publish import publish

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
        mount(FQRN, mountpoint, served.url, other_key(served), served.folder / "cache")


def test_mistakes_are_explained(served: Lab, tmp_path: Path) -> None:
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
            mount(**{**arguments, **changes})  # type: ignore[arg-type]
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


@pytest.mark.parametrize("end", ["unmount", "umount", "SIGTERM"])
def test_the_client_ends_cleanly(served: Lab, end: str) -> None:
    # GIVEN a mount
    with served.mount() as mounted:
        pid = mounted.mounted.pid
        (mounted.root / "models/config.json").read_bytes()

        # WHEN it is ended in one way or another
        if end == "SIGTERM":
            os.kill(pid, signal.SIGTERM)
        elif end == "umount":
            subprocess.run(["umount", str(mounted.root)], check=True)
        else:
            unmount(mounted.root)

        # THEN mount, process and socket are gone, and it can be mounted again
        wait_until(lambda: not os.path.ismount(mounted.root), "unmounted")
        wait_until(lambda: not is_running(pid), "the client ended")
        assert not (mounted.mounted.workspace / f"cvmfs_io.{FQRN}").exists()
        assert (mounted.mounted.workspace / "client.log").read_text() == ""
    with served.mount() as again:
        assert (again.root / "models/config.json").read_bytes() == FILES["models/config.json"]
        assert again.counters()["cache.n_certificate_hits"] == 1


def test_busy_mount_is_not_unmounted(mounted: LabMount) -> None:
    # GIVEN a file held open / WHEN unmounting / THEN it is refused with a reason, and the file reads on
    with (mounted.root / "models/config.json").open("rb") as file:
        with pytest.raises(LabError, match="busy"):
            unmount(mounted.root)
        assert file.read() == FILES["models/config.json"]


def test_command_mounts_and_reports(served: Lab) -> None:
    # GIVEN the command line
    mountpoint = served.folder / "mnt"
    mountpoint.mkdir()
    command = [sys.executable, "-m", "cvtrace", "lab", "mount", FQRN, str(mountpoint), "--url", served.url]
    rest = ["--key", str(served.published.key_path), "--cache", str(served.folder / "cache"), "--quota", "100MB"]

    # WHEN it mounts / THEN it returns when the mount answers; and a second time it says why not, with exit code 2
    first = subprocess.run([*command, *rest], capture_output=True, text=True, check=False, timeout=60)
    try:
        assert (first.returncode, first.stderr) == (0, "")
        assert (mountpoint / "models/config.json").read_bytes() == FILES["models/config.json"]
        second = subprocess.run([*command, *rest], capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 2
        assert "already" in second.stderr
        assert second.stderr.count("\n") == 1
    finally:
        unmount(mountpoint)


def test_foreground_ends_with_ctrl_c(served: Lab) -> None:
    # GIVEN a mount in the foreground
    mountpoint = served.folder / "mnt"
    mountpoint.mkdir()
    command = [sys.executable, "-m", "cvtrace", "lab", "mount", FQRN, str(mountpoint), "--url", served.url]
    rest = ["--key", str(served.published.key_path), "--cache", str(served.folder / "cache"), "--foreground"]
    process = subprocess.Popen([*command, *rest], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "is mounted on" in process.stdout.readline()
        assert (mountpoint / "models/config.json").read_bytes() == FILES["models/config.json"]

        # WHEN Ctrl-C is pressed / THEN it ends without an error and nothing stays mounted
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert not os.path.ismount(mountpoint)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_client_is_noticed_and_can_be_replaced(served: Lab) -> None:
    # GIVEN a client that was killed
    with served.mount() as mounted:
        os.kill(mounted.mounted.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(mounted.mounted.pid), "the client is dead")

        # WHEN it is mounted again / THEN the reason why not is said; after unmounting it works
        with pytest.raises(LabError, match="unmount"):
            mount(FQRN, mounted.root, served.url, served.published.key_path, served.folder / "cache")
        unmount(mounted.root)
    with served.mount() as again:
        assert (again.root / "models/config.json").read_bytes() == FILES["models/config.json"]
