"""Folded stacks, speedscope and OpenMetrics, each read by a reader that is not ours, as far as there is one."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hostile import hostile_run
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from runs import cold_run, hot_run, large_run
from scene import MODEL

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report import folded, openmetrics, speedscope
from cvtrace.analysis.report.names import UNSEEN
from cvtrace.analysis.storage.stacks import CHOICES, stacks
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.tracer.store import Trace

SCHEMA = Path(__file__).resolve().parents[2] / "data" / "speedscope" / "file-format-schema.json"
TRACES = {
    "cold": cold_run().trace(),
    "hot": hot_run().trace(),
    "large": large_run().trace(),
    "hostile": hostile_run().trace(),
    "big": big_trace(500, tokens=5),
    "strace": cold_run().trace(probe="strace"),
}
every_trace = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)


def lines_of(trace: Trace, choice: str) -> dict[tuple[str, ...], int]:
    """Read folded stacks as flamegraph.pl does: frames up to the last blank, the count behind it."""
    weights: dict[tuple[str, ...], int] = {}
    for line in folded.render(stacks(full_analysis(trace)[0]), choice).splitlines():
        match = re.fullmatch(r"(.*) (\d+)", line)
        assert match, line
        frames = tuple(match[1].split(";"))
        assert frames not in weights
        weights[frames] = int(match[2])
    return weights


def opened(trace: Trace, choice: str = "both") -> dict[str, Any]:
    """Read speedscope's JSON and hold it against the schema that its authors publish."""
    content = json.loads(speedscope.render(stacks(full_analysis(trace)[0]), choice, "a run", "0.1.0"))
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    document: dict[str, Any] = content
    return document


def families(trace: Trace) -> dict[str, Any]:
    return {
        family.name: family
        for family in text_string_to_metric_families(openmetrics.render(full_analysis(trace)[2]))  # type: ignore[no-untyped-call]
    }


@every_trace
def test_folded_stacks_add_up_to_the_phases(trace: Trace) -> None:
    report = full_analysis(trace)[2]

    assert sum(lines_of(trace, "both").values()) == round(sum(row.wall_s for row in report.phases) * 1e9)


@every_trace
def test_on_cpu_and_waiting_stacks_add_up_to_all_stacks(trace: Trace) -> None:
    on_cpu, waiting = lines_of(trace, "on-cpu"), lines_of(trace, "waiting")

    assert not on_cpu.keys() & waiting.keys()
    assert {**on_cpu, **waiting} == lines_of(trace, "both")
    assert {frames[-1] for frames in on_cpu} <= {"compute.cpu", "unattributed"}


def test_a_stack_consists_of_phase_thread_file_and_class() -> None:
    assert lines_of(TRACES["cold"], "waiting")["load", "thread 100", MODEL, "network.transfer"] == 80_000_000


def test_a_semicolon_in_a_name_does_not_split_its_frame() -> None:
    lines = lines_of(TRACES["hostile"], "both")

    assert any("semi\\x3bcolon" in frame for frames in lines for frame in frames)
    assert {len(frames) for frames in lines} == {3, 4}
    assert not any(UNSEEN.search(frame) for frames in lines for frame in frames)


@every_trace
@pytest.mark.parametrize("choice", CHOICES)
def test_speedscope_is_valid_and_holds_the_same_time(trace: Trace, choice: str) -> None:
    content = opened(trace, choice)

    total = sum(lines_of(trace, choice).values())
    frames = len(content["shared"]["frames"])
    for profile in content["profiles"][:2]:
        assert sum(profile["weights"]) == profile["endValue"] == total
        assert len(profile["weights"]) == len(profile["samples"])
        assert all(0 <= frame < frames for sample in profile["samples"] for frame in sample)


def test_speedscope_events_are_in_the_order_of_time() -> None:
    content = opened(TRACES["cold"])

    first = content["profiles"][0]
    names = [[content["shared"]["frames"][frame]["name"] for frame in sample] for sample in first["samples"]]
    phases = [name[0] for name in names]
    assert first["name"] == "all of the time, in its order"
    assert phases.index("import") < phases.index("load") < phases.index("prefill") < phases.index("decode")
    assert all(first != second for first, second in itertools.pairwise(names))


def test_a_long_run_is_exported_to_speedscope_as_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedscope, "MOST", 10)

    assert [profile["name"] for profile in opened(TRACES["big"])["profiles"]] == [
        "all of the time, summed up",
        "on a CPU, summed up",
        "waiting, summed up",
    ]


def test_hostile_names_are_text_in_speedscope() -> None:
    names = [frame["name"] for frame in opened(TRACES["hostile"])["shared"]["frames"]]

    assert any('semi;colon "quoted" \\ back' in name for name in names)
    assert not any(UNSEEN.search(name) for name in names)


@every_trace
def test_openmetrics_is_read_by_prometheus_and_says_what_the_report_says(trace: Trace) -> None:
    report = full_analysis(trace)[2]

    metrics = families(trace)

    times: dict[str, float] = {}
    for sample in metrics["cvtrace_phase_class_seconds"].samples:
        times[sample.labels["phase"]] = times.get(sample.labels["phase"], 0.0) + sample.value
    walls = {sample.labels["phase"]: sample.value for sample in metrics["cvtrace_phase_wall_seconds"].samples}
    assert times == pytest.approx(walls)
    assert list(walls.values()) == [row.wall_s for row in report.phases]
    (hits,) = (sample for sample in metrics["cvtrace_generation_hits_cvmfs"].samples if sample.value)
    assert hits.labels["cvtrace_generation_hits_cvmfs"] == report.verdict.generation_hits_cvmfs
    assert all(family.documentation for family in metrics.values())


def test_openmetrics_has_tokens_and_counts_with_their_units() -> None:
    metrics = families(TRACES["cold"])

    samples = {
        (sample.name, *sample.labels.values()): sample.value for sample in metrics["cvtrace_token_seconds"].samples
    }
    assert samples["cvtrace_token_seconds_count",] == 3
    assert samples["cvtrace_token_seconds", "0.5"] == pytest.approx(0.018)
    assert metrics["cvtrace_phase_http_bytes"].unit == "bytes"
    fetched = {sample.labels["phase"]: sample.value for sample in metrics["cvtrace_phase_http_bytes"].samples}
    assert fetched["load"] == 1_000_000


def test_what_was_not_observed_has_no_sample() -> None:
    assert "cvtrace_phase_faults" not in families(TRACES["strace"])
    assert "cvtrace_phase_faults" in families(TRACES["cold"])


def test_hostile_names_are_labels_in_openmetrics() -> None:
    metrics = families(TRACES["hostile"])

    labels = {sample.labels["phase"] for sample in metrics["cvtrace_phase_wall_seconds"].samples}
    assert '# EOF\\n# TYPE x gauge {a="b"} 1' in labels
    assert 'semi;colon "quoted" \\ back, comma | bar' in labels
    assert "\\udcff" in metrics["cvtrace_run"].samples[0].labels["target"]
