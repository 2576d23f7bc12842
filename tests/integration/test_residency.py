"""`cvtrace residency` on a real mount: compared with the cache folder, the page requests, and the pages of a mapping."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from lab_mount import LabMount, lab
from unprivileged import ROOT, cannot, run_as_nobody

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the client's cache is looked at"),
]

CHUNK = 1_000_000
SIZE = 5 * CHUNK
COUNTERS_OF_LOOKING = {"cvmfs.n_fs_open", "cvmfs.n_fs_lookup", "cvmfs.n_fs_stat", "cvmfs.n_fs_dir_open"}
"""What asking for a path and opening it counts; none of them fetches."""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[LabMount]:
    files = {"model/weights": os.urandom(SIZE), "model/config": os.urandom(5000), "model/empty": b""}
    with lab(tmp_path, files, chunk_size=CHUNK) as served, served.mount() as mount:
        yield mount


def look(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "cvtrace", "residency", "--json", *map(str, arguments)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert output.stderr == ""
    document: dict[str, Any] = json.loads(output.stdout)
    return document


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(file["path"]).name: file for file in document["files"]}


def read(path: Path, offset: int, size: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    assert len(os.pread(fd, size, offset)) == size
    os.close(fd)


def forget_pages(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_nothing_is_fetched_by_looking(mounted: LabMount) -> None:
    # GIVEN a mount of which nothing was read
    before, gets = mounted.counters(), len(mounted.gets())
    # WHEN its files are looked at, twice
    first, second = look(mounted.root / "model"), look(mounted.root / "model")
    # THEN all is on the server, and both say the same
    files = by_name(first)
    assert files["weights"] | {"path": ""} == {
        "path": "", "size_bytes": SIZE, "page_cache_bytes": 0, "client_cache_bytes": 0, "remote_bytes": SIZE,
        "objects": 5, "objects_in_client_cache": 0,
    }  # fmt: skip
    assert first["files"] == second["files"]
    # and a small file, which its open would fetch, was not opened: no object came, no request was sent
    assert files["config"]["client_cache_bytes"] == 0
    assert files["config"]["page_cache_bytes"] is None
    assert len(mounted.gets()) == gets
    assert {CHUNK, 5000}.isdisjoint(path.stat().st_size for path in mounted.cached_objects())
    after = mounted.counters()
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name for name in changed if name.startswith(("cvmfs.n_fs", "fetch.", "download."))} <= COUNTERS_OF_LOOKING


def test_bytes_of_a_read_are_reported_in_page_cache_and_client_cache(mounted: LabMount) -> None:
    # GIVEN a read of one page of the second chunk, past readahead
    weights = mounted.root / "model/weights"
    read(weights, CHUNK + 8192, 4096)
    # WHEN the file is looked at
    file = by_name(look(weights))["weights"]
    # THEN the page cache has what the mapping of a neighbour calls present, and the client's cache the chunk
    assert 4096 <= file["page_cache_bytes"] < CHUNK
    assert file["objects_in_client_cache"] == 1
    assert file["client_cache_bytes"] == CHUNK
    assert file["remote_bytes"] == SIZE - CHUNK
    # and looking again has changed nothing
    assert by_name(look(weights))["weights"] == file


def test_evicted_pages_are_not_counted(mounted: LabMount) -> None:
    # GIVEN a file that was read whole, whose pages were dropped
    weights = mounted.root / "model/weights"
    assert len(weights.read_bytes()) == SIZE
    assert by_name(look(weights))["weights"]["page_cache_bytes"] == SIZE
    forget_pages(weights)
    # WHEN it is looked at
    file = by_name(look(weights))["weights"]
    # THEN all of it is in the client's cache alone
    assert (file["page_cache_bytes"], file["client_cache_bytes"], file["remote_bytes"]) == (0, SIZE, 0)


def test_cached_pages_whose_object_the_client_evicted_are_not_remote(mounted: LabMount) -> None:
    # GIVEN pages of a chunk that the client's cache no longer holds
    weights = mounted.root / "model/weights"
    weights.read_bytes()
    mounted.talk("cleanup 0")
    # WHEN the file is looked at
    file = by_name(look(weights))["weights"]
    # THEN its bytes are in the page cache, none has to come over the network, and the client has none
    assert file["page_cache_bytes"] == SIZE
    assert file["client_cache_bytes"] == file["remote_bytes"] == 0


MAPPING = """
import mmap, os, sys
from cvtrace.probes.residency import page_cache
file = open(sys.argv[1], "rb")
mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
mapping.madvise(mmap.MADV_RANDOM)
for page in (3, 4, 700, 1100):
    mapping[page * 4096]
ranges = [(0, 5000000), (3 * 4096, 8192), (700 * 4096, 4096), (900 * 4096, 100)]
by_cachestat = page_cache.cached_bytes(file.fileno(), ranges)
page_cache._CACHESTAT = 9999  # as on a kernel before 6.5
print(by_cachestat, page_cache.cached_bytes(file.fileno(), ranges))
"""


def test_residency_counts_the_pages_that_a_mapping_touched(mounted: LabMount) -> None:
    # GIVEN a process that touches four pages through a mapping without readahead; the origin runs in this one and needs its GIL
    weights = mounted.root / "model/weights"
    # WHEN it looks at some ranges with cachestat, and with mincore
    command = [sys.executable, "-c", MAPPING, str(weights)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # THEN both count the pages touched, and no others
    assert output == "[16384, 8192, 4096, 0] [16384, 8192, 4096, 0]\n"
    assert by_name(look(weights))["weights"]["page_cache_bytes"] == 4 * 4096


def test_residency_does_not_fetch_a_header_to_name_tensors(tmp_path: Path) -> None:
    # GIVEN a model of two tensors of 2 MB behind a header of less than 1 kB, of which nothing was read
    weights = np.arange(500_000, dtype=np.float32)
    model = safetensors.numpy.save({"first": weights, "second": weights + 1})
    with lab(tmp_path, {"model.safetensors": model}, chunk_size=CHUNK) as served, served.mount() as mount:
        path = mount.root / "model.safetensors"
        gets = len(mount.gets())
        # WHEN its tensors are asked for
        command = [sys.executable, "-m", "cvtrace", "residency", "--json", "--tensors", str(path)]
        output = subprocess.run(command, capture_output=True, text=True, check=True)
        # THEN the header is not fetched for that, which is said
        assert json.loads(output.stdout)["tensors"] == []
        assert "reading it would fetch it" in output.stderr
        assert len(mount.gets()) == gets
        # AND WHEN the first chunk is there, and the fourth, which is of the other tensor
        header = 8 + int.from_bytes(model[:8], "little")
        offsets = {name: header + each["data_offsets"][0] for name, each in json.loads(model[8:header]).items()}
        one, other = sorted(offsets, key=lambda name: offsets[name])
        read(path, 0, 4096)
        read(path, 3 * CHUNK + 8192, 4096)
        tensors = {each["name"]: each for each in look("--tensors", path)["tensors"]}
        # THEN the client's cache has of each tensor what lies in these chunks, and the page cache what was read
        assert [tensors[name]["size_bytes"] for name in (one, other)] == [2_000_000, 2_000_000]
        assert tensors[one]["client_cache_bytes"] == CHUNK - header
        assert tensors[other]["client_cache_bytes"] == CHUNK
        assert 0 < tensors[other]["page_cache_bytes"] < CHUNK


@pytest.mark.skipif(cannot() is not None, reason=f"nobody: {cannot()}")
def test_without_privileges_bytes_of_unknown_place_are_reported_as_unknown(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN files that were read whole
    for name in ("weights", "config"):
        (mounted.root / "model" / name).read_bytes()
    # WHEN a user looks who neither owns them nor may look into the client's cache
    command = [sys.executable, "-m", "cvtrace", "residency", "--json", mounted.root]
    outcome = run_as_nobody(command, mounted.root, cwd=ROOT)
    # THEN the sizes are there, and nothing is made up
    assert outcome.returncode == 0, outcome.stderr
    files = by_name(json.loads(outcome.stdout))
    assert files["weights"]["size_bytes"] == SIZE
    assert files["weights"]["client_cache_bytes"] is None
    assert files["weights"]["page_cache_bytes"] in (None, SIZE)  # kernels before 6.14 tell everybody
    assert files["config"]["page_cache_bytes"] is None


def test_residency_draws_a_picture(mounted: LabMount) -> None:
    (mounted.root / "model/weights").read_bytes()
    command = [sys.executable, "-m", "cvtrace", "residency", str(mounted.root)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    row = next(line for line in output.splitlines() if "weights" in line)
    assert "█" * 12 in row
    assert "5.00 MB" in row
    assert "total" in output


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["/etc/hostname"], "is not on a CVMFS mount"),
        (["/nothing/here"], "there is no /nothing/here"),
        (["{root}/model/none"], "there is no "),
        (["--watch", "--json", "{root}"], "--watch draws on the terminal"),
    ],
)
def test_a_path_that_residency_cannot_read_is_reported_in_one_sentence(
    mounted: LabMount, arguments: list[str], sentence: str
) -> None:
    command = [sys.executable, "-m", "cvtrace", "residency", *(each.format(root=mounted.root) for each in arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode in (2, 3)
    assert sentence in outcome.stderr
    assert "Traceback" not in outcome.stderr
