"""Two bench folders: the change of each figure in each state, and whether it is more than noise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_folders import bench_of, cold_and_hot, run, times, written
from click.testing import CliRunner, Result
from runs import cold_run, stored

from cvtrace.analysis.bench import read_bench
from cvtrace.analysis.comparison.experiments import BenchComparison, compare_benches, judge
from cvtrace.analysis.comparison.statistics import Change
from cvtrace.analysis.report import bench_comparison
from cvtrace.analysis.report.html.bench.comparison import render as render_page
from cvtrace.analysis.report.html.bench.comparison import side_by_side
from cvtrace.cli import main

COLD, HOT = ("", None, "cold"), ("", None, "hot")


def figure(comparison: BenchComparison, of: str, name: str) -> Change:
    (change,) = (change for change in comparison.changes if (change.of, change.name) == (of, name))
    return change


def compared(a: dict, b: dict, **more: list) -> BenchComparison:  # type: ignore[type-arg]
    return compare_benches(
        bench_of(Path("a"), a, more.get("further_a", [])), bench_of(Path("b"), b, more.get("further_b", []))
    )


def test_a_slower_load_is_more_than_noise_and_an_equal_one_is_not() -> None:
    comparison = compared(
        {COLD: times(2.0), HOT: times(0.5, seed=2)}, {COLD: times(3.0, seed=3), HOT: times(0.5, seed=4)}
    )

    cold, hot = figure(comparison, "cold", "load_s"), figure(comparison, "hot", "load_s")
    assert cold.certain is True
    assert cold.difference == pytest.approx(np.median(times(3.0, seed=3)) - np.median(times(2.0)))
    assert cold.low is not None
    assert cold.high is not None
    assert 0.8 < cold.low <= cold.difference <= cold.high < 1.2
    assert hot.certain is False
    assert [cell.name for cell in comparison.cells] == ["cold", "hot"]
    assert comparison.notes == ()


def test_runs_that_do_not_count_change_nothing() -> None:
    # GIVEN runs that were not verified, failed or were traced, all of them absurdly slow
    a, b = {COLD: times(2.0)}, {COLD: times(2.1, seed=3)}
    wrong = [
        run(COLD, 90, 500.0, verified=False, reason="the cache was not empty"),
        run(COLD, 91, 500.0, exit_code=1),
        run(COLD, 92, 500.0, traced=True),
    ]

    comparison = compared(a, b, further_b=wrong)

    assert comparison.changes == compared(a, b).changes
    assert comparison.notes == ("b: 2 runs left out: not in its state, or failed",)


def test_variants_and_values_of_a_sweep_are_compared_with_their_like() -> None:
    keys = [(variant, value, "cold") for variant in ("int4", "fp16") for value in (64e6, 256e6)]
    a = {key: times(1.0 + number) for number, key in enumerate(keys)}
    b = {key: times(2.0 * (1.0 + number)) for number, key in enumerate(reversed(keys))}

    comparison = compared(a, b)

    assert [cell.name for cell in comparison.cells] == [
        "int4.cold@64000000",
        "int4.cold@256000000",
        "fp16.cold@64000000",
        "fp16.cold@256000000",
    ]
    assert figure(comparison, "int4.cold@64000000", "load_s").ratio == pytest.approx(8.0, rel=1e-9)


def test_what_makes_them_hard_to_compare_is_said() -> None:
    a = bench_of(Path("a"), {COLD: times(1.0), HOT: times(0.5)})
    b = bench_of(Path("b"), {COLD: times(1.0, count=4)}, host="elsewhere")

    assert compare_benches(a, b).notes == (
        "the machines differ",
        "only A has runs of hot",
        "fewer than 6 runs on a side: intervals are narrower than they should be",
    )
    few = bench_of(Path("b"), {COLD: times(9.0, count=2)})
    comparison = compare_benches(a, few)
    assert figure(comparison, "cold", "load_s").certain is None
    assert "no interval where a side has fewer than 3 runs" in comparison.notes[-1]
    none = bench_of(Path("b"), {HOT: []})
    assert compare_benches(a, none).notes[-1] == "the two folders have no state in common"
    json.dumps(compare_benches(a, none).as_dict(), allow_nan=False)


def test_a_figure_that_was_not_measured_is_no_number() -> None:
    comparison = compare_benches(
        bench_of(Path("a"), {COLD: times(1.0)}),
        replace(
            bench_of(Path("b"), {COLD: times(1.0)}),
            runs=tuple(run(COLD, number, 1.0, first_token_s=None if number else 0.1) for number in range(6)),
        ),
    )

    change = figure(comparison, "cold", "first_token_s")
    assert (change.b, change.low, change.certain) == (0.1, None, None)  # one run has it: no interval


def test_equal_benches_seem_different_as_rarely_as_the_confidence_level() -> None:
    """Of 60 pairs without a difference about 5 % may seem to have one; with ten runs, bootstrap medians err to the safe side."""
    wrong = 0
    for seed in range(60):
        comparison = compared({COLD: times(2.0, 10, seed)}, {COLD: times(2.0, 10, 1000 + seed)})
        wrong += figure(comparison, "cold", "load_s").certain is True
    assert wrong <= 6


# What is worse than the baseline.


def outcomes(a: dict, b: dict, tolerance: float = 0.05) -> dict[str, bool | None]:  # type: ignore[type-arg]
    return {f"{each.change.of}.{each.change.name}": each.met for each in judge(compared(a, b), tolerance)}


def test_only_what_got_worse_by_more_than_noise_and_tolerance_fails() -> None:
    slower = outcomes({COLD: times(2.0)}, {COLD: times(3.0, seed=3)})
    assert slower == {
        "cold.load_s": False,
        "cold.first_token_s": False,
        "cold.tokens_per_s": False,
        "cold.total_s": False,
    }
    assert set(outcomes({COLD: times(3.0)}, {COLD: times(2.0, seed=3)}).values()) == {True}  # faster
    assert set(outcomes({COLD: times(2.0)}, {COLD: times(3.0, seed=3)}, tolerance=0.8).values()) == {True}
    noisy = {COLD: [1.0, 3.0, 2.0, 1.2, 2.9, 2.1, 1.1, 2.8]}
    assert outcomes(noisy, {COLD: [1.1 * value for value in noisy[COLD]]})["cold.load_s"] is True


def test_what_cannot_be_judged_is_not_met() -> None:
    assert set(outcomes({COLD: times(2.0)}, {COLD: times(2.0, count=2)}).values()) == {None}


# The command.


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(word) for word in words)])


def test_the_command_says_what_changed(tmp_path: Path) -> None:
    a, b = cold_and_hot(tmp_path / "a", 2.0, 0.5), cold_and_hot(tmp_path / "b", 3.0, 0.5, seed=9)

    text, as_json = command(a, b), command(a, b, "--format", "json")

    assert (text.exit_code, text.stderr, as_json.exit_code, as_json.stderr) == (0, "", 0, "")
    assert text.stdout.startswith("cold: load 2.0")
    assert "worse; 95 % interval: +" in text.stdout.splitlines()[0] + text.stdout.splitlines()[1]
    assert "hot: " not in text.stdout.split("\n\n")[0]
    assert max(map(len, text.stdout.splitlines()[4:])) <= 80 + len(str(tmp_path))
    content = json.loads(as_json.stdout)
    assert content["schema"] == "cvtrace-compare-bench/1"
    (load,) = (row for row in content["cells"][0]["changes"] if row["name"] == "load_s")
    assert load["certain"] is True
    assert bench_comparison.as_json(compare_benches_at(a, b)) == as_json.stdout


def compare_benches_at(a: Path, b: Path) -> BenchComparison:
    return compare_benches(read_bench(a), read_bench(b))


def test_the_table_fits_80_columns_with_long_names() -> None:
    keys = [(f"a-variant-with-a-very-long-name-{number}", 1e9, "warm-memory") for number in range(2)]

    output = bench_comparison.render(
        compared({key: times(20.0) for key in keys}, {key: times(30.0) for key in keys}), 80
    )

    assert max(len(line) for line in output.splitlines()) <= 80
    hostile = {("\x1b[31mred", None, "cold"): times(1.0), ("x", None, "cold"): times(1.0)}
    assert "\x1b" not in bench_comparison.render(compared(hostile, hostile), 80)


def test_the_page_shows_both_beside_each_other(tmp_path: Path) -> None:
    a, b = cold_and_hot(tmp_path / "a", 2.0, 0.5), cold_and_hot(tmp_path / "b", 3.0, 0.5, seed=9)

    result = command(a, b, "-o", tmp_path / "x.html")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    page = (tmp_path / "x.html").read_text()
    assert "What changed from A to B?" in page
    assert "cold: load 2.0" in page
    for name in ("A cold", "B cold", "A hot", "B hot"):
        assert name in page
    runs = [each for each in side_by_side(read_bench(a), read_bench(b)).runs if each.state == "cold"]
    assert [each.variant for each in runs] == ["A"] * 8 + ["B"] * 8


def test_pages_of_any_two_benches_can_be_made(tmp_path: Path) -> None:
    swept = {(variant, value, "cold"): times(1.0) for variant in ("<b>x", "y") for value in (64e6, 256e6)}
    traced = [run(COLD, 8, 2.5, traced=True, verdict="yes", classes={"network.request": 0.75})]
    benches = [
        bench_of(tmp_path / "a", swept),
        bench_of(tmp_path / "b", {COLD: times(2.0)}, traced),
        bench_of(tmp_path / "c", {HOT: []}),
        replace(bench_of(tmp_path / "d", {COLD: times(2.0)}), summary=(), runs=()),
    ]

    for a in benches:
        for b in benches:
            page = render_page(a, b, compare_benches(a, b))
            assert "What changed from A to B?" in page
            assert "<b>x" not in page


def test_a_bench_and_something_else_are_refused(tmp_path: Path) -> None:
    bench = cold_and_hot(tmp_path / "bench", 2.0, 0.5)
    (tmp_path / "run").mkdir()
    trace = stored(tmp_path / "run", cold_run())

    for a, b in ((bench, trace), (trace, bench)):
        result = command(a, b)
        assert result.exit_code == 2
        assert f"{bench} is a bench folder and {trace} is none" in result.stderr
    missing = command(bench, tmp_path / "missing")
    assert (missing.exit_code, missing.stderr) == (
        2,
        f"cvtrace: cannot read {tmp_path / 'missing'}: there is no such folder\n",
    )


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema": "cvtrace-bench", "version": 99}', '{"schema": "cvtrace-bench", "version": 1}']
)
def test_a_damaged_bench_is_exit_4_and_one_sentence(tmp_path: Path, text: str) -> None:
    good = cold_and_hot(tmp_path / "good", 2.0, 0.5)
    bad = written(bench_of(tmp_path / "bad", {COLD: times(1.0)}))
    (bad / "bench.json").write_text(text)

    result = command(good, bad)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (4, "", 1)
    assert str(bad) in result.stderr
