"""The cause of each request."""

from scene import TARGET, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.storage.causes import CAUSES, request_causes
from cvtrace.probes.events import Kind, Opcode

READ = 131072


def causes(scene: Scene) -> list[str]:
    """Return the cause of each request in the order they were sent."""
    result = study_of(scene.trace())
    return ["" if number < 0 else CAUSES[number] for number in request_causes(result).tolist()]


def read(scene: Scene, at: float, offset: int = 0, size: int = READ, **more: int) -> None:
    scene.request(Opcode.READ, at + 5, at + 85, at + 92, sent=at, offset=offset, size=size, **more)


def fetched(scene: Scene, at: float, number: int, suffix: str = "P", **more: int) -> None:
    scene.fetch(Fetch(at + 20, at + 22, at + 30, at + 60, at + 70, number=number, suffix=suffix), **more)


def test_reads_of_new_pages_are_first_touches_however_they_are_cut() -> None:
    scene = Scene()
    for number, (offset, size) in enumerate([(0, READ), (READ, 4096), (READ + 4096, 20480), (4 * READ, READ)]):
        read(scene, 100 + 100 * number, offset, size)
    assert causes(scene) == ["first_touch"] * 4


def test_a_page_read_or_seen_before_was_evicted() -> None:
    scene = Scene()
    read(scene, 100, 0, READ)
    read(scene, 200, READ - 4096, 3 * 4096)  # its first page was in the first READ
    scene.page(Kind.PAGE_READ, 290, 100)
    read(scene, 300, 100 * 4096, 4096)
    read(scene, 400, 8 * READ, READ)
    assert causes(scene) == ["first_touch", "evicted_page", "evicted_page", "first_touch"]


def test_a_fault_does_not_prove_that_the_page_was_cached() -> None:
    scene = Scene()
    scene.page(Kind.FAULT, 90, 0)
    read(scene, 100, 0, READ)
    assert causes(scene) == ["first_touch"]


def test_pages_of_different_files_and_mounts_are_distinct() -> None:
    scene = Scene()
    read(scene, 100, 0, READ, node=7)
    read(scene, 200, 0, READ, node=8)
    assert causes(scene) == ["first_touch", "first_touch"]


def test_an_object_hit_before_and_missed_now_was_evicted() -> None:
    scene = Scene()
    read(scene, 100, 0)
    fetched(scene, 100, 1)
    read(scene, 200, READ)
    scene.hit(210, 2)
    for at, number in ((300, 1), (400, 2), (500, 3)):
        read(scene, at, at * READ)
        fetched(scene, at, number)
    assert causes(scene) == ["first_touch", "first_touch", "evicted_object", "evicted_object", "first_touch"]


def test_waiting_for_the_fetch_of_another_request_is_not_an_eviction() -> None:
    scene = Scene()
    scene.add(Kind.PROC_FORK, 1, tid=TARGET, a=TARGET, b=TARGET + 1)
    read(scene, 100, 0)
    fetched(scene, 100, 1)
    scene.request(Opcode.READ, 118, 186, 190, sent=117, offset=READ, worker=WORKER2, asker=TARGET + 1)
    scene.miss(125, 1, worker=WORKER2)
    assert causes(scene) == ["first_touch", "first_touch"]


def test_opens_and_lookups_are_reported_and_releases_have_no_cause() -> None:
    scene = Scene()
    for at, opcode in ((100, Opcode.OPEN), (200, Opcode.LOOKUP), (300, Opcode.RELEASE)):
        scene.request(opcode, at + 5, at + 85, at + 92, sent=at, name="x")
    assert causes(scene) == ["new_file", "metadata", ""]


def reloaded(scene: Scene, at: float, number: int = 50) -> None:
    """Let the client take over a new catalog, in a thread of its own."""
    scene.manifest(at)
    scene.fetch(Fetch(at + 10, at + 12, at + 15, at + 20, at + 24, number=number, suffix="C"), worker=WORKER2)


def test_requests_repeated_for_a_new_catalog_are_reported() -> None:
    # GIVEN names and a page that were there, then a new catalog
    scene = Scene()
    scene.request(Opcode.LOOKUP, 105, 110, 112, sent=100, name="a")
    read(scene, 200, 0)
    reloaded(scene, 400)
    # WHEN they are asked for again, beside what is new
    for at, name in ((500, "a"), (520, "b"), (540, "a")):
        scene.request(Opcode.LOOKUP, at + 5, at + 8, at + 9, sent=at, name=name)
    read(scene, 600, 0)
    read(scene, 700, 8 * READ)
    # THEN only the first time that it was asked again is the new catalog's doing
    assert causes(scene)[2:] == ["catalog_expired", "metadata", "metadata", "catalog_expired", "first_touch"]


def test_requests_while_the_kernel_drops_its_cache_belong_to_the_new_catalog() -> None:
    # GIVEN a client that sees a new manifest, lets the kernel forget names and pages, and takes the catalog over later
    scene = Scene()
    scene.request(Opcode.LOOKUP, 105, 110, 112, sent=100, name="a")
    read(scene, 200, 0)
    scene.manifest(400)
    scene.request(Opcode.LOOKUP, 455, 460, 462, sent=450, name="a")
    read(scene, 500, 0)
    reloaded(scene, 700)
    assert causes(scene)[2:] == ["catalog_expired", "catalog_expired"]


def test_a_request_that_fetches_a_catalog_after_a_reload_has_the_cause_reload() -> None:
    scene = Scene()
    scene.request(Opcode.LOOKUP, 105, 110, 112, sent=100, name="a")
    reloaded(scene, 400)
    scene.request(Opcode.OPEN, 505, 585, 590, sent=500)
    fetched(scene, 500, 51, "C")
    assert causes(scene)[1:] == ["catalog_expired"]


def test_the_catalogs_of_a_mount_that_comes_up_have_not_expired() -> None:
    # GIVEN a client that fetches manifest and catalog before it answers anything
    scene = Scene()
    reloaded(scene, 50)
    scene.request(Opcode.LOOKUP, 105, 110, 112, sent=100, name="a")
    scene.request(Opcode.LOOKUP, 205, 290, 292, sent=200, name="sub")
    fetched(scene, 200, 51, "C")
    assert causes(scene) == ["metadata", "metadata"]


def test_a_manifest_without_a_new_catalog_makes_nothing_expire() -> None:
    scene = Scene()
    scene.request(Opcode.LOOKUP, 105, 110, 112, sent=100, name="a")
    scene.manifest(300)
    scene.request(Opcode.LOOKUP, 405, 410, 412, sent=400, name="a")
    assert causes(scene) == ["metadata", "metadata"]


def streamed(scene: Scene, at: float, number: int) -> None:
    """Add the fetch of a client that streams: no object is opened, none is committed."""
    before = len(scene.events)
    fetched(scene, at, number)
    kinds = (Kind.CACHE_OPEN, Kind.CACHE_RENAME, Kind.CACHE_INSERT)
    scene.events[before:] = [event for event in scene.events[before:] if event[4] not in kinds]


def test_a_client_that_streams_fetches_for_every_read() -> None:
    # GIVEN a client with a cache on disk that misses the object in OPEN, and commits nothing in READ
    scene = Scene()
    scene.request(Opcode.OPEN, 105, 110, 112, sent=100)
    scene.miss(106, 1)
    for at in (200, 300):
        read(scene, at, at * READ)
        streamed(scene, at, 1)
    assert causes(scene) == ["new_file", "streaming_cache", "streaming_cache"]


def test_every_download_of_a_client_that_streams_is_its_own_reads() -> None:
    # GIVEN a client that looks for the object in the first READ only, and downloads it for each
    scene = Scene()
    read(scene, 200, 0)
    scene.miss(206, 1)
    for at in (200, 300, 400):
        if at > 200:
            read(scene, at, at * READ)
        streamed(scene, at, 1)
    # WHEN
    result = study_of(scene.trace())
    # THEN each GET is one of the READ that it was made for
    assert result.gets.request.tolist() == [0, 1, 2]
    assert causes(scene) == ["streaming_cache"] * 3
    (row,) = analyse(scene.trace()).chunks
    assert (row.fetches, row.fetched_bytes, row.read_bytes, row.misses) == (3, 3000, 3 * READ, 1)


def test_a_cache_that_is_not_on_disk_is_not_taken_for_streaming() -> None:
    scene = Scene()
    read(scene, 200, 0)
    streamed(scene, 200, 1)
    assert causes(scene) == ["first_touch"]


def test_requests_repeated_after_a_reload_of_the_client_are_reported() -> None:
    # GIVEN a page and a name that were there, then a client that loads its library again
    scene = Scene()
    scene.add(Kind.CACHE_OPEN, 5, 6, tid=WORKER, ret=8, text="/usr/lib/libcvmfs_fuse3.so.2.12.0")  # as it is mounted
    scene.request(Opcode.READ, 20, 22, 24, sent=18, offset=0)
    scene.request(Opcode.LOOKUP, 30, 32, 34, sent=28, name="a")
    scene.add(Kind.CACHE_OPEN, 48, 49, tid=WORKER, ret=-2, text="/opt/lib/libcvmfs_fuse3.so.2.12.0")
    scene.add(Kind.CACHE_OPEN, 50, 52, tid=WORKER, ret=8, text="/usr/lib/libcvmfs_fuse3.so.2.12.0")
    # WHEN both are asked for again, and what was never asked for
    scene.request(Opcode.READ, 60, 62, 64, sent=58, offset=0)
    scene.request(Opcode.LOOKUP, 70, 72, 74, sent=68, name="a")
    scene.request(Opcode.READ, 80, 82, 84, sent=78, offset=1 << 20)
    scene.request(Opcode.READ, 90, 92, 94, sent=88, offset=0)
    # THEN once, it is the reload's doing
    assert causes(scene) == [
        "first_touch", "metadata", "client_reloaded", "client_reloaded", "first_touch", "evicted_page"
    ]  # fmt: skip
