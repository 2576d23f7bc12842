"""The tables of `cvtrace.open`: their types are those that are documented, their contents those of the exports and the report."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hostile import hostile_run
from runs import cold_run, hot_run, large_run, portable_run, stored
from scene import Scene

import cvtrace
from benchmarks.big_trace import big_trace
from benchmarks.synthetic_trace import write_to
from cvtrace.analysis.contract.classes import LABELS, WAITING
from cvtrace.analysis.contract.columns import TABLES
from cvtrace.analysis.contract.frame_columns import FRAMES, PER_EVENT

RUNS = {"cold": cold_run, "hot": hot_run, "large": large_run, "portable": portable_run, "hostile": hostile_run}
DTYPES = {
    "s": "float64",
    "x": "float64",
    "bytes": "Int64",
    "n": "Int64",
    "index": "Int64",
    "text": "string",
    "yes/no": "boolean",
}
"""Unit -> type, as docs/api.md has it."""


def opened(folder: Path, scene: Scene) -> cvtrace.Trace:
    return cvtrace.open(stored(folder, scene))


@pytest.fixture
def cold(tmp_path: Path) -> cvtrace.Trace:
    return opened(tmp_path, cold_run())


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> cvtrace.Trace:
    path = tmp_path_factory.mktemp("big") / "trace"
    write_to(big_trace(2000, tokens=20), path)
    return cvtrace.open(path)


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS)
def test_columns_and_types_of_a_table_are_the_same_for_every_run(tmp_path: Path, make: Callable[[], Scene]) -> None:
    trace = opened(tmp_path, make())

    for name, columns in FRAMES.items():
        frame = getattr(trace, name)

        assert list(frame.columns) == list(columns), name
        expected = {
            column: "category" if unit == "text" and name in PER_EVENT else DTYPES[unit]
            for column, (unit, _) in columns.items()
        }
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == expected, name
        assert frame.attrs["units"] == {column: unit for column, (unit, _) in columns.items()}


def test_every_table_is_a_property_with_a_description() -> None:
    assert tuple(FRAMES) == cvtrace.Trace.TABLES
    assert set(TABLES) < set(FRAMES)
    for name in FRAMES:
        assert getattr(cvtrace.Trace, name).__doc__, name


def test_tables_hold_what_the_report_holds(cold: cvtrace.Trace) -> None:
    report = cold.report()

    for name in ("phases", "tokens", "files", "fetches", "checks", "processes", "findings"):
        rows, frame = getattr(report, name), cold.table(name)
        assert len(rows) == len(frame) > 0
        for column in FRAMES[name]:
            cells = [None if pd.isna(cell) else cell for cell in frame[column].tolist()]
            assert cells == [getattr(row, column) for row in rows], (name, column)
    assert cold.run.loc[0, "answer"] == report.verdict.answer == "yes"


def test_the_verdict_has_the_whole_and_its_parts(cold: cvtrace.Trace) -> None:
    report, verdict = cold.report().verdict, cold.verdict.set_index("part")

    assert list(verdict.index) == ["generation", "first_token", "further_tokens", "inside_calls", "between_calls"]
    assert verdict.loc["generation", "answer"] == report.answer
    assert verdict.loc["generation", "tokens"] == report.tokens
    for counted in ("fuse_reads", "fuse_read_bytes", "http_fetches"):
        whole = verdict.loc["generation", counted]
        assert whole == getattr(report, counted)
        assert verdict.loc[["first_token", "further_tokens"], counted].sum() == whole
        assert verdict.loc[["inside_calls", "between_calls"], counted].sum() == whole


def test_a_program_without_tokens_has_one_row_of_verdict(tmp_path: Path) -> None:
    scene = Scene(end=900)
    scene.opened(100, 120, 5)

    assert list(opened(tmp_path, scene).verdict["part"]) == ["program"]


def test_reads_are_those_that_phases_and_tokens_count(big: cvtrace.Trace) -> None:
    reads, phases = big.reads, big.phases.set_index("name")

    assert len(reads) == phases["fuse_reads"].sum() > 1000
    by_phase = reads.groupby("phase", observed=True)["read_bytes"].sum()
    assert by_phase.to_dict() == phases.loc[by_phase.index, "fuse_read_bytes"].to_dict()
    by_token = reads.dropna(subset="token").groupby("token").size()
    assert by_token.to_dict() == {row.index: row.fuse_reads for row in big.report().tokens if row.fuse_reads}


def test_reads_are_rows_of_requests(big: cvtrace.Trace) -> None:
    requests = big.requests
    reads = big.reads.set_index("request")

    chosen = requests.loc[reads.index]
    assert (chosen["opcode"] == "READ").all()
    assert chosen["by_target"].all()
    assert chosen["offset"].tolist() == reads["offset"].tolist()
    assert chosen["path"].tolist() == reads["path"].tolist()
    assert ((requests["opcode"] == "READ") & requests["by_target"]).sum() == len(reads)


def test_waits_add_up_to_the_waiting_classes_of_each_phase(big: cvtrace.Trace) -> None:
    waits = big.waits
    classes = big.classes.set_index(["phase", "class"])["time_s"]

    assert waits["start_s"].is_monotonic_increasing
    spent = waits.groupby(["phase", "class"], observed=True)["wall_s"].sum()
    waiting = {LABELS[value] for value in WAITING}
    for (phase, name), time_s in classes.items():
        if name in waiting:
            assert spent.get((phase, name), 0.0) == pytest.approx(time_s, abs=1e-6)
    assert set(waits["class"].cat.categories) <= waiting


def test_waits_find_their_requests(big: cvtrace.Trace) -> None:
    waits = big.waits.dropna(subset="request")
    requests = big.requests.loc[waits["request"]]

    assert len(waits) > 1000
    assert (waits["path"].astype("string").to_numpy() == requests["path"].astype("string").to_numpy()).all()
    assert (waits["start_s"].to_numpy() >= requests["sent_s"].to_numpy() - 1e-3).all()


def test_categories_are_those_that_occur_each_once(tmp_path: Path) -> None:
    # GIVEN two files of the same name behind different inodes
    scene = cold_run()
    scene.opened(420_000, 420_100, 6)
    trace = opened(tmp_path, scene)

    for name in PER_EVENT:
        for column, dtype in trace.table(name).dtypes.items():
            if str(dtype) == "category":
                values = trace.table(name)[column]
                assert set(values.cat.categories) == set(values.dropna()), (name, column)


def test_a_change_of_a_table_stays_in_the_copy(cold: cvtrace.Trace) -> None:
    phases = cold.phases
    phases["mine"] = 1
    phases.loc[0, "wall_s"] = -1.0

    assert "mine" not in cold.phases
    assert (cold.phases["wall_s"] >= 0).all()


def test_the_run_is_analysed_once(cold: cvtrace.Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvtrace.api import trace as module

    calls = []
    for name in ("study_of", "storage_tables", "report_of"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *words, f=function, n=name: (calls.append(n), f(*words))[1])

    assert len(cold.reads) == 2
    assert calls == ["study_of", "storage_tables"]  # reads need no report
    for name in cvtrace.Trace.TABLES:
        cold.table(name)
    cold.report()
    cold.summary()
    assert calls == ["study_of", "storage_tables", "report_of"]


def test_columns_have_type_unit_and_meaning(cold: cvtrace.Trace) -> None:
    columns = cold.columns("reads").set_index("column")

    assert list(columns.index) == list(cold.reads.columns)
    assert columns.loc["path", "dtype"] == str(cold.reads["path"].dtype) == "category"
    assert columns.loc["sent_s", "unit"] == "s"
    with pytest.raises(ValueError, match="there is no table 'nonsense': the tables are run, phases"):
        cold.columns("nonsense")
    with pytest.raises(ValueError, match="there is no table 'nonsense'"):
        cold.table("nonsense")


def test_numbers_can_be_computed_with(big: cvtrace.Trace) -> None:
    latency = (big.reads["replied_s"] - big.reads["sent_s"]).to_numpy()

    assert latency.dtype == np.float64
    assert (latency > 0).all()
    assert big.phases["fuse_reads"].to_numpy().dtype == np.int64


def test_predictions_follow_the_arguments(tmp_path: Path) -> None:
    path = stored(tmp_path, cold_run())

    near, far = cvtrace.open(path, rtt_s=0.0), cvtrace.open(path, rtt_s=10.0)

    assert len(near.predictions) == len(far.predictions) > 0
    assert near.predictions["wall_s"].sum() < far.predictions["wall_s"].sum()


def test_a_trace_that_was_cut_off_says_so(cold: cvtrace.Trace, tmp_path: Path) -> None:
    from cvtrace.tracer.store import TraceWriter

    events, texts = cold_run().arrays()
    meta = cold_run().trace().meta
    writer = TraceWriter(tmp_path / "cut", {**meta, "clock": {**meta["clock"], "end_ns": None}})
    writer.write(events, texts)
    writer.flush()
    writer.close()

    cut = cvtrace.open(tmp_path / "cut")

    assert cold.damage is None
    assert cut.damage is not None
    assert "the recorder was killed" in cut.damage
    assert len(cut.reads) == 2
