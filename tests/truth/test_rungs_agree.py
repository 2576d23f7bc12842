"""The same run under each rung: where two of them can see, they see the same."""

from __future__ import annotations

import pytest

from cvtrace.analysis.contract.report_schema import Report

pytestmark = pytest.mark.root

RUNGS = ("ebpf", "strace", "portable")
PHASES = ("load", "tokenizer", "prefill", "decode")


def column(report: Report, field: str) -> dict[str, object]:
    return {row.name: getattr(row, field) for row in report.phases if row.name in PHASES}


def checked(report: Report) -> dict[str, tuple[int | None, int]]:
    return {check.name: (check.traced, check.client) for check in report.checks}


def table(reports: dict[str, Report]) -> str:
    """Return what each saw, as docs/probes.md has it."""
    lines = [f"{'':24}" + "".join(f"{rung:>14}" for rung in reports)]
    for field in ("count", "http_fetches", "http_bytes", "fuse_reads", "fuse_read_bytes", "cache_misses", "faults"):
        for phase in PHASES:
            values = [column(report, field).get(phase) for report in reports.values()]
            text = "".join(f"{'n/a' if value is None else format(value, ','):>14}" for value in values)
            lines.append(f"{f'{phase} {field}':24}{text}")
    lines.append(
        f"{'verdict':24}" + "".join(f"{report.verdict.generation_hits_cvmfs:>14}" for report in reports.values())
    )
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cold(bench) -> dict[str, Report]:
    reports = {}
    for rung in RUNGS:
        bench.cold()
        reports[rung] = bench.run(rung)
    print("\n" + table(reports))
    return reports


def test_calls_and_tokens_are_the_same(cold):
    for rung in RUNGS[1:]:
        assert column(cold[rung], "count") == column(cold["ebpf"], "count")
    assert {report.verdict.tokens for report in cold.values()} == {16}


def test_fetches_of_each_phase_are_the_same(cold):
    for rung in RUNGS[1:]:
        assert column(cold[rung], "http_fetches") == column(cold["ebpf"], "http_fetches"), table(cold)
        assert column(cold[rung], "http_bytes") == column(cold["ebpf"], "http_bytes"), table(cold)


def test_reads_are_those_the_client_counted_in_the_same_run(cold):
    # GIVEN runs that differ in how far the kernel reads ahead THEN each agrees with the client's count of its own run
    for rung in ("ebpf", "strace"):
        traced, client = checked(cold[rung])["fuse_reads"]
        assert traced == client
    phases = sum(row.fuse_reads or 0 for row in cold["portable"].phases)
    assert phases == checked(cold["portable"])["fuse_reads"][1]


def test_the_answer_is_the_same(cold):
    assert {report.verdict.generation_hits_cvmfs for report in cold.values()} == {"yes"}
    assert {report.verdict.http_fetches for report in cold.values()} == {cold["ebpf"].verdict.http_fetches}


def test_a_hot_run_is_no_with_ebpf_and_with_the_talk_socket(bench):
    # GIVEN everything in the page cache, unless the machine needs the memory or somebody drops it
    for rung, proven in (("ebpf", "no"), ("strace", "inconclusive"), ("portable", "no")):
        bench.hot()
        answer = bench.run(rung).verdict
        # THEN the rungs that can prove it say no where nothing was read, and strace lacks the faults
        assert answer.generation_hits_cvmfs == ("yes" if answer.fuse_reads else proven), (rung, answer)
