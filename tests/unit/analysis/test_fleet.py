"""The traces of many nodes together: which ones, what counts, what is said of all of them."""

import json
import random
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fleets import add_unusable, change_meta, fleet, small_fleet
from hostile import hostile_run
from runs import portable_run, stored

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.fleet_columns import FLEET_TABLES, LOAD_BIN_NS
from cvtrace.analysis.fleet import answers, clocks
from cvtrace.analysis.fleet.cluster import in_this_process
from cvtrace.analysis.fleet.fleet import Fleet, TwiceThere, fleet_of
from cvtrace.analysis.fleet.frames import names_of
from cvtrace.analysis.fleet.node import _elapsed, _spread, tables_of
from cvtrace.analysis.fleet.part import merged
from cvtrace.analysis.fleet.places import NoTraces, places_of
from cvtrace.analysis.report.fleet.text import render
from cvtrace.probes.events import EVENT, TEXT, Kind
from cvtrace.tracer.store import Trace, read_trace

SECOND = 10**9


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_fleet(tmp_path_factory.mktemp("fleet"), nodes=26, events=750)


@pytest.fixture(scope="module")
def whole(traces: Path) -> Fleet:
    return fleet_of([traces], workers=1)


def test_every_trace_counts_once_with_the_figures_of_its_own_report(traces: Path, whole: Fleet) -> None:
    assert (whole.report.nodes, whole.report.hosts, whole.report.skipped) == (26, 26, ())
    row = whole.part["nodes"].slice(3, 1).to_pylist()[0]
    assert row["host"] == "node-00003"
    single = analyse(read_trace(traces / "node-00003"))
    assert (row["events"], row["duration_s"]) == (single.trace.events, single.trace.duration_s)
    assert row["load_s"] == next(phase.wall_s for phase in single.phases if phase.name == "load")
    assert row["fetched_bytes"] == sum(fetch.bytes for fetch in single.fetches)
    assert row["network_s"] == sum(phase.network_s for phase in single.phases)


def test_slow_nodes_are_named_with_the_classes_that_they_spent_more_of(whole: Fleet) -> None:
    report = whole.report

    slowest = report.slowest[0]
    assert (slowest.node, slowest.straggler) == ("node-00024", True)
    assert slowest.over_s == pytest.approx(slowest.work_s - slowest.median_s)
    assert slowest.why[0].name in ("network.request", "cache.fill", "cache.lookup")
    assert sum(each.time_s for each in slowest.why) <= slowest.over_s * 1.5


def test_objects_are_counted_by_nodes_and_gets(whole: Fleet) -> None:
    part, shared = whole.part, whole.report.shared

    objects, nodes = part["objects"], part["nodes"]
    assert shared.fetches == sum(objects["fetches"].to_pylist()) == sum(nodes["fetches"].to_pylist())
    assert shared.bytes == sum(nodes["fetched_bytes"].to_pylist())
    assert max(objects["nodes"].to_pylist()) == 26
    size = shared.bytes // shared.fetches  # all objects of the scene are of one size
    assert shared.repeated_bytes == (shared.fetches - shared.objects) * size


def test_tables_do_not_depend_on_how_traces_are_put_together(traces: Path) -> None:
    # GIVEN
    parts = [tables_of(str(path)) for path in sorted(traces.iterdir())[:9]]
    whole = merged(parts)
    chance = random.Random(3)

    for _ in range(5):
        # WHEN
        chance.shuffle(parts)
        cut = sorted(chance.sample(range(1, 9), 2))
        groups = [parts[: cut[0]], parts[cut[0] : cut[1]], parts[cut[1] :]]
        again = merged([merged(group) for group in groups])

        # THEN
        assert all(again[name].equals(whole[name]) for name in FLEET_TABLES)


def test_what_cannot_be_read_is_named_and_the_rest_counts(traces: Path, tmp_path: Path) -> None:
    # GIVEN
    for number in range(3):
        shutil.copytree(traces / f"node-0000{number}", tmp_path / f"node-{number}")
    wrong = add_unusable(tmp_path, traces / "node-00004")

    # WHEN
    text = fleet(tmp_path, "--workers", "1")
    of_file = fleet(tmp_path, "--workers", "1", "--format", "json")

    # THEN
    assert (text.exit_code, of_file.exit_code) == (4, 4)
    report = json.loads(of_file.stdout)
    assert [row["host"] for row in report["traces"]] == ["node-00000", "node-00001", "node-00002"]
    assert sum(moment["begun"] for moment in report["timeline"]) == report["shared"]["fetches"]
    assert report["nodes"] == 3
    assert {Path(row["trace"]).name for row in report["skipped"]} == set(wrong)
    for row in report["skipped"]:
        assert wrong[Path(row["trace"]).name] in f"is {row['reason']}"
    assert "5 of 8 traces skipped; the report is of the others" in text.stderr
    assert f"skipped {tmp_path}/cut: " in of_file.stderr
    assert "Traceback" not in text.output


def test_a_trace_whose_analysis_fails_is_skipped(traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing\nin a second line")

    part = tables_of(str(traces / "node-00001"), also=fail)

    assert part["nodes"].num_rows == 0
    assert part["skipped"].to_pylist()[0]["reason"] == (
        "its analysis failed with ZeroDivisionError: by nothing; `cvtrace report` shows where"
    )


@pytest.mark.parametrize("given", ["nowhere", "no-such-*"])
def test_nothing_to_read_is_wrong_usage(tmp_path: Path, given: str) -> None:
    result = fleet(tmp_path / given)

    assert result.exit_code in (2, 4)
    assert "nothing matches" in result.output or "there is no such folder" in result.output


def test_if_no_trace_can_be_read_there_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    result = fleet(tmp_path)

    assert result.exit_code == 4
    assert result.stdout == ""
    assert "none of the 2 traces can be read" in result.stderr


def test_traces_are_found_below_folders_by_patterns_and_in_partitions(traces: Path, tmp_path: Path) -> None:
    # GIVEN
    for place in ("job=17/site=a/n1", "job=17/site=b/n1", "job=18/n2", ".hidden/n3"):
        shutil.copytree(traces / "node-00000", tmp_path / place)
    (tmp_path / "linked").symlink_to(tmp_path / "job=18" / "n2")
    (tmp_path / "outside").symlink_to(traces / "node-00001")
    (tmp_path / "round").symlink_to(tmp_path)

    # THEN
    names = [str(Path(each).relative_to(tmp_path)) for each in places_of([tmp_path]).traces]
    assert names == ["job=17/site=a/n1", "job=17/site=b/n1", "job=18/n2", "outside"]
    assert len(places_of([f"{tmp_path}/job=17/*/n?", tmp_path / "job=17"]).traces) == 2
    assert len(places_of([f"{tmp_path}/**/n1"]).traces) == 2
    labels = fleet_of([tmp_path / "job=17"], workers=1).part["nodes"]["labels"].to_pylist()
    assert labels == ["job=17/site=a", "job=17/site=b"]
    with pytest.raises(NoTraces, match="nothing matches"):
        places_of([f"{tmp_path}/x*"])


def test_a_path_with_brackets_is_no_pattern(traces: Path, tmp_path: Path) -> None:
    shutil.copytree(traces / "node-00000", tmp_path / "run[1]")

    assert places_of([tmp_path / "run[1]"]).traces == (f"{tmp_path}/run[1]",)


def test_tables_are_read_again_beside_traces(traces: Path, tmp_path: Path) -> None:
    # GIVEN
    here, elsewhere = (
        [traces / f"node-0000{each}" for each in range(3)],
        [traces / f"node-0000{each}" for each in (3, 4)],
    )
    assert fleet(*elsewhere, "--workers", "1", "--format", "parquet", "-o", tmp_path / "site=b").exit_code == 0

    # WHEN
    together = fleet_of([*here, tmp_path], workers=1)

    # THEN
    assert together.part["objects"].equals(fleet_of([*here, *elsewhere], workers=1).part["objects"])
    assert together.part["nodes"].equals(fleet_of([*here, *elsewhere], workers=1).part["nodes"])
    with pytest.raises(TwiceThere, match="node-00003 is in two"):
        fleet_of([*elsewhere, tmp_path], workers=1)


def test_damaged_tables_are_skipped(traces: Path, tmp_path: Path) -> None:
    fleet(traces / "node-00000", "--workers", "1", "--format", "parquet", "-o", tmp_path / "tables")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "tables" / "nodes.parquet")

    result = fleet(traces / "node-00001", tmp_path / "tables", "--workers", "1")

    assert result.exit_code == 4
    assert re.search(r"nodes\.parquet has\s+no\s+column\s+trace", result.stdout)


@pytest.mark.parametrize(
    "name, column, value, reason",
    [
        ("classes", "trace", "/elsewhere", "classes has rows of traces that are not among the nodes"),
        ("activity", "width_ns", 0, "activity.width_ns has a number that is less than 1"),
        ("objects", "fetches", None, "objects.fetches has empty cells"),
        ("nodes", "work_s", float("nan"), "nodes.work_s has a cell that is not a number"),
        ("load", "bin_unix_ns", 2**63 - 1, "load.bin_unix_ns has a number that is too large"),
    ],
)
def test_tables_that_make_no_sense_are_skipped(
    traces: Path, tmp_path: Path, name: str, column: str, value: object, reason: str
) -> None:
    # GIVEN
    fleet(traces / "node-00000", "--workers", "1", "--format", "parquet", "-o", tmp_path / "tables")
    table = pq.read_table(tmp_path / "tables" / f"{name}.parquet")
    place = table.schema.get_field_index(column)
    values = [value, *table[column].to_pylist()[1:]]
    table = table.set_column(place, table.schema.field(column), pa.array(values, type=table.schema.field(column).type))
    pq.write_table(table, tmp_path / "tables" / f"{name}.parquet")

    # WHEN
    report = fleet_of([traces / "node-00001", tmp_path / "tables"], workers=1).report

    # THEN
    assert report.nodes == 1
    assert report.skipped[0].reason == f"its tables cannot be read: {reason}"


def test_parquet_carries_unit_and_meaning_of_every_column(traces: Path, tmp_path: Path) -> None:
    fleet(traces / "node-00000", "--workers", "1", "--format", "parquet", "-o", tmp_path / "out")

    for name, columns in FLEET_TABLES.items():
        schema = pq.read_schema(tmp_path / "out" / f"{name}.parquet")
        assert schema.names == list(columns)
        for column, (unit, meaning, _) in columns.items():
            assert schema.field(column).metadata == {b"unit": unit.encode(), b"meaning": meaning.encode()}


def test_the_page_links_each_node_to_its_report(traces: Path, tmp_path: Path) -> None:
    # WHEN
    page = tmp_path / "out" / "fleet.html"
    page.parent.mkdir()
    few = [traces / f"node-0000{each}" for each in range(2)]
    result = fleet(*few, "--workers", "1", "-o", page, "--reports", tmp_path / "reports")

    # THEN
    assert result.exit_code == 0, result.output
    links = re.findall(r'<a href="\./(\.\./reports/[^"]+)">node-0000', page.read_text())
    assert len(links) == 2
    assert all((page.parent / each).read_text().startswith("<!doctype html>") for each in links)


def test_names_from_traces_are_harmless_in_every_output(tmp_path: Path) -> None:
    # GIVEN
    trace = tmp_path / "run<b>\x1b[31m\udcff"
    trace.mkdir()
    change_meta(stored(trace, hostile_run()), host="<script>alert(1)</script>\x1b]0;x\x07")

    for options in ([], ["--format", "html"], ["-v"]):
        # WHEN
        result = fleet(tmp_path, "--workers", "1", *options)

        # THEN
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert "<script>alert" not in result.output or "html" not in options


def test_without_dask_one_sentence_says_how_to_install_it(traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    result = fleet(traces, "--workers", "2")

    assert result.exit_code == 2
    assert "need the Python package distributed: " in result.output
    assert "pip install" in result.output
    assert "dask[distributed]" in result.output
    assert fleet(traces / "node-00000", traces / "node-00001", "--workers", "1").exit_code == 0


def test_options_without_effect_are_refused(traces: Path) -> None:
    assert "--workers has no effect" in fleet(traces, "--workers", "2", "--scheduler", "tcp://x:1").output
    assert "name a folder with -o" in fleet(traces, "--format", "parquet").output
    assert "--verbose has no effect" in fleet(traces, "--format", "json", "-v").output


def test_nodes_have_the_shortest_names_that_tell_them_apart() -> None:
    assert names_of(["a", "b"], ["/x/1", "/x/2"]) == ["a", "b"]
    assert names_of(["a", "a"], ["/x/1", "/x/2"]) == ["1", "2"]
    assert names_of(["a", "a"], ["/x/j/1", "/x/k/1"]) == ["j/1", "k/1"]
    assert names_of(["a"], ["/x/j/1"]) == ["a"]


def test_time_before_edges_is_exact_for_times_of_day() -> None:
    # GIVEN intervals that overlap, at times whose sum is more than 64 bits hold
    chance = np.random.default_rng(1)
    start = np.int64(1_800_000_000) * SECOND + chance.integers(0, 10**9, 5_000)
    end = start + chance.integers(0, 10**7, 5_000)
    edges = np.linspace(start.min() - 5, end.max() + 5, 50).astype(np.int64)

    # THEN
    expected = [int(np.clip(edge - start, 0, end - start).sum()) for edge in edges]
    assert _elapsed(start, end, edges).tolist() == expected


def test_waits_are_cut_at_the_borders_of_stretches() -> None:
    begin = np.array([0, LOAD_BIN_NS - 10, 5], dtype=np.int64)
    end = np.array([0, 3 * LOAD_BIN_NS, 4], dtype=np.int64)

    which, place, length = _spread(begin, end)

    assert which.tolist() == [1, 1, 1]
    assert place.tolist() == [0, 1, 2]
    assert length.tolist() == [10, LOAD_BIN_NS, LOAD_BIN_NS]


def http_trace(offset_s: float, heads: list[tuple[float, float, str]]) -> Trace:
    """Return a trace of GETs on one socket: when each was sent and answered, in true seconds, by a clock that is ahead."""
    events, texts = np.zeros(2 * len(heads), dtype=EVENT), np.zeros(len(heads), dtype=TEXT)
    for number, (sent, received, head) in enumerate(heads):
        for place, kind, at in ((2 * number, Kind.HTTP_SEND, sent), (2 * number + 1, Kind.HTTP_RECV, received)):
            events[place]["ts"], events[place]["kind"], events[place]["a"] = round(at * SECOND), kind, 5
            events[place]["tid"], events[place]["tgid"] = 9, 8
        texts[number]["ts"], texts[number]["tid"], texts[number]["kind"] = round(received * SECOND), 9, Kind.HTTP_RECV
        texts[number]["text"], texts[number]["size"] = head.encode(), len(head)
    return Trace(Path("t"), {"clock": {"realtime_offset_ns": round(offset_s * SECOND)}}, events, texts, None)


def dated(second: int, more: str = "") -> str:
    return f"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:{second:02} GMT{more}"


def test_dates_of_answers_bound_the_clock_more_closely_with_every_answer() -> None:
    # GIVEN a clock that is 2.5 s ahead
    one = [(10.9, 10.95, dated(10))]
    both = [*one, (12.02, 12.06, dated(12))]

    # WHEN
    loose, close = (clocks.answers(http_trace(2.5, heads)).bounds for heads in (one, both))

    # THEN
    assert (loose.low_s, loose.high_s) == pytest.approx((2.4, 3.45))
    assert (close.low_s, close.high_s) == pytest.approx((2.4, 2.56))


def test_answers_from_a_proxys_cache_do_not_bound_the_clock_and_are_counted() -> None:
    heads = [
        (50.0, 50.1, dated(3, "\r\nAge: 47")),
        (51.0, 51.1, dated(3, "\r\nX-Cache: HIT from p")),
        (52.0, 52.1, dated(52, "\r\nX-Cache: MISS from p")),
    ]

    read = clocks.answers(http_trace(0.0, heads))

    assert (read.hits, read.misses) == (2, 1)
    assert (read.bounds.low_s, read.bounds.high_s) == pytest.approx((-1.0, 0.1))


def test_dates_that_contradict_each_other_tell_nothing() -> None:
    read = clocks.answers(http_trace(0.0, [(10.0, 10.1, dated(10)), (20.0, 20.1, dated(40))]))

    assert read.bounds == (None, None)


def test_clocks_that_are_apart_are_named(traces: Path, tmp_path: Path) -> None:
    # GIVEN
    part = fleet_of([traces / f"node-0000{each}" for each in range(3)], workers=1).part
    nodes = part["nodes"]
    for name, values in {"clock_low_s": [-0.1, 2.0, -0.2], "clock_high_s": [0.2, 2.3, 0.1]}.items():
        nodes = nodes.set_column(nodes.schema.get_field_index(name), nodes.schema.field(name), pa.array(values))

    # WHEN
    row = answers.report_of(type(part)({**part.tables, "nodes": nodes})).clocks

    # THEN
    assert (row.ahead, row.behind) == ("node-00001", "node-00002")
    assert row.apart_at_least_s == pytest.approx(1.9)
    assert row.apart_at_most_s == pytest.approx(1.9)  # as NTP says 4 ms, which the dates exclude


def test_one_slow_node_is_a_straggler_and_a_wide_spread_is_none() -> None:
    group = np.zeros(12, dtype=np.int64)

    assert np.flatnonzero(answers.stragglers(np.array([1.0] * 11 + [2.0]), group)).tolist() == [11]
    assert not answers.stragglers(np.linspace(1, 2, 12), group).any()
    assert not answers.stragglers(np.array([1.0, 1.0, 9.0]), group[:3]).any()  # three nodes tell nothing


def test_progress_is_counted(traces: Path) -> None:
    seen: list[tuple[int, int]] = []

    in_this_process(
        [str(traces / f"node-0000{each}") for each in range(2)], None, lambda done, total: seen.append((done, total))
    )

    assert seen == [(1, 2), (2, 2)]


def test_every_column_is_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "fleet.md").read_text()

    for columns in FLEET_TABLES.values():
        for name, (unit, meaning, _) in columns.items():
            assert f"| `{name}` | {unit} | {meaning} |" in page


def test_what_a_probe_cannot_observe_is_not_taken_for_nothing(tmp_path: Path) -> None:
    # GIVEN
    stored(tmp_path, portable_run())

    # WHEN
    unseen = fleet_of([tmp_path], workers=1)

    # THEN
    row = unseen.part["nodes"].to_pylist()[0]
    assert (row["network_s"], row["cache_s"], row["evicted"]) == (None, None, None)
    assert unseen.report.observed == 0
    assert "Evictions   not observed on any node" in render(unseen.report)
    assert "no request could be observed on 1 node:" in unseen.report.notes[0]
