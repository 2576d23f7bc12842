"""Bench folders in which anything may be anything: they are read, or refused in one sentence."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench_folders import cold_and_hot
from click.testing import CliRunner

from cvtrace.analysis.bench import NotABench, is_bench, read_bench
from cvtrace.cli import main

OTHERS = ("x", -1.5, [])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where there is a value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cold_and_hot(tmp_path / "bench", 2.0, 0.5)


def run(*words: object) -> Any:
    return CliRunner().invoke(main, list(map(str, words)))


def test_any_value_of_bench_json_is_read_or_refused(folder: Path) -> None:
    content = json.loads((folder / "bench.json").read_text())
    sentences = []
    for path in places(content):
        for value in OTHERS:
            (folder / "bench.json").write_text(json.dumps(replaced(content, path, value)))
            try:
                read_bench(folder)
            except NotABench as error:
                sentences.append(str(error))
    assert len(sentences) > 200
    assert not [sentence for sentence in sentences if "\n" in sentence]


@pytest.mark.parametrize(
    "path, value",
    [
        (("states", 0), 3),
        (("states", 0), []),
        (("command", 0), {}),
        (("summary", 0, "n"), "x"),
        (("summary", 0, "load_s", "median"), "x"),
        (("summary", 0, "load_s", "interval"), [1, 2, 3]),
        (("variants", 0, "name"), []),
        (("seed",), True),
    ],
    ids=str,
)
def test_the_commands_say_what_is_wrong(folder: Path, tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    good = cold_and_hot(tmp_path / "good", 2.0, 0.5)
    content = json.loads((folder / "bench.json").read_text())
    (folder / "bench.json").write_text(json.dumps(replaced(content, path, value)))

    for words in (
        ("compare", good, folder),
        ("check", folder, "cold.load_s < 3"),
        ("check", good, "--against", folder),
    ):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (4, ""), words
        assert result.stderr.startswith(f"cvtrace: {folder / 'bench.json'} is damaged (")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "column, values",
    [
        ("load_s", pa.array(["x"] * 16)),
        ("load_s", pa.array([float("inf")] * 16)),
        ("state", pa.array([1] * 16)),
        ("verified", pa.array([1.5] * 16)),
        ("exit_code", pa.array([None] * 16, type=pa.int64())),
        ("network.request_s", pa.array([[1]] * 16)),
    ],
    ids=str,
)
def test_runs_of_other_types_are_refused(folder: Path, column: str, values: Any) -> None:
    table = pq.read_table(folder / "runs.parquet")
    pq.write_table(table.set_column(table.column_names.index(column), column, values), folder / "runs.parquet")

    result = run("compare", folder, folder)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith(f"cvtrace: {folder / 'runs.parquet'} is damaged (")


def test_a_time_that_is_no_number_was_not_measured(folder: Path) -> None:
    table = pq.read_table(folder / "runs.parquet")
    values = pa.array([float("nan")] * 16)
    pq.write_table(table.set_column(table.column_names.index("load_s"), "load_s", values), folder / "runs.parquet")

    result = run("compare", folder, folder, "--format", "json")

    assert result.exit_code == 0
    assert {row["name"] for row in json.loads(result.stdout)["cells"][0]["changes"]} == {
        "first_token_s",
        "tokens_per_s",
        "total_s",
    }


def test_a_folder_in_the_place_of_bench_json_makes_no_bench(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "bench.json").mkdir()

    assert not is_bench(tmp_path / "x")


def test_a_place_that_cannot_be_looked_at_is_no_bench() -> None:
    assert not is_bench(Path("x" * 5000))
    result = run("check", "x" * 5000, "load.wall_s < 1")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (4, "", 1)
