"""Conditions on bench folders, and on what changed against a baseline; what CI gets as JUnit XML."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench_folders import bench_of, cold_and_hot, run, times, written
from click.testing import CliRunner, Result
from runs import cold_run, hot_run, stored

from cvtrace.analysis.checks.bench_expectations import check_bench, known_names, parse_for_bench
from cvtrace.analysis.checks.expectations import BadExpression
from cvtrace.cli import main

COLD, HOT = ("", None, "cold"), ("", None, "hot")


def check(*words: object) -> Result:
    return CliRunner().invoke(main, ["check", *(str(word) for word in words)])


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return cold_and_hot(tmp_path / "bench", 2.0, 0.5)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "cold").mkdir()
    return stored(tmp_path / "cold", cold_run())


@pytest.mark.parametrize(
    "condition, met",
    [
        ("cold.load_s < 3", True),
        ("cold.load_s < 1.5", False),
        ("hot.load_s<=0.7", True),
        ("cold.load_s.high < 2.5", True),
        ("cold.load_s.low > 2.5", False),
        ("cold.load_s.ratio_to_local <= 2", True),
        ("cold.tokens_per_s > 5", True),
        ("cold.fetches <= 12", True),
        ("cold.bytes_fetched < 1_000", False),
        ("cold.n >= 8", True),
        ("cold.left_out == 0", True),
    ],
)
def test_conditions_are_about_medians_of_a_state(bench: Path, condition: str, met: bool) -> None:
    result = check(bench, condition)

    assert result.exit_code == (0 if met else 1)
    assert result.stdout.startswith(f"failed: {condition}  (") is not met


def test_what_is_not_met_is_said_with_its_value(tmp_path: Path) -> None:
    path = written(bench_of(tmp_path / "bench", {COLD: [2.0, 2.0, 2.0]}))

    assert check(path, "cold.load_s < 1").stdout == "failed: cold.load_s < 1  (cold.load_s is 2)\n"
    assert check(path, "cold.network.request < 1").stdout == (
        "failed: cold.network.request < 1  (cold.network.request was not measured)\n"
    )


def test_classes_and_verdicts_are_those_of_traced_runs(tmp_path: Path) -> None:
    traced = [
        run(COLD, 8, 2.5, traced=True, verdict="yes", classes={"network.request": 0.75}),
        run(HOT, 9, 0.5, traced=True, verdict="no", classes={"network.request": 0.0}),
    ]
    path = written(bench_of(tmp_path / "bench", {COLD: times(2.0), HOT: times(0.5)}, traced))

    assert check(path, "cold.network.request > 0.7", "hot.verdict == no", "cold.verdict != no").exit_code == 0
    assert check(path, "cold.verdict == no").stdout == "failed: cold.verdict == no  (cold.verdict is yes)\n"
    assert "inconclusive" in check(path, "cold.verdict == perhaps").stderr


def test_a_condition_without_a_variant_or_value_holds_for_each(tmp_path: Path) -> None:
    keys = [(variant, value, "cold") for variant in ("int4", "fp.16") for value in (64e6, 256e6)]
    bench = bench_of(tmp_path / "bench", {key: [float(number + 1)] * 3 for number, key in enumerate(keys)})

    def met(condition: str) -> bool:
        (outcome,) = check_bench(bench, [parse_for_bench(condition, bench)])
        return outcome.met

    assert met("cold.load_s <= 4")
    assert not met("cold.load_s <= 3")
    assert met("int4.cold.load_s <= 2")
    assert met("cold@64000000.load_s <= 3")
    assert met("fp.16.cold@64000000.load_s == 3")
    assert not met("fp.16.cold@256000000.load_s < 4")
    with pytest.raises(BadExpression, match="did you mean"):
        met("cold@64000000.lood_s < 3")
    assert "VARIANT.STATE, of the variants int4, fp.16" in known_names(bench)


@pytest.mark.parametrize(
    "condition, message",
    [
        ("cold.lod_s < 3", "did you mean cold.load_s"),
        ("tepid.load_s < 3", "unknown name 'tepid.load_s'"),
        ("cold.load_s = 3", "cannot read"),
        ("cold.load_s < fast", "'fast' in 'cold.load_s < fast' is not a number"),
        ("load.wall_s < 3", "for each STATE of cold, hot"),
    ],
)
def test_what_cannot_be_read_is_exit_2(bench: Path, condition: str, message: str) -> None:
    result = check(bench, condition)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


# Against a baseline.


def test_a_slower_bench_fails_against_its_baseline(tmp_path: Path, bench: Path) -> None:
    slower = cold_and_hot(tmp_path / "slower", 3.0, 0.5, seed=9)
    equal = cold_and_hot(tmp_path / "equal", 2.0, 0.5, seed=20)

    assert check(equal, "--against", bench).exit_code == 0
    assert check(bench, "--against", slower).exit_code == 0  # faster
    result = check(slower, "--against", bench)

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(
        "failed: cold.load_s is not higher than in the baseline by more than 5 % and noise  (cold: load "
    )
    assert all(line.startswith("failed: cold.") for line in lines)
    assert check(slower, "--against", bench, "--tolerance", "90").exit_code == 0


def test_too_few_runs_and_nothing_in_common_are_no_success(tmp_path: Path, bench: Path) -> None:
    few = cold_and_hot(tmp_path / "few", 2.0, 0.5, count=2)
    other = written(bench_of(tmp_path / "other", {("", None, "local"): times(1.0)}))

    result = check(few, "--against", bench)
    assert result.exit_code == 1
    assert "too few runs to tell that from noise" in result.stdout
    result = check(other, "--against", bench)
    assert (result.exit_code, "the two folders have no state in common" in result.stdout) == (1, True)


def test_conditions_may_name_the_baseline(tmp_path: Path, bench: Path, trace: Path) -> None:
    slower = cold_and_hot(tmp_path / "slower", 3.0, 0.5, seed=9)
    (tmp_path / "hot").mkdir()
    hot = stored(tmp_path / "hot", hot_run())

    assert check(slower, "--against", bench, "cold.load_s <= 1.6 * baseline").exit_code == 0
    result = check(slower, "--against", bench, "cold.load_s <= 1.1*baseline")
    assert result.exit_code == 1
    assert "(cold.load_s is 3" in result.stdout
    assert ", the baseline's 2.0" in result.stdout or ", the baseline's 1.9" in result.stdout
    assert check(trace, "--against", trace, "load.wall_s <= 1.0 * baseline", "verdict == baseline").exit_code == 0
    result = check(hot, "--against", trace, "verdict == baseline", "decode.count <= 2 * baseline")
    assert result.exit_code == 1
    assert "failed: verdict == baseline  (verdict is no; of the baseline, it is yes)" in result.stdout
    assert "failed: decode.count <= 2 * baseline  (decode.count is 383; of the baseline, it is 3)" in result.stdout


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "nothing to test"),
        (("cold.load_s < baseline",), "with --against"),
        (("cold.load_s < 1", "--tolerance", "3"), "--tolerance"),
        (("cold.load_s < 1.1.1 * baseline", "--against", "BENCH"), "is not a number"),
        (("--against", "TRACE"), "compare two of a kind"),
        (("--against", "MISSING"), "there is no such folder"),
    ],
)
def test_wrong_usage_is_exit_2(bench: Path, trace: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    places = {"BENCH": bench, "TRACE": trace, "MISSING": tmp_path / "missing"}

    result = check(bench, *(places.get(word, word) for word in words))

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_a_variant_may_be_called_baseline(tmp_path: Path) -> None:
    # GIVEN a bench with a variant of that name
    cells = {("baseline", None, "cold"): times(2.0), ("int4", None, "cold"): times(1.0)}
    folder = written(bench_of(tmp_path / "bench", cells))
    # WHEN a condition is about it THEN no other folder is needed
    assert check(folder, "baseline.cold.load_s < 3").exit_code == 0
    assert check(folder, "baseline.cold.load_s < 1").exit_code == 1


def test_one_trace_against_another_needs_conditions(trace: Path, bench: Path) -> None:
    result = check(trace, "--against", trace)
    assert (result.exit_code, "cannot tell a change from noise" in result.stderr) == (2, True)
    assert "compare two of a kind" in check(trace, "--against", bench, "load.wall_s < 1").stderr


# JUnit XML.


def cases(path: Path) -> dict[str, str | None]:
    """Return for each test case what failed, None if nothing did."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    rows: dict[str, str | None] = {}
    for case in root.iter("testcase"):
        parts = [*case.iter("failure"), *case.iter("error")]
        rows[case.attrib["name"]] = f"{parts[0].tag}: {parts[0].attrib['message']}" if parts else None
    (suite,) = root.iter("testsuite")
    for element in (root, suite):
        assert int(element.attrib["tests"]) == len(rows)
        assert int(element.attrib["failures"]) == sum((text or "").startswith("failure") for text in rows.values())
        assert int(element.attrib["errors"]) == sum((text or "").startswith("error") for text in rows.values())
    return rows


def test_each_condition_is_a_test_case(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.xml"

    result = check(trace, "load.fuse_reads == 1", "verdict == no", "--junit", file)

    assert result.exit_code == 1
    assert cases(file) == {"load.fuse_reads == 1": None, "verdict == no": "failure: verdict is yes"}
    names = {each.attrib["name"]: each.attrib["value"] for each in ElementTree.parse(file).getroot().iter("property")}
    assert names["target"] == "phi3-qa.py"


def test_bench_folders_and_baselines_have_test_cases(bench: Path, tmp_path: Path) -> None:
    slower = cold_and_hot(tmp_path / "slower", 3.0, 0.5, seed=9)
    file = tmp_path / "out.xml"

    assert check(slower, "--against", bench, "--junit", file).exit_code == 1
    rows = cases(file)
    assert len(rows) == 8
    assert sum(text is not None for text in rows.values()) == 4
    assert check(bench, "cold.load_s < 3", "--junit", file).exit_code == 0  # what an earlier check wrote is replaced
    assert cases(file) == {"cold.load_s < 3": None}


def test_what_cannot_be_read_is_an_error_in_the_xml(tmp_path: Path) -> None:
    file = tmp_path / "out.xml"
    (tmp_path / "empty").mkdir()

    for name, code in (("missing", 2), ("empty", 4)):
        result = check(tmp_path / name, "load.wall_s < 1", "--junit", file)
        assert result.exit_code == code
        (text,) = cases(file).values()
        assert text == f"error: {result.stderr.removeprefix('cvtrace: ').strip()}"


def test_a_file_that_no_check_wrote_is_kept(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")

    result = check(trace, "load.fuse_reads == 1", "--junit", tmp_path / "notes")

    assert (result.exit_code, (tmp_path / "notes").read_text()) == (2, "mine")
    assert check(trace, "load.fuse_reads == 1", "--junit", tmp_path / "no" / "folder.xml").exit_code == 2
    assert check(trace, "load.fuse_reads == 1", "--junit", tmp_path / ("x" * 300)).exit_code == 2


def test_xml_on_stdout_is_nothing_but_xml(trace: Path) -> None:
    result = check(trace, "verdict == no", "--junit", "-")

    assert result.exit_code == 1
    assert ElementTree.fromstring(result.stdout).attrib["failures"] == "1"
    assert "failed: verdict == no" in result.stderr


def test_hostile_text_is_text_in_the_xml(tmp_path: Path) -> None:
    name = 'a\x1b[31m<&"\x00\udcff\uffff'
    cell = (name.replace("\x00", "").replace("\udcff", ""), None, "cold")
    bench = written(bench_of(tmp_path / "bench", {cell: times(1.0)}, host=name.replace("\udcff", "")))

    assert check(bench, "cold.load_s < 0.1", "--junit", tmp_path / "out.xml").exit_code == 1

    assert list(cases(tmp_path / "out.xml")) == ["cold.load_s < 0.1"]
