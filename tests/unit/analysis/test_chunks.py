"""Rows of objects: their place in the file, what was requested, read and fetched of them, and how often they were evicted."""

from scene import MODEL, TARGET, WORKER, WORKER2, Fetch, Scene

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.contract.storage_schema import Chunk
from cvtrace.probes.events import Kind, Opcode

MIB = 1 << 20
READ = 131072
PAGES = READ // 4096


def opened(scene: Scene) -> Scene:
    scene.opened(10, 30, 5)
    scene.request(Opcode.OPEN, 15, 20, 25, sent=12)
    return scene


def fetched(scene: Scene, at: float, number: int, offset: int, inside: int, size: int = MIB) -> None:
    """Let the target wait for a READ at `offset` that fetches object `number` and reads it from `inside` on."""
    scene.off(at, at + 90, at + 95, by=WORKER, state=2)
    scene.request(Opcode.READ, at + 5, at + 85, at + 92, sent=at - 1, offset=offset, size=READ)
    scene.fetch(Fetch(at + 20, at + 22, at + 30, at + 60, at + 70, number=number, size=size))
    scene.cache_read(at + 72, at + 80, 66, READ, offset=inside)


def by_object(report: Report) -> dict[int, Chunk]:
    return {int(row.object, 16): row for row in report.chunks}


def test_a_chunk_lies_where_the_client_read_it_from() -> None:
    # GIVEN a READ at 3 MiB that the client answers from 1 MiB on in the object
    scene = opened(Scene())
    fetched(scene, 100, 7, 3 * MIB, MIB, size=4 * MIB)
    scene.page(Kind.FAULT, 99, 3 * MIB // 4096).page(Kind.PAGE_MAP, 196, 3 * MIB // 4096, 16)

    row = by_object(analyse(scene.trace()))[7]

    assert (row.path, row.kind) == (MODEL, "chunk")
    assert (row.offset_bytes, row.size_bytes) == (2 * MIB, 4 * MIB)
    assert (row.asked_bytes, row.read_bytes, row.fetched_bytes) == (16 * 4096, READ, 4 * MIB)
    assert (row.fetches, row.misses, row.hits, row.evictions) == (1, 1, 0, 0)
    assert row.blocked_s > 50e-6


def test_a_read_over_a_border_is_split_between_two_chunks() -> None:
    # GIVEN a READ whose first quarter comes from the end of one object, and the rest from the begin of the next
    scene = opened(Scene())
    scene.request(Opcode.READ, 105, 185, 192, sent=99, offset=MIB - READ // 4, size=READ)
    scene.hit(110, 1, 30).cache_read(112, 114, 30, READ // 4, offset=MIB - READ // 4)
    scene.hit(120, 2, 31).cache_read(122, 124, 31, READ - READ // 4, offset=0)

    rows = by_object(analyse(scene.trace()))

    assert [rows[number].offset_bytes for number in (1, 2)] == [0, MIB]
    assert [rows[number].read_bytes for number in (1, 2)] == [READ // 4, READ - READ // 4]
    assert [rows[number].size_bytes for number in (1, 2)] == [None, None]
    assert [rows[number].hits for number in (1, 2)] == [1, 1]


def test_reads_of_a_handle_that_is_open_belong_to_its_object() -> None:
    scene = opened(Scene())
    scene.request(Opcode.READ, 105, 185, 192, sent=99, offset=0, size=READ)
    scene.hit(110, 3, 30).cache_read(112, 114, 30, READ)
    scene.request(Opcode.READ, 205, 285, 292, sent=199, offset=READ, size=READ)
    scene.cache_read(212, 214, 30, READ, offset=READ)

    row = by_object(analyse(scene.trace()))[3]

    assert (row.read_bytes, row.hits, row.offset_bytes) == (2 * READ, 1, 0)


def test_bytes_of_the_chunks_are_those_of_the_file() -> None:
    scene = opened(Scene())
    fetched(scene, 100, 7, 0, 0)
    fetched(scene, 300, 8, MIB, 0)
    fetched(scene, 500, 7, READ, READ)  # gone meanwhile
    scene.page(Kind.PAGE_READ, 90, 0, 2 * PAGES).page(Kind.PAGE_READ, 95, PAGES, 2 * PAGES)

    report = analyse(scene.trace())

    (file,) = (row for row in report.files if row.path == MODEL)
    assert sum(row.read_bytes for row in report.chunks) == file.read_bytes == 3 * READ
    assert sum(row.fetched_bytes for row in report.chunks) == file.fetched_bytes == 3 * MIB
    assert file.asked_bytes == 3 * READ  # each page once
    assert by_object(report)[7].asked_bytes == 3 * READ


def test_an_object_fetched_again_was_evicted() -> None:
    scene = opened(Scene())
    fetched(scene, 100, 7, 0, 0)
    fetched(scene, 300, 8, MIB, 0)
    fetched(scene, 500, 7, READ, READ)

    report = analyse(scene.trace())

    assert by_object(report)[7].evictions == 1
    assert by_object(report)[7].fetches == 2
    cache = report.client_cache
    assert cache is not None
    assert (cache.objects_fetched, cache.fetched_again, cache.fetched_again_bytes) == (2, 1, MIB)
    assert (cache.evicted, cache.thrash, cache.working_set_bytes) == (1, True, 2 * MIB)


def test_a_chunk_waited_for_during_anothers_download_was_not_evicted() -> None:
    # GIVEN a second request that misses the object while the first is fetching it
    scene = opened(Scene())
    fetched(scene, 100, 7, 0, 0)
    scene.request(Opcode.READ, 125, 186, 190, sent=124, offset=READ, size=READ, worker=WORKER2, asker=TARGET + 1)
    scene.add(Kind.PROC_FORK, 1, tid=TARGET, a=TARGET, b=TARGET + 1)
    scene.miss(126, 7, worker=WORKER2).hit(175, 7, 40, worker=WORKER2)

    report = analyse(scene.trace())

    assert (by_object(report)[7].shared, by_object(report)[7].evictions) == (1, 0)
    assert report.client_cache is not None
    assert not report.client_cache.thrash


def test_a_whole_file_and_a_catalog_are_distinguished_from_chunks() -> None:
    scene = Scene()
    scene.opened(100, 200, 5)
    scene.request(Opcode.OPEN, 105, 185, 192, sent=102)
    scene.fetch(Fetch(120, 122, 130, 160, 170, number=1, suffix=""))
    scene.request(Opcode.LOOKUP, 305, 385, 392, sent=302, child=9, name="sub")
    scene.fetch(Fetch(320, 322, 330, 360, 370, number=2, suffix="C"))

    rows = by_object(analyse(scene.trace()))

    assert (rows[1].kind, rows[1].path) == ("file", MODEL)
    assert (rows[2].kind, rows[2].path) == ("catalog", "")


def test_requests_end_at_the_end_of_the_file() -> None:
    # GIVEN a file of 5,000 bytes that is read with a buffer of 1 MiB
    scene = opened(Scene())
    unique = scene.request(Opcode.READ, 105, 185, 192, sent=99, offset=0, size=8192)
    scene.events = [
        (*event[:8], 16 + 5000, 0) if event[4] == Kind.FUSE_REPLY and event[7] == unique else event
        for event in scene.events
    ]
    scene.page(Kind.PAGE_READ, 90, 0, 256)
    (file,) = analyse(scene.trace()).files
    assert (file.read_bytes, file.asked_bytes) == (5000, 5000)


def test_what_the_probe_cannot_see_is_null() -> None:
    scene = opened(Scene())
    fetched(scene, 100, 7, 0, 0)

    blind = analyse(scene.trace(probe="strace"))

    assert by_object(blind)[7].asked_bytes is None
    assert blind.files[0].asked_bytes is None
    assert analyse(Scene().call("OgaCreateModel", 1, 2).trace(probe="portable")).client_cache is None
