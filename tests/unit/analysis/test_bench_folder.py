"""A bench folder is read as it was written, and what cannot be read is said in one sentence."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cvtrace.analysis.bench import NotABench, is_bench, read_bench
from cvtrace.analysis.bench.folder import write_json, write_runs
from cvtrace.analysis.bench.schema import (
    Bench,
    BenchInfo,
    Cell,
    Coefficient,
    HeldOut,
    Law,
    Run,
    Statistic,
    SummaryRow,
    Sweep,
    TracingCost,
    Variant,
)

RUN = Run(
    variant="int4",
    sweep_value=64e6,
    state="cold",
    round=0,
    order=3,
    verified=True,
    reason="",
    repeated=False,
    traced=False,
    exit_code=0,
    started="2026-01-01T00:00:00+00:00",
    load_s=1.5,
    first_token_s=0.25,
    tokens=4,
    tokens_per_s=20.0,
    total_s=3.0,
    reads=100,
    fetches=12,
    bytes_fetched=64_000_000,
    host="here",
)
TRACED = replace(RUN, order=4, traced=True, trace="traces/cold", classes={"network.request": 0.5, "compute.cpu": 1.0})


def bench(path: Path) -> Bench:
    statistic = Statistic(5, 1.5, (1.25, 1.75), (1.2, 1.8), 3.0, (2.5, 3.5))
    info = BenchInfo(
        created="2026-01-01T00:00:00+00:00",
        command=("phi3-qa.py", "-m", "{model}"),
        seed=7,
        repeats=5,
        states=("cold", "hot"),
        variants=(Variant("int4", ("phi3-qa.py", "-m", "{model}")),),
        sweep=Sweep("size", (64e6, 256e6), "B"),
        host="here",
        versions={"cvtrace": "0.1.0"},
        cells=(Cell("int4", 64e6, ("/cvmfs/a/model",), 3, 64_000_000, 12),),
    )
    held_out = HeldOut(256e6, "", 6.0, (5.0, 7.0), 5.5, 0.09)
    law = Law("cold", "", "load = a + c·bytes", (Coefficient("a", 0.1, (0.0, 0.2), "s"),), 10, 0.05, held_out)
    row = SummaryRow("int4", 64e6, "cold", 5, 1, statistic, None, None, statistic)
    return Bench(path, info, (RUN, TRACED), (row,), (TracingCost("int4", 64e6, "cold", 1, 5, 1.01, None),), (law,))


def write(written: Bench) -> None:
    folder = os.open(written.path, os.O_RDONLY)
    write_json(folder, written)
    write_runs(folder, written.runs)
    os.close(folder)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    # GIVEN a folder with all that a bench can have
    written = bench(tmp_path)
    write(written)
    # THEN it is read as it was, also as JSON and as a table of pandas
    assert is_bench(tmp_path)
    assert read_bench(tmp_path) == written
    meta = json.loads((tmp_path / "bench.json").read_text())
    assert (meta["schema"], meta["version"], meta["seed"]) == ("cvtrace-bench", 1, 7)
    assert meta["sweep"] == {"axis": "size", "values": [64e6, 256e6], "unit": "B"}
    assert meta["summary"][0]["load_s"]["interval"] == [1.2, 1.8]
    frame = pd.DataFrame([run.row() for run in read_bench(tmp_path).runs])
    assert list(frame.columns[:4]) == ["variant", "sweep_value", "state", "round"]
    assert frame["network.request_s"].tolist()[1] == 0.5
    # AND THEN runs.csv has the same rows
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert list(rows[0]) == list(frame.columns)
    assert (rows[0]["load_s"], rows[0]["bytes_read"], rows[1]["trace"]) == ("1.5", "", "traces/cold")


def test_a_text_that_a_spreadsheet_would_take_for_a_formula_is_marked(tmp_path: Path) -> None:
    write(replace(bench(tmp_path), runs=(replace(RUN, variant="=1+1", reason=" @x"),)))
    row = next(csv.DictReader((tmp_path / "runs.csv").open()))
    assert (row["variant"], row["reason"]) == ("'=1+1", "' @x")


def test_a_folder_without_a_finished_run_has_no_runs(tmp_path: Path) -> None:
    write(bench(tmp_path))
    (tmp_path / "runs.parquet").unlink()
    assert read_bench(tmp_path).runs == ()


def no_file(path: Path) -> None:
    (path / "bench.json").unlink()


def of_another_tool(path: Path) -> None:
    (path / "bench.json").write_text('{"schema": "other"}')


def newer(path: Path) -> None:
    (path / "bench.json").write_text('{"schema": "cvtrace-bench", "version": 99}')


def half(path: Path) -> None:
    text = (path / "bench.json").read_text()
    (path / "bench.json").write_text(text[: len(text) // 2])


def without_summary_fields(path: Path) -> None:
    meta = json.loads((path / "bench.json").read_text())
    del meta["summary"][0]["load_s"]
    (path / "bench.json").write_text(json.dumps(meta))


def broken_table(path: Path) -> None:
    (path / "runs.parquet").write_bytes(b"PAR1")


def link(path: Path) -> None:
    (path / "bench.json").rename(path / "real")
    (path / "bench.json").symlink_to("real")


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (no_file, "is not a folder of `cvtrace bench`"),
        (of_another_tool, "is not of `cvtrace bench`"),
        (newer, "newer cvtrace"),
        (half, "not JSON"),
        (without_summary_fields, "is damaged"),
        (broken_table, "not a Parquet file"),
        (link, "is a link"),
    ],
)
def test_what_is_not_a_bench_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None], sentence: str) -> None:
    write(bench(tmp_path))
    damage(tmp_path)
    with pytest.raises(NotABench, match=sentence) as refusal:
        read_bench(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    assert not is_bench(tmp_path / "nothing")
    with pytest.raises(NotABench, match="No such file"):
        read_bench(tmp_path / "nothing")
