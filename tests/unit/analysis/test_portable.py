"""Without privileges no request is seen: the client's counts stand for themselves, and nothing is called 0 or compute."""

import json
from pathlib import Path

from click.testing import CliRunner
from portable_scene import GREW, meta, portable, scene
from runs import stored
from scene import TARGET

from cvtrace.analysis import analyse
from cvtrace.analysis.checks.expectations import check, parse
from cvtrace.analysis.report import json as json_report
from cvtrace.analysis.report import text
from cvtrace.cli import main
from cvtrace.probes.events import Kind


def test_the_clients_counts_are_reported_and_nothing_is_compared() -> None:
    report = portable()

    summary = text.render(report, verbose=True)

    assert (
        "3 tokens. Over the whole run cvmfs2 counted 407 reads, 5 opens, 16 downloads,\n  95.5 MB for all processes."
        in summary
    )
    assert "≠" not in summary
    assert "Agreement" not in summary
    assert "differ" not in summary
    assert {check.name: (check.traced, check.client, check.agree) for check in report.checks} == {
        "fuse_reads": (None, 407, None),
        "opens": (None, 5, None),
        "http_fetches": (None, 16, None),
        "http_bytes": (None, 95_505_093, None),
    }


def test_the_verdict_is_inconclusive_and_says_what_would_prove_it() -> None:
    verdict = portable().verdict

    assert verdict.generation_hits_cvmfs == "inconclusive"
    assert len(verdict.missing) == 1
    assert "`cvtrace run` as root" in verdict.missing[0]
    assert verdict.proof == ()
    assert (verdict.fuse_reads, verdict.http_fetches, verdict.blocked_s) == (None, None, None)


def test_what_was_not_observed_is_null_and_not_zero() -> None:
    document = json.loads(json_report.render(portable()))

    load = next(row for row in document["phases"] if row["name"] == "load")
    counts = ("fuse_requests", "fuse_reads", "fuse_read_bytes", "cache_hits", "http_fetches", "faults", "network_bytes")
    assert {name: load[name] for name in counts} == dict.fromkeys(counts)
    assert load["compute_s"] == 0
    assert load["unattributed_s"] == load["wall_s"] > 0
    assert document["tokens"][0]["fuse_reads"] is None
    assert document["cache_state"] is None


def test_the_table_shows_unobserved_values_as_unknown() -> None:
    row = next(line for line in text.render(portable(), verbose=True).splitlines() if line.startswith("load"))
    assert row.split() == ["load", "300", "µs", *["n/a"] * 7]


def test_a_client_with_unchanged_counters_was_not_used() -> None:
    before = dict.fromkeys(GREW, 7)

    report = portable(counters_before=before, counters_after=before)

    assert not report.trace.mounts[0].used
    assert report.checks == ()


def test_unreadable_counters_are_neither_use_nor_check() -> None:
    report = portable(counters_before={}, counters_after={}, error="the talk socket is not readable")

    assert report.checks == ()
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    assert text.render(report, verbose=True)


def test_expectations_of_what_was_not_observed_fail_and_say_so(tmp_path: Path) -> None:
    report = portable()
    for expression in (
        "decode.fuse_reads == 0",
        "verdict.fuse_reads == 0",
        "total.http_bytes < 1",
        "cache_state == cold",
    ):
        assert not check(report, [parse(expression)])[0].met
    assert check(report, [parse("agreement == unknown")])[0].met

    played = scene()
    played.meta = meta()
    result = CliRunner().invoke(main, ["check", str(stored(tmp_path, played)), "decode.fuse_reads == 0"])

    assert result.exit_code == 1
    assert result.output == "failed: decode.fuse_reads == 0  (decode.fuse_reads was not observed)\n"


def test_strace_sees_requests_but_no_pages() -> None:
    played = scene().add(Kind.PROC_EXEC, 0, tid=TARGET)

    load = analyse(played.trace(probe="strace")).phases[1]

    assert (load.fuse_reads, load.faults, load.page_cache_bytes) == (0, None, None)
