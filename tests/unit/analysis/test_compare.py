"""What changed between two runs, or sets of runs: the figures, how sure they are, and what is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hostile import hostile_run
from runs import cold_run, hot_run, stored
from scene import Scene

from benchmarks.big_trace import big_trace
from cvtrace.analysis import analyse
from cvtrace.analysis.comparison.compare import Comparison, compare
from cvtrace.analysis.comparison.statistics import Change, intervals, median
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.analysis.report import comparison
from cvtrace.cli import main
from cvtrace.tracer.store import TraceWriter

A, B = Path("a"), Path("b")


def compared(a: list[Report], b: list[Report]) -> Comparison:
    return compare(A, a, B, b)


def figure(difference: Comparison, of: str, name: str) -> Change:
    (change,) = (change for change in difference.changes if (change.of, change.name) == (of, name))
    return change


def run_of(seed: int, requests: int = 300) -> Report:
    return analyse(big_trace(requests, tokens=10, seed=seed))


@pytest.fixture(scope="module")
def sets() -> tuple[list[Report], list[Report]]:
    return [run_of(seed) for seed in range(6)], [run_of(100 + seed, 600) for seed in range(6)]


def test_each_figure_equals_that_of_the_reports() -> None:
    cold, hot = analyse(cold_run().trace()), analyse(hot_run().trace())

    difference = compared([cold], [hot])

    by_name = {row.name: row for row in hot.phases}
    for row in cold.phases:
        counterpart = by_name.get(row.name)
        for name in ("wall_s", "network_s", "fuse_reads", "http_bytes"):
            change = figure(difference, row.name, name)
            assert (change.a, change.b) == (getattr(row, name), getattr(counterpart, name) if counterpart else 0)
        for label, spent in row.classes.items():
            change = figure(difference, row.name, label)
            assert change.difference == pytest.approx((counterpart.classes[label] if counterpart else 0) - spent)
    assert figure(difference, "tokens", "median_s").ratio == pytest.approx(0.490 / 18)
    assert figure(difference, "generation", "fuse_reads").difference == -1
    assert [(word.a, word.b) for word in difference.words[:2]] == [({"yes": 1}, {"no": 1}), ({"cold": 1}, {"hot": 1})]


def test_a_run_compared_with_itself_has_not_changed() -> None:
    cold = analyse(cold_run().trace())

    difference = compared([cold], [cold])

    assert {change.difference for change in difference.changes} <= {0.0, None}
    assert all(word.a == word.b for word in difference.words)
    assert "the commands differ" not in difference.notes


def test_values_that_were_not_observed_are_null_in_a_comparison() -> None:
    cold, strace = analyse(cold_run().trace()), analyse(cold_run().trace(probe="strace"))

    difference = compared([cold], [strace])

    change = figure(difference, "load", "faults")
    assert (change.a, change.b, change.difference, change.ratio) == (0, None, None, None)
    assert "the probes differ" in difference.notes
    json.dumps(difference.as_dict(), allow_nan=False)


def test_sets_have_medians_and_intervals_that_hold_the_difference(sets: tuple[list[Report], list[Report]]) -> None:
    difference = compared(*sets)

    change = figure(difference, "load", "wall_s")
    walls = [np.median([row.wall_s for report in side for row in report.phases if row.name == "load"]) for side in sets]
    assert (change.a, change.b) == tuple(walls)
    assert change.low is not None
    assert change.high is not None
    assert change.difference is not None
    assert 0 < change.low <= change.difference <= change.high
    assert change.certain
    assert figure(difference, "load", "cleanup_bytes").low is None


def test_sets_from_one_source_differ_for_certain_as_rarely_as_the_confidence_level() -> None:
    """Of 400 figures without a difference, about 5 % may seem to have one; with ten runs, bootstrap medians err to the safe side."""
    random = np.random.default_rng(7)

    low, high = intervals(random.normal(5, 1, (10, 400)), random.normal(5, 1, (10, 400)))

    wrong = int(((low > 0) | (high < 0)).sum())
    assert 0 < wrong <= 40


def test_a_shift_is_inside_its_interval_as_often_as_the_confidence_level() -> None:
    random = np.random.default_rng(8)

    low, high = intervals(random.exponential(1, (12, 400)), random.exponential(1, (12, 400)) + 2)

    assert int(((low <= 2) & (high >= 2)).sum()) >= 360


@pytest.mark.parametrize("runs", [1, 2, 5, 8])
def test_medians_are_those_of_numpy(runs: int) -> None:
    table = np.random.default_rng(9).normal(size=(runs, 50))
    table[:, ::7] = np.nan
    table[0, 1] = np.nan if runs > 1 else table[0, 1]

    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        expected = np.nanmedian(table, axis=0)

    assert np.allclose(median(table), expected, equal_nan=True)


def test_a_comparison_is_the_same_every_time(sets: tuple[list[Report], list[Report]]) -> None:
    assert compared(*sets) == compared(*sets)


def test_too_few_runs_are_reported(sets: tuple[list[Report], list[Report]]) -> None:
    a, b = sets

    assert any("no interval" in note for note in compared(a[:2], b).notes)
    assert any("fewer than 6 runs" in note for note in compared(a[:3], b).notes)
    assert compared(a, b).notes == ()


def test_the_text_fits_80_columns_and_nothing_is_cut(sets: tuple[list[Report], list[Report]]) -> None:
    for difference in (compared(*sets), compared(sets[0][:1], sets[1][:1])):
        output = comparison.render(difference, 80)

        assert max(len(line) for line in output.splitlines()) <= 80
        assert "…" not in output
        assert "\x1b" not in output


def test_the_text_says_what_changed() -> None:
    output = comparison.render(compared([analyse(cold_run().trace())], [analyse(hot_run().trace())]), 80)

    assert output.splitlines()[0] == "A and B took the same time: 900 ms."
    lines = [line.strip() for line in output.splitlines()]
    assert (
        lines[lines.index("A: a: phi3-qa.py, 1 run, probes: ebpf") + 1]
        == "generation hits CVMFS: yes · cache state: cold"
    )
    assert (
        lines[lines.index("B: b: phi3-qa.py, 1 run, probes: ebpf") + 1]
        == "generation hits CVMFS: no · cache state: hot"
    )
    assert "network.transfer 80.0 ms     0 s -80.0 ms -100 %" in " ".join(output.split("           "))
    assert "fetched" in output


def test_hostile_names_are_text() -> None:
    scene = hostile_run()
    scene.named("[red]x[/nope] :smile:", 800_000, 801_000)
    hostile = analyse(scene.trace())

    output = comparison.render(compared([hostile], [analyse(cold_run().trace())]), 200)

    assert "\x1b" not in output
    assert "[re… :smile:" in output
    json.loads(comparison.as_json(compared([hostile], [hostile])))


# The command.


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(word) for word in words)])


def several(folder: Path, make_scene: Callable[[], Scene], count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        events, texts = make_scene().arrays()
        writer = TraceWriter(folder / f"run-{number}", make_scene().trace().meta)
        writer.write(events, texts)
        writer.finish()
    return folder


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    (tmp_path / "cold").mkdir()
    return stored(tmp_path / "cold", cold_run())


def test_two_traces_as_text_and_json(cold: Path, tmp_path: Path) -> None:
    (tmp_path / "hot").mkdir()
    hot = stored(tmp_path / "hot", hot_run())

    text, json_result = run(cold, hot), run(cold, hot, "--format", "json")

    assert (text.exit_code, json_result.exit_code, text.stderr, json_result.stderr) == (0, 0, "", "")
    assert text.stdout.startswith("A and B took the same time: ")
    assert f"A: {cold}: phi3-qa.py, 1 run, probes: ebpf " in text.stdout.replace("\n", " ")
    content = json.loads(json_result.stdout)
    assert content["schema"] == "cvtrace-compare/1"
    assert (content["a"]["runs"], content["b"]["path"]) == (1, str(hot))
    assert {"of", "name", "unit", "a", "b", "difference", "ratio", "low", "high", "certain"} == set(
        content["changes"][0]
    )


def test_folders_are_sets_of_runs(tmp_path: Path) -> None:
    a, b = several(tmp_path / "a", cold_run, 3), several(tmp_path / "b", hot_run, 4)
    (a / "notes").mkdir()

    result = run(a, b, "--format", "json", "-o", tmp_path / "out.json")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["a"]["runs"], content["b"]["runs"]) == (3, 4)


@pytest.mark.parametrize("content, code", [("missing", 2), ("empty", 4), ("file", 2)])
def test_a_path_that_is_not_a_trace_is_refused(cold: Path, tmp_path: Path, content: str, code: int) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no trace")

    result = run(cold, tmp_path / content)

    assert (result.exit_code, result.stdout) == (code, "")
    assert content in result.stderr


def test_an_existing_output_is_kept(cold: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    assert run(cold, cold, "-o", tmp_path / "out").exit_code == 2
    assert (tmp_path / "out").read_text() == "mine"
    assert run(cold, cold, "-o", tmp_path / "out", "--force").exit_code == 0
