"""CSV and Parquet, read by pandas and pyarrow, have the values of the report; docs/exports.md lists their columns."""

import dataclasses
import io
import json
import typing
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hostile import NAMES, hostile_run
from runs import cold_run
from scene import MODEL
from test_access_log import at_ms, lab, loaded

from benchmarks.big_trace import big_trace
from cvtrace.analysis.contract.columns import TABLES
from cvtrace.analysis.contract.report_options import DEFAULT_OPTIONS, ReportOptions
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.contract.whatif_schema import PredictedPhase, Prediction
from cvtrace.analysis.report import tables
from cvtrace.analysis.report.names import UNSEEN, printable
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.tracer.store import Trace

DOCS = Path(__file__).resolve().parents[3] / "docs" / "exports.md"
NOT_TABLES = {"schema", "trace", "verdict", "cache_state", "notes", "stacks"}
"""Fields of a report that are no table: what matters of them is in the table `run`, or a sentence."""
OPTIONAL_TABLES = {"access_log", "what_if", "predictions", "predicted_phases"}
EMPTY = {
    "prefetching",
    "failures",
    "lines",
    "operators",
    "operator_layers",
    "tensors",
    "layers",
    "runs",
    "imports",
    "import_packages",
    *OPTIONAL_TABLES,
}
"""Tables that want onnxruntime's profile, the model's files, a session, marked imports or sampled stacks, or are asked for."""


def exported_tables(
    trace: Trace, form: str, folder: Path, options: ReportOptions = DEFAULT_OPTIONS
) -> dict[str, pd.DataFrame]:
    """Write the tables and read them with pandas."""
    study, more, report = full_analysis(trace, options=options)
    with tables.folder(folder, form) as opener:
        tables.write(study, more, report, form, opener, what_if=options.show_what_if)
    read: Any = pd.read_csv if form == "csv" else pd.read_parquet
    return {path.stem: read(path) for path in folder.glob(f"*.{form}")}


both_forms = pytest.mark.parametrize("form", tables.FORMATS)


@both_forms
def test_exported_tables_have_the_values_of_the_report(form: str, tmp_path: Path) -> None:
    report = full_analysis(cold_run().trace())[2]

    tables = exported_tables(cold_run().trace(), form, tmp_path / "out")

    assert set(tables) == set(TABLES) - EMPTY
    for name in ("phases", "tokens", "files", "fetches", "checks"):
        for column in TABLES[name]:
            expected = [getattr(row, column) for row in getattr(report, name)]
            cells = [None if pd.isna(value) else value for value in tables[name][column].tolist()]
            assert cells == expected, (name, column)
    run = tables["run"].iloc[0]
    assert json.loads(run["target"]) == ["phi3-qa.py"]
    assert (run["generation_hits_cvmfs"], run["fuse_reads"], run["events"]) == ("yes", 1, report.trace.events)


@both_forms
def test_requests_are_those_of_the_study_and_find_their_fetch(form: str, tmp_path: Path) -> None:
    trace = big_trace(1000, tokens=10)
    study, _, report = full_analysis(trace)

    tables = exported_tables(trace, form, tmp_path / "out")
    requests, fetches = tables["requests"], tables["fetches"]

    assert len(requests) == len(study.requests)
    assert requests["read_bytes"].sum() == study.requests.read_bytes.sum()
    assert np.allclose(requests["replied_s"] - requests["sent_s"], (study.requests.replied - study.requests.sent) / 1e9)
    decoding = requests[requests["phase"] == "decode"]
    assert decoding["token"].notna().sum() == (study.request_token >= 0).sum() > 0
    caused = requests[requests["fetch"].notna()]
    assert len(caused) == sum(fetch.by_target for fetch in report.fetches) > 0
    begun = fetches["start_s"].to_numpy()[caused["fetch"].to_numpy().astype(int)]
    assert ((begun >= caused["sent_s"]) & (begun <= caused["replied_s"])).all()


@both_forms
def test_every_optional_part_is_a_table(form: str, tmp_path: Path) -> None:
    # GIVEN a log that lacks one of four GETs, and has one that was not traced
    log = tmp_path / "origin.jsonl"
    strange = lab(9, at_ms(1)).replace(f"{9:038x}", f"{9:037x}\\u202e")
    lines = [*(lab(number, at_ms(number)) for number in range(3)), strange]
    log.write_text("".join(f"{line}\n" for line in lines))
    options, trace = ReportOptions(access_log=log, show_what_if=True), loaded().trace()
    report = full_analysis(trace, options=options)[2]
    assert report.access_log is not None
    assert report.what_if is not None

    # WHEN the tables are written with what was asked, and without
    tables, plain = (
        exported_tables(trace, form, tmp_path / "out", options),
        exported_tables(trace, form, tmp_path / "plain"),
    )

    # THEN the first have it, the second nothing of it
    assert set(tables) == set(plain) | OPTIONAL_TABLES
    assert not set(plain) & OPTIONAL_TABLES
    (access,) = tables["access_log"].to_dict("records")
    log_values = {name: value for name, value in vars(report.access_log).items() if name != "examples"}
    assert {name: None if pd.isna(access[name]) else access[name] for name in log_values} == log_values
    assert [printable(example) for example in report.access_log.examples] == json.loads(access["examples"])
    assert "\\u202e" in json.loads(access["examples"])[0]
    assert not UNSEEN.search(access["examples"])
    assert [access[name] for name in ("lines", "matched", "only_in_trace", "only_in_log")] == [4, 3, 1, 1]
    assert tables["what_if"]["rtt_s"].tolist() == [report.what_if.rtt_s]
    predictions = tables["predictions"]
    assert predictions["name"].tolist() == [prediction.name for prediction in report.what_if.predictions]
    assert predictions["wall_s"].dropna().tolist() == [
        prediction.wall_s for prediction in report.what_if.predictions if prediction.wall_s is not None
    ]
    assert [tuple(json.loads(assumption)) for assumption in predictions["assumptions"]] == [
        prediction.assumptions for prediction in report.what_if.predictions
    ]
    assert "µs" in " ".join(predictions["assumptions"])
    phases = tables["predicted_phases"]
    assert len(phases) == sum(len(prediction.phases) for prediction in report.what_if.predictions) > 0
    hot = phases[phases["prediction"] == predictions["name"][0]].set_index("phase")["predicted_s"].to_dict()
    assert hot == {row.name: row.predicted_s for row in report.what_if.predictions[0].phases}


def test_stacks_and_classes_add_up_to_the_wall_time(tmp_path: Path) -> None:
    tables = exported_tables(cold_run().trace(), "parquet", tmp_path / "out")

    walls = tables["phases"].set_index("name")["wall_s"].to_dict()
    assert tables["stacks"].groupby("phase", observed=True)["time_s"].sum().to_dict() == pytest.approx(walls)
    assert tables["classes"].groupby("phase")["time_s"].sum().to_dict() == pytest.approx(walls)
    assert MODEL in set(tables["stacks"]["file"].dropna())


@both_forms
def test_hostile_names_are_text(form: str, tmp_path: Path) -> None:
    tables = exported_tables(hostile_run().trace(), form, tmp_path / "out")

    paths = set(tables["files"]["path"])
    for name in NAMES:
        cleaned_name = printable(name.encode("utf-8", "replace").decode())
        assert any(path.endswith(f"/{cleaned_name}") for path in paths), cleaned_name
    for table in tables.values():
        for column in table.select_dtypes(include=["object", "string", "category"]):
            assert not any(UNSEEN.search(str(item)) for item in table[column])


def test_parquet_columns_have_descriptions(tmp_path: Path) -> None:
    exported_tables(cold_run().trace(), "parquet", tmp_path / "out")

    for name, columns in TABLES.items():
        if name in EMPTY:
            continue
        schema = pq.read_schema(tmp_path / "out" / f"{name}.parquet")
        metadata = {field.name: (field.metadata[b"unit"], field.metadata[b"meaning"]) for field in schema}
        assert metadata == {key: (unit.encode(), meaning.encode()) for key, (unit, meaning) in columns.items()}


def test_a_zip_contains_the_same_tables(tmp_path: Path) -> None:
    study, more, report = full_analysis(cold_run().trace())
    stream = io.BytesIO()

    with tables.zipped(stream) as opener:
        tables.write(study, more, report, "csv", opener)
    exported_tables(cold_run().trace(), "csv", tmp_path / "out")

    with zipfile.ZipFile(stream) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()
        }


def test_a_later_export_leaves_nothing_of_an_earlier_one_and_all_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "operators.csv").write_text("old")
    (folder / "mine.csv").write_text("mine")

    tables = exported_tables(cold_run().trace(), "csv", folder)

    assert not (folder / "operators.csv").exists()
    assert "mine" in tables


def test_every_field_of_the_report_is_a_column() -> None:
    """A field that is added to the report is exported, or named in OTHERS."""
    rows = {name: row_type(hint) for name, hint in typing.get_type_hints(Report).items() if name not in NOT_TABLES}
    rows["predictions"] = Prediction
    inner = {"classes", "predictions", "phases"}  # tables of their own

    assert rows.keys() <= TABLES.keys()
    for name, row in rows.items():
        columns = {field.name for field in dataclasses.fields(row)} - inner
        assert columns == set(TABLES[name]), name
    assert len(dataclasses.fields(PredictedPhase)) == len(TABLES["predicted_phases"]) - 1  # and of which prediction


def row_type(hint: Any) -> Any:
    """Return X of `tuple[X, ...]` and of `X | None`."""
    return typing.get_args(hint)[0]


def test_each_exported_column_is_documented() -> None:
    descriptions: dict[str, dict[str, tuple[str, str]]] = {}
    table = ""
    for line in DOCS.read_text().splitlines():
        if line.startswith("### "):
            table = line.removeprefix("### ").strip("`")
            descriptions[table] = {}
        elif table and line.startswith("| `"):
            column, unit, meaning = (cell.strip() for cell in line.strip("|").split(" | ", 2))
            descriptions[table][column.strip("`")] = (unit, meaning)

    assert descriptions == {
        name: {key: tuple(column) for key, column in columns.items()} for name, columns in TABLES.items()
    }
