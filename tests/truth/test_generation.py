"""Generation while its weights are evicted from the page cache and from the client's cache: causes, fetches, and times.

The truth is what the script saw disappear (mincore), what the client logged of each READ, and what the origin served.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laboratory import Laboratory, Run, Truth

from cvtrace.analysis.joins.phases import DECODE
from cvtrace.analysis.storage.causes import cause_counts, request_causes
from cvtrace.lab.stack import Options, temporary

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).with_name("generation.py")
SIZE = 40_000_000
DELAY_S = 0.05
PAGE = 4096
TOKENS = ("before", "evicted", "fetched again")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, table: list[Truth]) -> Iterator[Laboratory]:
    """A model in small chunks, so that tensors have several, and a client whose cache cannot hold two models."""
    if os.geteuid() != 0:
        pytest.skip("truth tests mount a file system and load BPF programs: they need root")
    options = Options(size_bytes=SIZE, mapped_too=True, client="lab", chunk_bytes=1 << 20)
    with temporary(options) as stack:
        laboratory = Laboratory(stack, tmp_path_factory.mktemp("generation"), table)
        laboratory.remount(SIZE)
        yield laboratory


@pytest.fixture(scope="module")
def run(lab: Laboratory) -> Run:
    """Generate; lose pages; lose objects, too, because something else was read meanwhile."""
    return lab.run(
        lab.client(),
        ["load", "load", str(lab.stack.mapped_model), 1, "the rain in spain"],
        ["tokens", "before", 4],
        ["forget", "pages lost", 0.0, 0.5],
        ["tokens", "evicted", 4],
        ["wander", "objects lost", str(lab.stack.model / "model.onnx.data")],
        ["forget", "pages lost again", 0.0, 0.05, True],
        lab.origin({"first_byte_delay_s": DELAY_S}),
        ["tokens", "fetched again", 4],
        lab.origin(),
        script=SCRIPT,
    )


@pytest.fixture(scope="module")
def pool(lab: Laboratory) -> Run:
    """Generate with a pool of threads, of which one often waits for pages, and the others for it."""
    return lab.run(
        lab.client(),
        ["load", "load", str(lab.stack.mapped_model), 2, "the rain in spain"],
        ["tokens", "before", 4],
        ["forget", "pages lost", 0.7, 0.8],
        lab.client(worker_delay_s=DELAY_S),
        ["tokens", "evicted", 1],
        lab.client(),
        script=SCRIPT,
    )


def tokens(run: Run) -> list[str]:
    return [name for name in run.acts if name.startswith(TOKENS)]


def reads(run: Run) -> Iterator[tuple[dict[str, Any], range]]:
    """Yield the client's line of each READ of the run, and its pages."""
    inode = run.acts["pages lost"].inode
    for line in run.injected:
        if line["what"] == "read" and int(line["of"].split()[0]) == inode:
            _, offset, size = (int(word) for word in line["of"].split())
            yield line, range(offset // PAGE, -(-(offset + size) // PAGE))


def truth(run: Run) -> Counter[str]:
    """Tell why each READ of a token was needed: from what the client had been asked for, and had had, before."""
    generating = [run.acts[name] for name in tokens(run)]
    misses = [line for line in run.injected if line["what"] == "miss"]
    pages_requested: set[int] = set()
    causes: Counter[str] = Counter()
    for line, pages in reads(run):
        missed = [miss for miss in misses if miss["tid"] == line["tid"] and _within(miss, line)]
        fetched = {miss["of"] for miss in misses if miss["end_ns"] < line["start_ns"]}
        if any(act.start_ns <= line["start_ns"] < act.end_ns for act in generating):
            again = any(line["of"] in fetched for line in missed)
            causes[
                "evicted_object" if again else "evicted_page" if pages_requested & set(pages) else "first_touch"
            ] += 1
        pages_requested.update(pages)
    return causes


def _within(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    return bool(outer["start_ns"] <= inner["start_ns"] and inner["end_ns"] <= outer["end_ns"])


def test_causes_of_reads_equal_the_evictions_of_the_client(run: Run) -> None:
    causes = truth(run)
    assert min(causes[name] for name in ("first_touch", "evicted_page", "evicted_object")) > 0, causes
    of_tokens = run.study.request_phase == DECODE
    assert cause_counts(np.where(of_tokens, request_causes(run.study), -1)) == dict(causes)
    assert run.report.verdict.generation_hits_cvmfs == "yes"


def test_reported_evicted_pages_are_the_dropped_ones(run: Run) -> None:
    # GIVEN the pages that the script saw disappear
    loss = run.acts["pages lost"]
    lost_pages = {page for first, last in loss.pages for page in range(first, last + 1)}
    assert len(lost_pages) > 1000

    # WHEN the next tokens are generated
    again = [name for name in run.acts if name.startswith("evicted")]
    begin, end = run.acts[again[0]].start_ns, run.acts[again[-1]].end_ns
    needed = [bool(lost_pages & set(pages)) for line, pages in reads(run) if begin <= line["start_ns"] < end]

    # THEN each of them that was read again is told, and no other
    study = run.study
    of_acts = (study.requests.sent >= begin) & (study.requests.sent < end)
    assert sum(needed) > 50
    assert int(of_acts.sum()) == len(needed)
    before = sum(name.startswith("before") for name in tokens(run))
    affected = [token for token in run.report.verdict.tokens_affected if before <= token < before + len(again)]
    assert affected


def test_fetches_are_those_of_the_access_log(run: Run) -> None:
    served = [entry for name in tokens(run) for entry in run.gets(name)]
    before = {entry.path for entry in run.served if entry.start_ns < run.acts["objects lost"].start_ns}
    again = [entry for name in tokens(run) if name.startswith("fetched") for entry in run.gets(name)]
    assert sum(entry.path in before for entry in again) > 10
    decode = next(row for row in run.report.phases if row.name == "decode")
    assert decode.http_fetches == len(served)
    assert decode.http_bytes == sum(entry.body_bytes for entry in served)


def test_time_for_fetching_again_is_reported(lab: Laboratory, run: Run) -> None:
    # GIVEN pages that are brought one by one, so that no readahead fetches what nobody waits for
    acts = [name for name in tokens(run) if name.startswith("fetched")]
    lab.check(
        "generation fetches evicted objects again",
        "network.request",
        sum(entry.first_byte_ns - entry.start_ns for name in acts for entry in run.gets(name)) / 1e9,
        run.times_of(*acts)["network.request"],
        sum(run.client_s(name, "request") for name in acts),
    )


def test_classes_add_up_to_the_wall_time_of_each_phase(run: Run) -> None:
    for name in ("load", *tokens(run)):
        act, times = run.acts[name], run.times_of(name)
        assert sum(times.values()) == pytest.approx(act.wall_s, rel=1e-3, abs=1e-6)
        assert times["unattributed"] <= 0.02 * max(act.wall_s, 0.05), (name, times)


def test_waits_for_a_pool_are_waiting_or_reported_as_spinning(lab: Laboratory, pool: Run) -> None:
    # GIVEN what a token costs when nothing is missing, and one whose pages come late, whichever thread touches them
    usual_s = min(pool.times_of(name)["compute.cpu"] for name in ("before 1", "before 2", "before 3"))
    late, times = pool.acts["evicted 0"], pool.times_of("evicted 0")
    assert len({line["tid"] for line in pool.client("evicted 0", "delay")}) > 1
    waited_s = sum(spent for name, spent in times.items() if name.startswith(("network.", "cache.")))
    spun_s = pool.spun_s("evicted 0")

    # THEN the rest is waiting for CVMFS, or may have been
    lost_s = late.wall_s - times["compute.wait"] - usual_s
    lab.check(
        "generation in two threads waits for pages", "network + cache + bound of spinning", lost_s, waited_s + spun_s
    )
