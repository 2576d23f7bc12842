"""The summary: at most 30 lines of 80 columns, the answer first, most useful advice first, and nothing that is zero or agrees."""

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import hostile_run
from hypothesis import given, settings
from hypothesis import strategies as st
from portable_scene import portable
from rich.cells import cell_len
from runs import cold_run, hot_run, large_run, portable_run
from scene import Scene
from test_findings import EXPECTED_TITLES

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Finding, MountInfo, Report
from cvtrace.analysis.report import text
from cvtrace.analysis.report.brief import LINES
from cvtrace.analysis.report.lines import columns, fitted, wrapped
from cvtrace.tracer.store import Trace

SAMPLES = sorted((Path(__file__).resolve().parents[2] / "data" / "summary").glob("*.txt"))
WIDE = "漢字" * 30
NAMES = st.text(max_size=300) | st.sampled_from((WIDE, "x" * 4000, "\x1b[31m" * 40, "a b " * 200, "\u202e\u200b" * 90))


def with_trace(report: Report, **changes: object) -> Report:
    return dataclasses.replace(report, trace=dataclasses.replace(report.trace, **changes))  # type: ignore[arg-type]


def assert_fits(summary: str, width: int = 80) -> None:
    lines = summary.splitlines()
    assert len(lines) <= LINES, summary
    assert max(map(cell_len, lines)) <= width, summary
    assert "\x1b" not in summary


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if "-v" not in sample.name], ids=lambda item: item.name
)
def test_sample_summaries_fit(sample: Path) -> None:
    assert_fits(sample.read_text(encoding="utf-8"), 200 if "200" in sample.name else 80)


@pytest.mark.parametrize("make_scene", [cold_run, hot_run, large_run, portable_run, hostile_run])
def test_summaries_of_whole_runs_fit(make_scene: Callable[[], Scene]) -> None:
    assert_fits(text.render(analyse(make_scene().trace())))


@given(names=st.lists(NAMES, min_size=3, max_size=6), path=NAMES, count=st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_summaries_fit_with_any_names(names: list[str], path: str, count: int) -> None:
    # GIVEN names of any length, alphabet and number
    report = COLD
    mounts = tuple(MountInfo(f"/cvmfs/{name}", name, 200, name, name, used=True) for name in names)
    phases = tuple(
        dataclasses.replace(
            report.phases[number % len(report.phases)], name=names[number % len(names)] or "x", count=number
        )
        for number in range(count)
    )
    findings = tuple(
        Finding(name, "high", name or "x", name, name * 3 or "x", float(number)) for number, name in enumerate(names)
    )
    changed = with_trace(
        report, path=path, target=tuple(names), mounts=mounts, probes=names[0], damage=names[1] or None, exit_code=139
    )
    verdict = dataclasses.replace(report.verdict, missing=tuple(names), causes=dict.fromkeys(names, 7))
    # THEN the summary fits
    for reply in ("yes", "no", "inconclusive"):
        variant = dataclasses.replace(verdict, generation_hits_cvmfs=reply, answer=reply)
        assert_fits(
            text.render(
                dataclasses.replace(changed, verdict=variant, phases=(*report.phases, *phases), findings=findings)
            )
        )


COLD = analyse(cold_run().trace())


def test_the_answer_comes_first_with_its_time() -> None:
    lines = text.render(COLD).splitlines()

    assert lines[2] == "Does generation hit CVMFS?  YES: it waited 2.00 ms of its 158 ms for CVMFS"


def test_zeros_and_agreements_are_not_printed() -> None:
    summary = text.render(analyse(hot_run().trace()))

    assert not re.search(r"\b0 (s|reads|fetches|lost|B)\b|n/a|0 = 0|Unattributed|other", summary), summary


@pytest.mark.parametrize("name, builder, _", EXPECTED_TITLES)
def test_no_advice_is_cut(name: str, builder: Callable[[], Trace], _: str) -> None:
    # GIVEN a run with this finding as its only one
    report = analyse(builder())
    (finding,) = (finding for finding in report.findings if finding.id == name)
    only = dataclasses.replace(report, findings=(finding,))
    # THEN the summary has the advice in full
    summary = " ".join(text.render(only).split())
    assert finding.advice[1:] in summary or name == "cut_off"


@pytest.mark.parametrize("builder", [case[1] for case in EXPECTED_TITLES], ids=[case[0] for case in EXPECTED_TITLES])
def test_findings_are_sentences(builder: Callable[[], Trace]) -> None:
    for finding in analyse(builder()).findings:
        for sentence in (finding.title, finding.evidence):
            assert VERB.search(sentence), sentence
        assert finding.advice.split()[0].islower(), finding.advice


VERB = re.compile(
    r"\b(is|are|was|were|has|had|takes?|took|waits?|waited|ends?|fetched|failed|goes|went|used|lost|differ|disagree|comes|"
    r"changed|loaded|repeated|writes|keeps|opened|looking|cleaned|read|each|traced|counted|slept)\b"
)


def test_advice_is_ordered_by_faults_then_by_savings() -> None:
    findings = [
        Finding("a", "medium", "a is slow", "it is", "do a", 0.1),
        Finding("b", "low", "b is slow", "it is", "do b", None),
        Finding("c", "high", "c is slow", "it is", "do c", 2.0),
        Finding("d", "high", "d is wrong", "it is", "do d", None),
    ]

    summary = text.render(dataclasses.replace(COLD, findings=tuple(findings)))

    lines = [line.strip() for line in summary.splitlines() if re.match(r"  \d\. ", line)]
    assert lines == [
        "1. D is wrong: do d",
        "2. C is slow: do c (saves up to 2.00 s)",
        "3. A is slow: do a (saves up to 100 ms)",
    ]
    assert "What to do (1 more finding: -v)" in summary


def test_a_script_that_failed_is_reported_before_the_answer() -> None:
    assert (
        text.render(with_trace(COLD, exit_code=3)).splitlines()[0].startswith("phi3-qa.py ended with exit code 3 at ")
    )
    first = text.render(with_trace(COLD, exit_code=135, signal="SIGBUS")).splitlines()[0]
    assert first.startswith("phi3-qa.py was killed by SIGBUS at ")
    shell = text.render(with_trace(COLD, exit_code=135)).splitlines()[0]
    assert "exit code 135 (128 + SIGBUS)" in shell


def test_phases_that_do_not_fit_are_added_up() -> None:
    # GIVEN 30 phases of the script's own
    scene = cold_run()
    for number in range(30):
        scene.named(f"step {number}", 700_000 + 1000 * number, 700_000 + 1000 * number + 500)
    report = analyse(scene.trace())
    # THEN the summary has the load, the tokens, and the sum of what is not shown
    summary = text.render(report)
    assert_fits(summary)
    assert re.search(r"^load +400 ms", summary, re.MULTILINE)
    assert re.search(r"^decode ×3 ", summary, re.MULTILINE)
    assert re.search(r"^\d+ other phases ", summary, re.MULTILINE)


def test_the_command_that_shows_more_can_be_copied() -> None:
    for path in ("trace", "/tmp/" + "long/" * 40 + "x", "with 'blanks' in it"):
        summary = text.render(with_trace(COLD, path=path))
        command = summary[summary.index("More: ") + 6 :].replace("\\\n", "").partition("    (")[0]
        assert shlex.split(command) == ["cvtrace", "report", path, "--open"]


def test_a_run_without_privileges_says_what_is_known() -> None:
    summary = text.render(portable())

    assert "INCONCLUSIVE" in summary
    assert "counted 407 reads" in summary
    assert "n/a" not in summary


def test_wide_letters_take_two_cells() -> None:
    assert cell_len(fitted(WIDE, 20)) <= 20
    assert max(map(cell_len, wrapped(WIDE, 30))) <= 30
    assert len({cell_len(line) for line in columns([[WIDE[:4], "1"], ["ab", "10"]], 80)}) == 1


def test_no_line_ends_between_a_number_and_its_unit() -> None:
    for width in range(12, 40):
        assert not any(line.endswith(" 166") for line in wrapped("it waited so long, 166 ms of its 445 ms", width))
