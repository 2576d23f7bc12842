"""The target's file calls beyond open and read, on a real mount of the lab's client."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ebpf_recording import of_kind, record
from lab_mount import LabMount, lab

from cvtrace.analysis.joins.paths import target_calls
from cvtrace.analysis.joins.requests import requests
from cvtrace.analysis.trace.recording import recording
from cvtrace.probes.ebpf.probe import EbpfProbe
from cvtrace.probes.events import Events, Kind, Texts
from cvtrace.probes.probe import Daemon, Scope
from cvtrace.tracer.store import Trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]

PAGES = 256


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    files = {"models/weights": os.urandom(PAGES * 4096), "models/config.json": b"{}"}
    with lab(tmp_path_factory.mktemp("lab"), files) as served, served.mount() as mounted:
        yield mounted


def observe(mounted: LabMount, program: str, *arguments: str) -> tuple[int, Events, Texts]:
    """Run a program under observation of the mount."""
    probe = EbpfProbe()
    probe.start(Scope((Daemon(mounted.mounted.pid),), (mounted.root.stat().st_dev,)))
    pid, events, texts = record(probe, program, *arguments)
    assert probe.losses().total == 0
    return pid, events, texts


def text_of(events: Events, texts: Texts) -> list[str]:
    names = {(t["ts"], t["tid"], t["kind"]): os.fsdecode(t["text"]) for t in texts}
    return [names.get((e["ts"], e["tid"], e["kind"]), "") for e in events]


def test_path_checks_on_the_mount_are_counted_and_others_are_not(mounted: LabMount) -> None:
    # GIVEN a program that checks a file on the mount in three ways, and one elsewhere
    program = (
        "import os, sys\npath = sys.argv[1]\nos.stat(path)\nos.lstat(path)\nfd = os.open(path, os.O_RDONLY)\n"
        "os.fstat(fd)\nfor _ in range(100): os.stat('/etc/passwd')\n"
    )
    path = mounted.root / "models" / "config.json"

    # WHEN
    mounted.drop_caches()
    _, events, texts = observe(mounted, program, str(path))

    # THEN those on the mount are there, with the file they found, and the one that asked the daemon has its path
    checks = of_kind(events, Kind.SYS_STAT)
    checks = checks[checks["a"] == path.stat().st_dev]
    assert checks["b"].tolist() == [path.stat().st_ino] * 3
    assert text_of(checks, texts)[0] == str(path)
    assert not (of_kind(events, Kind.SYS_STAT)["a"] == Path("/etc").stat().st_dev).any()


def test_statx_is_recorded_like_stat(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN statx called as C++ programs do
    program = (
        "import ctypes, os, sys\nlibc = ctypes.CDLL(None)\nbuffer = ctypes.create_string_buffer(256)\n"
        "assert libc.statx(-100, os.fsencode(sys.argv[1]), 0, 0xfff, buffer) == 0"
    )
    assert hasattr(ctypes.CDLL(None), "statx")
    path = mounted.root / "models" / "weights"

    # WHEN
    _, events, _ = observe(mounted, program, str(path))

    # THEN
    checks = of_kind(events, Kind.SYS_STAT)
    checks = checks[(checks["c"] & 0xFFFFFFFF) == 332]
    assert (path.stat().st_dev, path.stat().st_ino) in {(int(check["a"]), int(check["b"])) for check in checks}


def test_folders_links_copies_and_mappings_are_reported(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a program that lists, follows a link, duplicates descriptors, maps and unmaps
    link = tmp_path / "link"
    link.symlink_to(mounted.root / "models")
    program = (
        "import fcntl, mmap, os, sys\nlink = sys.argv[1]\nos.listdir(link)\nos.readlink(link)\n"
        "fd = os.open(link + '/weights', os.O_RDONLY)\nos.dup2(fd, 210)\nfcntl.fcntl(210, fcntl.F_DUPFD, 220)\n"
        "mapped = mmap.mmap(210, 8192, prot=mmap.PROT_READ)\nmapped.close()\n"
    )

    # WHEN
    _, events, texts = observe(mounted, program, str(link))

    # THEN
    assert (of_kind(events, Kind.SYS_LIST)["ret"] > 0).any()
    assert str(link) in text_of(of_kind(events, Kind.SYS_LINK), texts)
    copies = of_kind(events, Kind.SYS_DUP)
    opened = of_kind(events, Kind.SYS_OPEN)
    fd = opened[[text == f"{link}/weights" for text in text_of(opened, texts)]]["ret"][0]
    assert (fd, 210) in {(int(copy["a"]), int(copy["ret"])) for copy in copies}
    assert (210, 220) in {(int(copy["a"]), int(copy["ret"])) for copy in copies}
    placed = of_kind(events, Kind.SYS_MAPPED)
    placed = placed[placed["c"] == 8192]  # Python maps a copy of the descriptor
    unmaps = of_kind(events, Kind.SYS_UNMAP)
    assert set(placed["a"].tolist()) & set(unmaps[unmaps["c"] == 8192]["a"].tolist())
    assert set(placed["ts"].tolist()) <= set(of_kind(events, Kind.SYS_MMAP)["ts"].tolist())


@pytest.mark.parametrize("way", ["dup", "dirfd", "fchdir", "chdir", "link"])
def test_a_file_has_the_name_that_the_user_gave_it(mounted: LabMount, tmp_path: Path, way: str) -> None:
    # GIVEN a program that comes to its file in a roundabout way
    link = tmp_path / "link"
    link.symlink_to(mounted.root / "models")
    way_there = {
        "dup": "fd = os.dup(os.dup(os.open(root + '/models/weights', os.O_RDONLY)))",
        "dirfd": "d = os.dup(os.open(root + '/models', os.O_RDONLY)); fd = os.open('weights', os.O_RDONLY, dir_fd=d)",
        "fchdir": "os.fchdir(os.open(root + '/models', os.O_RDONLY)); fd = os.open('weights', os.O_RDONLY)",
        "chdir": "os.chdir(root); os.chdir('models'); fd = os.open('./weights', os.O_RDONLY)",
        "link": "fd = os.open(link + '/weights', os.O_RDONLY)",
    }[way]
    program = f"import os, sys\nroot, link = sys.argv[1:]\n{way_there}\nos.read(fd, 12345)"

    # WHEN
    mounted.drop_caches()
    pid, events, texts = observe(mounted, program, str(mounted.root), str(link))

    # THEN the analysis knows the read as one of a file on the mount, and its name
    status = mounted.root.stat()
    mount = {
        "path": str(mounted.root),
        "connection": os.minor(status.st_dev),
        "device": status.st_dev,
        "daemon_pid": mounted.mounted.pid,
    }
    recorded = recording(
        Trace(Path("trace"), {"target": {"pid": pid, "cwd": "/"}, "mounts": [mount]}, events, texts, None)
    )
    calls, paths = target_calls(recorded, requests(recorded))
    read = (calls.rows.kind == Kind.SYS_READ) & (calls.rows.c == 12345)
    assert calls.on_mount[read].tolist() == [True]
    expected = str(link / "weights") if way == "link" else str(mounted.root / "models" / "weights")
    assert expected in paths.names.values()


def test_readahead_is_distinguished_from_demanded_pages(mounted: LabMount) -> None:
    if not Path("/sys/kernel/tracing/events/readahead/page_cache_ra_unbounded").is_dir():
        pytest.skip("the kernel has no readahead tracepoints (6.18 and newer have them)")
    # GIVEN a program that reads a file from one end to the other, a page at a time, and one that touches one mapped page
    path = mounted.root / "models" / "weights"
    reading = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nwhile os.read(fd, 4096): pass"
    touching = (
        "import mmap, os, sys\nmapped = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)\n"
        "mapped[100 * 4096]"
    )

    for program in (reading, touching):
        # WHEN
        mounted.drop_caches()
        _, events, _ = observe(mounted, program, str(path))

        # THEN all pages that came were begun by readahead, and of each the first, at most, was asked for
        ahead = of_kind(events, Kind.READAHEAD)
        ahead = ahead[ahead["b"] == path.stat().st_ino]
        pages = (ahead["c"] >> np.uint64(48)).astype(int)
        first = (ahead["c"] & np.uint64(2**48 - 1)).astype(int)
        if program == reading:
            assert pages.sum() >= PAGES
            assert ahead["ret"][0] == 1
            assert (ahead["ret"][1:] == 0).all()
        else:
            assert ahead["ret"].tolist() == [1]
            assert first[0] <= 100 < first[0] + pages[0]
