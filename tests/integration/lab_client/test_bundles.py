"""Bundles in the lab's client: what is fetched in the background, with which counts, and what the publisher marks."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from lab_mount import FQRN, Lab, lab
from waiting import wait_until

from cvtrace.lab.client import configure
from cvtrace.lab.errors import LabError
from cvtrace.lab.publish import publish

NAMES = [f"part{number:02d}" for number in range(12)]
CHUNK = 300_000
BUNDLE = ".cvmfsbundle-trigger"


def bundle(*paths: str, head: str = "") -> bytes:
    document = {"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8", "dependencies": list(paths)}
    return (head + json.dumps(document)).encode()


FILES: Mapping[str, bytes] = {
    "app/trigger": b"t" * 100,
    "app/weights": os.urandom(4 * CHUNK),
    "app/.cvmfsbundle-trigger": bundle(
        "/app/weights", "./part00", "part01", *(f"/lib/{name}" for name in NAMES[2:]), "/lib/nothing", head="#%\n"
    ),
    "app/part00": b"0" * 50,
    "app/part01": b"1" * 51,
    **{f"lib/{name}": name.encode() * 10 for name in NAMES[2:]},
    "lib/other": b"other",
    "lib/alone": b"a",
    "lib/.cvmfsbundle-alone": b"{",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), FILES, chunk_size=CHUNK) as served:
        yield served


def test_opening_a_trigger_has_the_files_of_its_bundle_fetched_once(served: Lab, tmp_path: Path) -> None:
    # GIVEN a client that plays 2.14
    with served.mount(cache=tmp_path / "cache", like="2.14") as mounted:
        before, counted = len(mounted.gets()), mounted.counters()
        # WHEN the trigger is opened, and nothing else
        (mounted.root / "app/trigger").read_bytes()
        # THEN the bundle, the four chunks and the twelve files are fetched besides it, and counted as the server counts them
        objects = 2 + 4 + len(NAMES)
        wait_until(lambda: len(mounted.gets()) - before >= objects, "all files of the bundle are fetched")
        wait_until(lambda: len(mounted.cached_objects()) >= objects + 2, "they are in the cache")
        after = mounted.counters()
        assert len(mounted.gets()) - before == objects
        for name in ("download.n_requests", "fetch.n_downloads"):
            assert after[name] - counted[name] == objects
        assert after["cvmfs.n_fs_open"] - counted["cvmfs.n_fs_open"] == 1
        # and the chunks of the one file came one after the other, while others came meanwhile
        chunks = sorted((entry.start_ns, entry.end_ns) for entry in mounted.gets() if entry.path.endswith("P"))
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(chunks))
        # AND WHEN the files are read
        for name in FILES:
            if name.startswith("app/part"):
                assert (mounted.root / name).read_bytes() == FILES[name]
        assert (mounted.root / "app/weights").read_bytes() == FILES["app/weights"]
        # THEN nothing more is fetched
        assert len(mounted.gets()) - before == objects


def test_a_damaged_bundle_does_no_harm(served: Lab, tmp_path: Path) -> None:
    # GIVEN a bundle that is no JSON / WHEN its trigger is opened / THEN only those two are fetched, and the client serves on
    with served.mount(cache=tmp_path / "cache", like="2.14") as mounted:
        before = len(mounted.gets())
        assert (mounted.root / "lib/alone").read_bytes() == b"a"
        wait_until(lambda: len(mounted.gets()) - before == 2, "the bundle is fetched")
        assert (mounted.root / "lib/other").read_bytes() == b"other"


@pytest.mark.parametrize(("like", "version"), [("2.12", ""), ("2.13", " 2.13.0")])
def test_clients_before_know_no_bundles(served: Lab, tmp_path: Path, like: str, version: str) -> None:
    # GIVEN a client that plays a release before 2.14
    with served.mount(cache=tmp_path / "cache", like=like) as mounted:
        before = len(mounted.gets())
        # WHEN the trigger is opened / THEN it alone is fetched, the version says which release is played, and no attribute speaks of triggers
        (mounted.root / "app/trigger").read_bytes()
        reported = os.getxattr(mounted.root, "user.version").decode()
        assert reported.startswith("cvtrace-lab ")
        assert reported.endswith(version or reported.split()[1])
        assert f"{reported} (" in mounted.talk("version")
        with pytest.raises(OSError):
            os.getxattr(mounted.root / "app/trigger", "user.bundle_trigger")
        assert len(mounted.gets()) - before == 1


def test_triggers_are_marked_also_by_a_bundle_that_is_added_later(tmp_path: Path) -> None:
    # GIVEN a repository without a bundle
    with lab(tmp_path, {"app/trigger": b"t", "app/file": b"f"}) as served:
        file = tmp_path / BUNDLE
        file.write_bytes(bundle("/app/file", "/app/gone"))
        # WHEN a bundle is added to its directory
        done = publish(file, fqrn=FQRN, store=tmp_path / "store", at="/app")
        # THEN it is there with all that was there before, and the trigger is marked
        (added,) = done.bundles
        assert (added.path, added.trigger, added.files) == (f"/app/{BUNDLE}", "trigger", 2)
        assert added.problem == "1 of its files are not in the repository, such as /app/gone"
        with served.mount(cache=tmp_path / "cache", like="2.14") as mounted:
            assert {path.name for path in (mounted.root / "app").iterdir()} == {BUNDLE, "trigger", "file"}
            assert os.getxattr(mounted.root, "user.version").decode().endswith(" 2.14.0")
            marks = {
                name: os.getxattr(mounted.root / "app" / name, "user.bundle_trigger") for name in ("trigger", "file")
            }
            assert marks == {"trigger": b"1", "file": b"0"}
        # AND WHEN the directory is published anew without it / THEN nothing is marked any more
        assert publish(tmp_path / "source/app", fqrn=FQRN, store=tmp_path / "store", at="/app").bundles == ()
        with served.mount(cache=tmp_path / "cache", like="2.14") as mounted:
            assert os.getxattr(mounted.root / "app/trigger", "user.bundle_trigger") == b"0"


def test_an_unknown_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"does not play cvmfs 3\.0: choose one of 2\.12, 2\.13, 2\.14"):
        configure(FQRN, tmp_path, "http://127.0.0.1:1", tmp_path, tmp_path, like="3.0")
