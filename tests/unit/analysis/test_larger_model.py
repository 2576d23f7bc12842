"""A larger model: chunks of the same size, of which it has more, and where its reads fall into them."""

import pytest
from scene import TARGET, WORKER, Fetch, Scene
from test_what_if import predicted, report_with

from cvtrace.analysis import Report
from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.joins.phases import DECODE, LOAD
from cvtrace.analysis.storage.chunks import chunks
from cvtrace.analysis.whatif.fetches_of_larger import Fetches, fetches_of_larger, weights_files
from cvtrace.probes.events import Kind, Opcode

MIB = 1 << 20
READ = 131072
TOKENS = (2000, 3000, 4000, 5000)


def read(
    scene: Scene, at: float, offset: int, *, size: int = READ, fetches: int | None = None, suffix: str = "P"
) -> None:
    """Let the target wait 90 µs for a READ that fetches the object of that number, or finds it in the cache."""
    scene.off(at, at + 90, at + 90, by=WORKER, state=2)
    scene.request(Opcode.READ, at + 5, at + 85, at + 92, sent=at - 1, offset=offset, size=size)
    if fetches is not None:
        scene.fetch(Fetch(at + 20, at + 22, at + 30, at + 60, at + 70, number=fetches, size=MIB, suffix=suffix))
    scene.cache_read(at + 72, at + 80, 66, size, offset=offset % MIB)


def model(*, fetched: bool = True, suffix: str = "P") -> Scene:
    """Return a load that reads the first of two MiB of the weights, and four tokens that touch a page of the second each."""
    scene = Scene(end=10_000).call("OgaCreateModel", 0, 1000).opened(10, 30, 5)
    scene.request(Opcode.OPEN, 15, 20, 25, sent=12)
    read(scene, 100, 0, size=MIB, fetches=1 if fetched else None, suffix=suffix)
    for at in (100, 500):
        scene.page(Kind.PAGE_MAP, at, at)
    for number, at in enumerate(TOKENS):
        scene.call("OgaGenerator_GenerateNextToken", at, at + 500)
        read(scene, at + 100, MIB + number * MIB // 4, fetches=2 if fetched and not number else None, suffix=suffix)
    return scene.add(Kind.PROC_EXIT, 9000, tid=TARGET)


def fetches(scene: Scene, scale: float) -> Fetches | None:
    study = study_of(scene.trace())
    return fetches_of_larger(study, chunks(study), weights_files(study), scale)


def longer_us(report: Report, name: str) -> float:
    row = next(row for row in predicted(report, "larger_model").phases if row.name == name)
    assert row.predicted_s is not None
    return (row.predicted_s - row.measured_s) * 1e6


@pytest.mark.parametrize("scale, in_load, in_decode", [(1, 1, 1), (2, 2, 2), (4, 4, 4), (16, 16, 4)])
def test_a_larger_model_has_more_chunks_of_the_same_size(scale: float, in_load: int, in_decode: int) -> None:
    # GIVEN a run that fetched one chunk in the load, and one for all four tokens
    counted = fetches(model(), scale)

    # THEN each token needs at most a chunk of its own
    assert counted is not None
    assert (counted.now[LOAD], counted.now[DECODE]) == (1, 1)
    assert (counted.larger[LOAD], counted.larger[DECODE]) == (in_load, in_decode)


def test_a_chunk_that_the_load_fetches_is_not_fetched_by_a_token() -> None:
    # GIVEN a smaller model: all of it is in the chunk that the load fetches
    counted = fetches(model(), 0.5)

    assert counted is not None
    assert (counted.larger[LOAD], counted.larger[DECODE]) == (1, 0)
    assert longer_us(report_with(model(), scale=0.5), "decode") < -56


def test_a_model_that_is_in_the_cache_is_not_fetched_when_it_is_larger() -> None:
    counted = fetches(model(fetched=False), 4)

    assert counted is None or int(counted.larger.sum()) == 0
    assert longer_us(report_with(model(fetched=False), scale=4), "decode") == pytest.approx(
        3 * longer_us(report_with(model(fetched=False), scale=2), "decode"), rel=0.01
    )


def test_a_file_that_is_fetched_whole_is_one_larger_fetch() -> None:
    # GIVEN a fetch of 8 µs to its first byte, and 48 for the rest
    whole, chunked = (longer_us(report_with(model(suffix=suffix), scale=3), "load") for suffix in ("", "P"))

    assert chunked - whole == pytest.approx(2 * 8, abs=1)


def test_what_making_a_generator_takes_does_not_grow() -> None:
    # GIVEN a prefill of 300 µs to make the generator and 200 for the prompt
    scene = Scene(end=10_000).call("OgaCreateModel", 0, 1000).preempted(5, 6)
    scene.call("OgaCreateGenerator", 1100, 1400).call("OgaGenerator_AppendTokens", 1500, 1700)

    # WHEN, THEN only the prompt passes over the weights
    assert longer_us(report_with(scene, scale=4), "prefill") == pytest.approx(3 * 200, abs=1)
