"""Counts of a trace equal those of the origin, of the client and of the other probe, to the request and the byte."""

from __future__ import annotations

import pytest

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


def total(report: Report, field: str) -> int:
    return sum(int(getattr(phase, field)) for phase in report.phases)


def test_cold_run_equals_the_access_log_and_the_counters(bench) -> None:
    # GIVEN a cold client
    bench.cold()
    before = len(bench.log())

    # WHEN
    report = bench.run()

    # THEN every fetch of the log is in the trace, with its bytes
    entries = bench.log()[before:]
    assert entries
    assert sorted((f.url, f.bytes) for f in report.fetches) == sorted((e.path, e.body_bytes) for e in entries)
    assert total(report, "http_fetches") == len(entries)
    assert total(report, "http_bytes") == sum(e.body_bytes for e in entries)

    # AND the client counted the same reads, opens, fetches and bytes
    checks = {check.name: check for check in report.checks}
    assert set(checks) == {"fuse_reads", "http_fetches", "http_bytes", "opens"}
    assert all(check.agree for check in report.checks), report.checks
    assert report.cache_state == "cold"

    # AND generation is told to have hit CVMFS, because it did
    assert report.verdict.generation_hits_cvmfs == "yes"
    assert report.verdict.tokens == 16


def test_warm_run_reads_and_does_not_fetch(bench) -> None:
    bench.warm()
    before = len(bench.log())

    report = bench.run()

    assert len(bench.log()) == before
    assert report.fetches == ()
    assert total(report, "fuse_reads") > 0
    assert report.cache_state == "warm"
    assert all(check.agree for check in report.checks), report.checks
    assert all(phase.network_s == 0 for phase in report.phases)


def test_hot_run_is_a_proven_no(bench) -> None:
    # GIVEN all pages in memory; a machine may take single ones away by itself within seconds (DAMON does), hence the turns
    for _ in range(5):
        bench.hot()

        # WHEN
        report = bench.run()

        # THEN the verdict follows what happened, every time
        rows = [phase for phase in report.phases if phase.name in ("prefill", "decode", "between")]
        requests = sum(row.fuse_requests or 0 for row in rows)
        assert report.verdict.generation_hits_cvmfs == ("yes" if requests else "no"), report.verdict
        assert all(check.agree for check in report.checks), report.checks
        assert report.fetches == ()
        assert report.verdict.missing == ()
        if not total(report, "fuse_reads"):
            assert report.cache_state == "hot"
        if not requests:
            break

    # AND a run whose generation read nothing is a proven no
    assert report.verdict.generation_hits_cvmfs == "no"


def test_strace_and_ebpf_see_the_same(bench) -> None:
    # GIVEN one cold run that both watch: strace inside, eBPF around it (two runs would differ in their readahead)
    bench.cold()
    inner = bench.folder / "inner"

    # WHEN
    seen_by_ebpf = bench.run("ebpf", argv=bench.command("strace", inner))
    seen_by_strace = analyse(read_trace(inner))

    # THEN opens, reads, hits, misses and fetches are equal, phase by phase
    for name in ("load", "tokenizer", "prefill", "decode"):
        ebpf, strace = (next(p for p in r.phases if p.name == name) for r in (seen_by_ebpf, seen_by_strace))
        for field in ("fuse_reads", "fuse_read_bytes", "cache_misses", "cache_hits", "http_fetches", "http_bytes"):
            assert getattr(ebpf, field) == getattr(strace, field), (name, field)
    opens = [{f.path: f.opens for f in r.files} for r in (seen_by_ebpf, seen_by_strace)]
    assert opens[0] == opens[1]
    assert total(seen_by_strace, "fuse_reads") > 100
    assert sorted(f.url for f in seen_by_ebpf.fetches) == sorted(f.url for f in seen_by_strace.fetches) != []
