"""Programs that generate nothing: runs of a session, folders, and how files were gone through."""

from __future__ import annotations

import pytest
from scene import MOUNT, TARGET, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.classes import GROUPS
from cvtrace.analysis.contract.report_schema import Folder
from cvtrace.analysis.contract.storage_schema import File
from cvtrace.probes.events import Kind, Opcode

PAGE = 4096
SESSION, RUN = "onnxruntime.InferenceSession", "onnxruntime.InferenceSession.run"


def four_runs() -> Scene:
    """A session whose first run fetches, whose third reads what is in the client's cache, in a thread pool's thread."""
    scene = Scene(end=1000).call(SESSION, 50, 100)
    for number in range(4):
        scene.call(RUN, 200 * number + 110, 200 * number + 290)
    scene.request(Opcode.READ, 121, 240, 242, sent=120, node=7, size=8192)
    scene.fetch(Fetch(handed=130, get=135, first=200, done=220, filled=230, size=3000))
    scene.off(120, 241, 242, by=201)
    scene.request(Opcode.READ, 531, 540, 542, sent=530, node=7, size=4096, asker=101)
    scene.add(Kind.SYS_WAIT, 520, 545, tid=TARGET, a=202)
    scene.off(530, 541, 542, by=201, tid=101).off(521, 543, 544, by=101)
    return scene


def test_every_run_of_a_session_is_a_row() -> None:
    rows = analyse(four_runs().trace()).runs

    assert [row.index for row in rows] == [0, 1, 2, 3]
    assert [row.fuse_reads for row in rows] == [1, 0, 1, 0]
    assert [row.fuse_read_bytes for row in rows] == [8192, 0, 4096, 0]
    assert [row.http_fetches for row in rows] == [1, 0, 0, 0]
    assert [row.http_bytes for row in rows] == [3000, 0, 0, 0]
    assert [round(row.wall_s * 1e6) for row in rows] == [180] * 4
    assert rows[0].blocked_s == pytest.approx(122e-6)
    assert rows[1].blocked_s == 0
    assert rows[2].blocked_s == pytest.approx(12e-6, abs=3e-6)
    for row in rows:
        parts = sum(getattr(row, f"{group}_s") for group in GROUPS)
        assert parts == pytest.approx(row.wall_s)


def test_without_requests_runs_have_times_only() -> None:
    scene = Scene(end=1000).call(RUN, 100, 300)
    (row,) = analyse(scene.trace(probe="portable")).runs
    assert (row.fuse_reads, row.http_fetches, row.blocked_s) == (None, None, None)
    assert row.wall_s == pytest.approx(200e-6)


def tree() -> Scene:
    """A program that looks through folders: three below `repo`, waits of 40, 20 and 10 µs, and a name nobody saw."""
    scene = Scene(end=1000)
    node = {"": 1, "repo": 10, "repo/a": 11, "repo/a/x": 12, "repo/b": 13}
    at = 10.0

    def ask(opcode: Opcode, length: float, **more: object) -> None:
        nonlocal at
        scene.request(opcode, at + 1, at + length - 2, at + length, sent=at, **more)  # type: ignore[arg-type]
        scene.off(at, at + length - 1, at + length, by=201)
        at += length + 5

    ask(Opcode.LOOKUP, 10, node=1, child=node["repo"], name="repo")
    ask(Opcode.LOOKUP, 10, node=node["repo"], child=node["repo/a"], name="a")
    ask(Opcode.LOOKUP, 10, node=node["repo"], child=node["repo/b"], name="b")
    ask(Opcode.OPENDIR, 20, node=node["repo/b"])
    ask(Opcode.LOOKUP, 10, node=node["repo/a"], child=node["repo/a/x"], name="x")
    ask(Opcode.OPEN, 20, node=node["repo/a/x"])
    ask(Opcode.READ, 40, node=node["repo/a/x"], size=8192)
    ask(Opcode.GETATTR, 10, node=99)
    return scene


def folders() -> dict[str, Folder]:
    return {row.path.removeprefix(MOUNT): row for row in analyse(tree().trace()).folders}


def test_folders_include_all_files_below_them() -> None:
    by_path = folders()

    assert set(by_path) == {"", "/repo", "/repo/a", "/repo/b"}
    assert (by_path["/repo/a"].lookups, by_path["/repo/a"].opens, by_path["/repo/a"].reads) == (1, 1, 1)
    assert (by_path["/repo/a"].read_bytes, by_path["/repo/a"].files) == (8192, 1)
    assert by_path["/repo/a"].blocked_s == pytest.approx(70e-6)
    assert by_path["/repo/b"].blocked_s == pytest.approx(20e-6)
    assert by_path["/repo"].blocked_s == pytest.approx(20e-6)
    assert by_path["/repo"].total_blocked_s == pytest.approx(110e-6)
    assert by_path["/repo"].total_requests == 6


def test_requests_about_what_was_never_seen_by_name_have_a_row_of_their_own() -> None:
    rows = analyse(tree().trace()).folders
    assert [row.requests for row in rows if row.path == ""] == [1]
    assert [row.total_requests for row in rows if row.path == MOUNT] == [7]


def only_file(scene: Scene) -> File:
    (row,) = analyse(scene.trace()).files
    return row


def test_a_file_read_from_begin_to_end_is_sequential() -> None:
    scene = Scene(end=1000)
    for place in range(16):
        scene.request(Opcode.READ, 10 + place, 10.5 + place, 10.8 + place, sent=9.5 + place, offset=place * 131072)
        scene.page(Kind.PAGE_READ, 10.9 + place, place * 32, 32)
    row = only_file(scene)
    assert (row.access, row.used_bytes, row.read_bytes) == ("sequential", 16 * 131072, 16 * 131072)


def test_a_mapping_touched_in_order_is_sequential_and_fully_used() -> None:
    # GIVEN faults, each tried again by fault-around over 16 pages, one right behind the other
    scene = Scene(end=1000)
    for place in range(20):
        scene.page(Kind.FAULT, 10 + 3 * place, place * 16)
        scene.page(Kind.PAGE_MAP, 11 + 3 * place, place * 16, 16)
    scene.request(Opcode.READ, 5, 6, 7, sent=4, offset=0, size=20 * 16 * PAGE)
    row = only_file(scene)
    # THEN all but the last window, of which one page is sure, was used
    assert (row.access, row.used_bytes) == ("sequential", 19 * 16 * PAGE + PAGE)


def test_a_mapping_touched_at_few_places_is_random_and_little_used() -> None:
    # GIVEN 100 touches, 36 kB apart or back and forth, each of which brings 128 KiB
    scene = Scene(end=1000)
    for place in range(100):
        page = (place * 37 % 100) * 9
        scene.request(
            Opcode.READ, 5 + 6 * place, 5.5 + 6 * place, 5.8 + 6 * place, sent=4.5 + 6 * place, offset=page * PAGE
        )
        scene.page(Kind.FAULT, 4 + 6 * place, page)
        scene.page(Kind.PAGE_MAP, 6 + 6 * place, max(page - page % 16, 0), 16)
    row = only_file(scene)
    # THEN each has used one page at least, and that is all that is sure
    assert row.access == "random"
    assert row.used_bytes == 100 * PAGE
    assert row.read_bytes == 100 * 131072
    assert row.asked_bytes is not None
    assert row.asked_bytes > 5 * row.used_bytes


def test_strided_reads_are_random() -> None:
    scene = Scene(end=1000)
    scene.request(Opcode.READ, 5, 6, 7, sent=4, size=1 << 20)
    for place in range(30):
        scene.page(Kind.FAULT, 10 + place, place * 9)
    assert only_file(scene).access == "random"


def test_bytes_used_by_small_reads_are_those_returned() -> None:
    # GIVEN 50 reads of 4 bytes, each of another page
    scene = Scene(end=1000).opened(1, 4, 5)
    scene.request(Opcode.READ, 6, 7, 8, sent=5, size=50 * 20 * PAGE)
    for place in range(50):
        scene.read(10 + place, 10.9 + place, 5, 4)
        scene.page(Kind.PAGE_READ, 10.5 + place, place * 20, 1)
    row = only_file(scene)
    assert (row.access, row.used_bytes) == ("random", 200)
    assert row.asked_bytes == 50 * PAGE


def test_two_threads_that_each_read_in_order_are_sequential() -> None:
    scene = Scene(end=1000)
    scene.request(Opcode.READ, 5, 6, 7, sent=4, size=1 << 22)
    for place in range(40):
        scene.page(Kind.PAGE_READ, 10 + 2 * place, place * 8, 8, tid=TARGET)
        scene.page(Kind.PAGE_READ, 11 + 2 * place, 4000 + place * 8, 8, tid=101)
    assert only_file(scene).access == "sequential"


def test_without_page_events_the_pattern_follows_from_the_reads() -> None:
    scene = Scene(end=1000)
    for place in range(20):
        offset = (place * 7 % 20) * 10_000_000
        scene.request(Opcode.READ, 10 + place, 10.5 + place, 10.8 + place, sent=9.5 + place, offset=offset, size=4096)
    row = only_file_of(scene, "strace")
    assert (row.access, row.used_bytes) == ("random", None)


def only_file_of(scene: Scene, probe: str) -> File:
    (row,) = analyse(scene.trace(probe=probe)).files
    return row


def test_a_file_that_was_only_opened_has_no_access_pattern() -> None:
    scene = Scene(end=1000)
    scene.request(Opcode.OPEN, 6, 7, 8, sent=5)
    row = only_file(scene)
    assert (row.access, row.used_bytes) == (None, None)
