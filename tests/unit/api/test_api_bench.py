"""Results of `cvtrace bench` as tables: those of the folder, with the types that are documented."""

import json
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd
import pytest
from bench_folders import bench_of, cold_and_hot, run, times, written
from click.testing import CliRunner
from runs import cold_run, stored
from test_api_tables import DTYPES
from test_bench_folder import bench as swept_bench
from test_bench_folder import write

import cvtrace
from cvtrace.analysis.bench.folder import write_runs
from cvtrace.analysis.contract.bench_columns import COST, LAWS, RUNS, SUMMARY
from cvtrace.cli import main

TABLES = {"runs": RUNS, "summary": SUMMARY, "cost": COST, "laws": LAWS}
COLD = ("", None, "cold")


@pytest.fixture
def swept(tmp_path: Path) -> cvtrace.Bench:
    """An experiment that has everything: a sweep, a law, what tracing cost."""
    (tmp_path / "swept").mkdir()
    write(swept_bench(tmp_path / "swept"))
    return cvtrace.read_bench(tmp_path / "swept")


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types_are_those_that_are_documented(tmp_path: Path, swept: cvtrace.Bench, name: str) -> None:
    empty = cvtrace.read_bench(written(bench_of(tmp_path / "empty", {COLD: []})))

    for bench in (swept, empty):
        frame = getattr(bench, name)
        assert list(frame.columns) == list(TABLES[name])
        expected = {column: DTYPES[unit] for column, (unit, _) in TABLES[name].items()}
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == expected
        assert frame.attrs["units"] == {column: unit for column, (unit, _) in TABLES[name].items()}


def test_runs_are_those_of_the_files(swept: cvtrace.Bench) -> None:
    assert list(RUNS) == list(pd.read_parquet(swept.path / "runs.parquet").columns)
    assert list(RUNS) == list(pd.read_csv(swept.path / "runs.csv").columns)

    stored_runs = pd.read_parquet(swept.path / "runs.parquet")
    for column in RUNS:
        values = [None if pd.isna(value) else value for value in swept.runs[column].tolist()]
        assert values == [None if pd.isna(value) else value for value in stored_runs[column].tolist()], column


def test_the_summary_has_a_row_for_each_figure(swept: cvtrace.Bench) -> None:
    summary = swept.summary.set_index("figure")

    assert list(summary.index) == ["load_s", "first_token_s", "tokens_per_s", "total_s"]
    load = summary.loc["load_s"]
    assert (load["n"], load["median"], load["q25"], load["q75"], load["low"], load["high"]) == (
        5,
        1.5,
        1.25,
        1.75,
        1.2,
        1.8,
    )
    assert (load["ratio_to_local"], load["ratio_low"], load["ratio_high"]) == (3.0, 2.5, 3.5)
    assert pd.isna(summary.loc["first_token_s", "median"])
    (law,) = swept.laws.itertuples(index=False)
    assert (law.coefficient, law.value, law.predicted_s, law.measured_s) == ("a", 0.1, 6.0, 5.5)
    assert swept.cost["load_ratio"].tolist() == [1.01]
    assert not swept.finished


def test_a_notebook_shows_the_summary(tmp_path: Path) -> None:
    hostile = bench_of(tmp_path / "x", {("<script>", None, "cold"): times(1.0), ("b", None, "cold"): times(1.0)})
    html = cvtrace.read_bench(written(hostile))._repr_html_()

    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_every_argument_is_an_option_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN the command that a call with all arguments would run
    from cvtrace.api import experiment
    from cvtrace.commands.bench import command

    commands: list[list[str]] = []
    monkeypatch.setattr(experiment, "_run", lambda words: (commands.append(list(words)), (2, "no"))[1])
    with pytest.raises(cvtrace.BenchError, match="no"):
        cvtrace.bench(
            Path("a.py"),
            "-m",
            Path("/x"),
            output="out",
            states=["cold", "hot"],
            repeats=3,
            seed=1,
            timeout=30,
            trace=True,
            variants={"int4": "-m /y", "fp16": "-m /z"},
            sweep="size=1MB,2MB",
            hold_out="1MB",
            lab="delay=20ms",
            model=["/m", Path("/n")],
            python="python3",
            force=True,
            yes=True,
        )
    # WHEN the command reads it
    words = commands[0][commands[0].index("bench") + 1 :]
    context = command.make_context("bench", words, parent=click.Context(main, **main.context_settings))
    # THEN each has its place
    parameters = context.params
    assert parameters["arguments"] == ("a.py", "-m", "/x")
    assert parameters["states"] == "cold,hot"
    assert (parameters["repeats"], parameters["seed"], parameters["sweep"]) == (3, 1, "size=1MB,2MB")
    assert parameters["timeout"] == 30
    assert parameters["variants"] == ("int4=-m /y", "fp16=-m /z")
    assert (parameters["hold_out"], parameters["lab"], parameters["models"]) == ("1MB", "delay=20ms", ("/m", "/n"))
    assert (parameters["trace_all"], parameters["force"], parameters["yes"]) == (True, True, True)
    assert (parameters["python"], parameters["output"]) == ("python3", Path("out"))


def test_benches_are_compared_as_the_command_does(tmp_path: Path) -> None:
    a, b = cold_and_hot(tmp_path / "a", 2.0, 0.5), cold_and_hot(tmp_path / "b", 3.0, 0.5, seed=9)
    printed = json.loads(CliRunner().invoke(main, ["compare", str(a), str(b), "--format", "json"]).stdout)

    comparison = cvtrace.compare(cvtrace.read_bench(a), b)

    assert json.loads(json.dumps(comparison.as_dict())) == printed
    changes = comparison.changes
    assert changes.loc[changes["certain"], "of"].unique().tolist() == ["cold"]
    assert comparison.words.empty
    assert "<b>cold: load 2.0" in comparison._repr_html_()
    assert str(comparison) == CliRunner().invoke(main, ["compare", str(a), str(b)]).stdout


def test_a_bench_and_a_trace_are_not_compared(tmp_path: Path) -> None:
    bench = cold_and_hot(tmp_path / "bench", 2.0, 0.5)
    (tmp_path / "run").mkdir()
    trace = stored(tmp_path / "run", cold_run())

    for sides in ((bench, trace), (trace, cvtrace.read_bench(bench)), ([trace], bench)):
        with pytest.raises(ValueError, match="compare two of a kind"):
            cvtrace.compare(*sides)


def test_what_is_no_bench_is_a_trace_error(tmp_path: Path) -> None:
    bad = cold_and_hot(tmp_path / "bad", 2.0, 0.5)
    (bad / "bench.json").write_text("{}")

    for path in (tmp_path / "missing", tmp_path, bad):
        with pytest.raises(cvtrace.TraceError, match=str(path)):
            cvtrace.read_bench(path)


def test_the_last_runs_of_an_interrupted_bench_are_there(tmp_path: Path) -> None:
    import os

    bench = replace(bench_of(tmp_path / "b", {COLD: times(1.0)}, finished=False), summary=())
    path = written(bench)
    folder = os.open(path, os.O_RDONLY)
    write_runs(folder, [*bench.runs, run(COLD, 99, 1.0)])
    os.close(folder)

    assert len(cvtrace.read_bench(path).runs) == len(bench.runs) + 1
    assert cvtrace.read_bench(path).summary.empty
