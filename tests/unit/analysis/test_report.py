"""The summary, the JSON contract, and the commands that print and check them."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import cold_run, hot_run, large_run, portable_run, stored

from cvtrace.analysis import analyse
from cvtrace.analysis.checks.expectations import BadExpression, check, parse
from cvtrace.analysis.contract.quantities import listed, pluralize, seconds, size
from cvtrace.analysis.report import text
from cvtrace.cli import main

EXPECTED = Path(__file__).resolve().parents[2] / "data" / "summary"


@pytest.mark.parametrize("form, width, verbose", [("", 80, False), ("-200", 200, False), ("-v", 80, True)])
@pytest.mark.parametrize("name", ["cold", "hot", "large", "portable"])
def test_the_summary_is_the_expected_text(name: str, form: str, width: int, verbose: bool) -> None:
    scene = {"cold": cold_run, "hot": hot_run, "large": large_run, "portable": portable_run}[name]()

    summary = text.render(analyse(scene.trace()), width, verbose=verbose)

    assert summary == (EXPECTED / f"{name}{form}.txt").read_text(encoding="utf-8")
    assert max(len(line) for line in summary.splitlines()) <= width
    assert "\x1b" not in summary


@pytest.mark.parametrize("width", range(80, 121))
def test_nothing_of_the_table_is_cut_at_any_width(width: int) -> None:
    summary = text.render(analyse(large_run().trace()), width, verbose=True)

    (decode,) = (line for line in summary.splitlines() if line.startswith("decode"))
    assert "0/100/0 %" in decode
    head = summary[: summary.index("import  ")]
    assert "network" in head.replace("/network", "")
    assert "…" not in decode + summary[summary.index("phase  ") : summary.index("import  ")]


def test_a_phase_named_like_markup_is_text() -> None:
    scene = cold_run()
    scene.named("[bold]x[/nope] :smile:", 700_000, 710_000)

    assert "[bold]x[/nope] :s…" in text.render(analyse(scene.trace()), 120, verbose=True)


def test_colours_only_where_they_are_requested() -> None:
    assert "\x1b[1;31m" in text.render(analyse(cold_run().trace()), 120, color=True)


def test_lost_events_and_what_is_missing_are_shown() -> None:
    trace = cold_run().trace(lost={"ring": 12}, missing=["no FUSE tracepoints: queue time is hidden"])

    summary = text.render(analyse(trace), verbose=True)

    assert "12 lost" in summary
    assert "Not observed: no FUSE tracepoints." in summary


@pytest.mark.parametrize(
    "value, expected",
    [(0, "0 s"), (2e-6, "2.00 µs"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (1.934, "1.93 s"), (3600, "3,600 s")],
)
def test_times_are_readable(value: float, expected: str) -> None:
    assert seconds(value) == expected


def test_sizes_and_counts_are_readable() -> None:
    assert [size(item) for item in (0, 512, 999_950, 181_203_112)] == ["0", "512 B", "1.00 MB", "181 MB"]
    assert [pluralize(1, "fetch"), pluralize(1986, "read"), pluralize(2, "fetch")] == [
        "1 fetch",
        "1,986 reads",
        "2 fetches",
    ]


@pytest.mark.parametrize(
    "expression, met",
    [
        ("verdict == yes", True),
        ("verdict != no", True),
        ("decode.fuse_reads == 0", False),
        ("decode.fuse_reads <= 1", True),
        ("load.wall_s < 2", True),
        ("load.network.transfer > 0.07", True),
        ("total.http_bytes == 1,000,000", True),
        ("cache_state == cold", True),
        ("agreement == yes", True),
        ("trace.lost == 0", True),
        ("verdict.tokens_affected == 1", True),
        ("decode.p99_s < 1", True),
        ("load.hits_cvmfs == 'yes'", True),
        ("load.cache_state == cold", True),
        ("decode.cache_state == warm-disk", False),
        ("load.sequential_fetch_s > 0.1", True),
        ("teardown.wall_s < 1", False),  # there is none: nothing is known of it
    ],
)
def test_expectations_are_evaluated_on_the_report(expression: str, met: bool) -> None:
    outcome = check(analyse(cold_run().trace()), [parse(expression)])[0]
    assert outcome.met is met


def test_phases_that_the_script_names_can_be_checked() -> None:
    # GIVEN a script that names a phase of 200 µs
    report = analyse(cold_run().named("warm up", 10, 210).trace())
    named = [phase.name for phase in report.phases]

    # THEN it is a name like those of the library, with _ for what is no letter
    outcome = check(report, [parse("warm_up.span_s <= 0.0002", named), parse("warm_up.span_s > 1", named)])
    assert [item.met for item in outcome] == [True, False]
    with pytest.raises(BadExpression, match=r"known are: .*warm_up"):
        parse("warmup.span_s < 1", named)


@pytest.mark.parametrize(
    "expression, complaint",
    [
        ("decode.reads == 0", "unknown name"),
        ("load.wall_s", "cannot read"),
        ("load.wall_s < fast", "not a number"),
        ("verdict < yes", "one of yes, no, inconclusive"),
        ("verdict == maybe", "one of yes, no, inconclusive"),
        ("load.cache_state == tepid", "one of cold, warm-disk"),
        ("phase.cache_state == cold", "unknown name"),
        ("total.cache_state == cold", "unknown name"),
        ("__import__('os').system('true') == 0", "cannot read"),
    ],
)
def test_bad_expressions_are_refused_with_the_known_names(expression: str, complaint: str) -> None:
    with pytest.raises(BadExpression, match=complaint):
        parse(expression)


@pytest.mark.parametrize(
    "name, intended",
    [
        ("decode.reads", "decode.fuse_reads"),
        ("decode.fuse_read", "decode.fuse_reads"),
        ("load.wall", "load.wall_s"),
        ("lod.wall_s", "load.wall_s"),
        ("Verdict", "verdict"),
        ("decode.median", "decode.median_s"),
        ("trace.loss", "trace.lost"),
        ("warmup.wall_s", "warm_up.wall_s"),
    ],
)
def test_a_mistyped_name_gets_the_closest_known_name(name: str, intended: str) -> None:
    with pytest.raises(BadExpression, match=rf"did you mean .*{re.escape(intended)}.*\?"):
        parse(f"{name} == 0", ["warm up"])


def test_a_name_unlike_all_known_ones_gets_no_suggestion() -> None:
    with pytest.raises(BadExpression) as refused:
        parse("xyzzy == 0")
    assert "did you mean" not in str(refused.value)


def test_check_prints_what_failed_with_its_value(tmp_path: Path) -> None:
    trace = stored(tmp_path, cold_run())

    result = CliRunner().invoke(main, ["check", str(trace), "decode.fuse_reads == 0", "load.wall_s < 2"])

    assert result.exit_code == 1
    assert result.output == "failed: decode.fuse_reads == 0  (decode.fuse_reads is 1)\n"
    assert CliRunner().invoke(main, ["check", str(trace), "verdict == yes"]).exit_code == 0


def test_check_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(stored(tmp_path, cold_run())), "decode.reads == 0"])

    assert result.exit_code == 2
    assert "fuse_reads" in result.output


def test_report_writes_text_and_json(tmp_path: Path) -> None:
    trace, out = stored(tmp_path, cold_run()), tmp_path / "report.json"

    assert CliRunner().invoke(main, ["report", str(trace)]).output.startswith("phi3-qa.py")
    assert CliRunner().invoke(main, ["report", str(trace), "--format", "json", "-o", str(out)]).exit_code == 0
    assert json.loads(out.read_text())["verdict"]["generation_hits_cvmfs"] == "yes"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--format", "nonsense"], 2, "nonsense"),
        (["-o", "/nowhere/report.txt"], 2, "cannot write /nowhere/report.txt"),
    ],
)
def test_report_refuses_in_one_sentence(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["report", str(stored(tmp_path, cold_run())), *arguments])

    assert result.exit_code == code
    assert message in result.output


def test_a_folder_that_is_no_trace_is_exit_4(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert (result.exit_code, result.output.count("\n")) == (4, 1)


@pytest.mark.parametrize(
    "numbers, expected",
    [([], ""), ([3], "3"), (range(1, 24), "1–23"), ([1, 2, 4, 6, 7, 8], "1–2, 4, 6–8"), ([1, 3, 5, 7], "1, 3, 5 …")],
)
def test_tokens_are_ranges(numbers: list[int], expected: str) -> None:
    assert listed(numbers, 3) == expected
