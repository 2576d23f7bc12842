"""The portable probe as an unprivileged user on a lab mount: what the counters show, and what reading them costs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, example
from unprivileged import cannot, run_as_nobody

from cvtrace.analysis import analyse
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.lab.stack import Options, Stack, temporary, warm, wipe_client_cache
from cvtrace.probes.events import Kind
from cvtrace.probes.portable.counts import INDEX
from cvtrace.tracer.store import Trace, read_trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(cannot() is not None, reason=str(cannot()))]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary(Options(size_bytes=40_000_000, client="lab", chunk_bytes=2 << 20)) as stack:
        yield stack


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest closes its own folder to others whenever a session of it begins
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def record(stack: Stack, folder: Path, *more: str) -> tuple[Trace, Report, subprocess.CompletedProcess[str]]:
    command = [*CVTRACE, "run", "-o", folder / "trace", "--mount", stack.mountpoint, *more, "--"]
    result = run_as_nobody([*command, *example(stack.model, 16)], folder, cwd=folder)
    assert result.returncode == 0, result.stderr
    trace = read_trace(folder / "trace")
    return trace, analyse(trace), result


def test_the_unprivileged_user_has_no_rights_over_root(folder):
    # GIVEN how these tests drop privileges THEN nothing is left of them
    result = run_as_nobody(["sh", "-c", "id -u; grep CapEff /proc/self/status; cat /proc/1/environ"], cwd=folder)
    assert result.stdout.split() == ["65534", "CapEff:", "0000000000000000"]
    assert result.returncode != 0


def test_fetches_during_generation_are_seen_by_difference(stack, folder):
    # GIVEN a cold client
    wipe_client_cache(stack)
    # WHEN a user without privileges records a run
    trace, report, _ = record(stack, folder)
    # THEN the client's counters were read around every phase, and the phases' fetches add up to what the client counted
    assert trace.meta["probe"] == "portable"
    phases = {row.name: row for row in report.phases}
    (mount,) = trace.meta["mounts"]
    grown = mount["counters_after"]["ndownload"] - mount["counters_before"]["ndownload"]
    assert sum(row.http_fetches or 0 for row in report.phases) == grown > 10
    assert (phases["load"].http_fetches or 0) > (phases["decode"].http_fetches or 0)
    assert phases["load"].hits_cvmfs == "yes"
    # AND generation is said to use CVMFS if it fetched
    assert report.verdict.generation_hits_cvmfs == "yes" or not phases["decode"].http_fetches
    assert report.verdict.generation_hits_cvmfs != "no"
    generation = [phases[name] for name in ("prefill", "decode", "between") if name in phases]
    assert report.verdict.http_fetches == sum(row.http_fetches or 0 for row in generation)
    received = any("MB received" in sentence for sentence in report.verdict.proof)
    assert received or not phases["decode"].http_fetches


def test_without_a_fetch_the_answer_is_inconclusive_and_never_no(stack, folder):
    # GIVEN a client that has everything in its cache
    warm(stack)
    # WHEN a user without privileges records a run
    _, report, result = record(stack, folder)
    # THEN opens and fetches are known to be none, reads are not known, and the answer says so
    # (the kernel may have dropped pages: then objects were looked up in the client's cache, and the answer is yes)
    looked_up = any("hit rate" in sentence for sentence in report.verdict.proof)
    assert report.verdict.generation_hits_cvmfs == ("yes" if looked_up else "inconclusive")
    assert (report.verdict.http_fetches, report.verdict.http_bytes, report.verdict.fuse_reads) == (0, 0, None)
    assert "Does generation hit CVMFS?" in result.stderr
    assert any("not reads" in reason for reason in report.verdict.missing)


def test_with_the_talk_socket_reads_are_counted_and_no_is_proven(stack, folder):
    # GIVEN a hot client, and a user who may use its talk socket (as with a mount of one's own)
    warm(stack)
    command = [*CVTRACE, "run", "--probes", "portable", "--no-summary", "-o", folder / "trace"]
    subprocess.run(
        [*command, "--mount", stack.mountpoint, "--", *example(stack.model, 16)],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    # WHEN the run is analysed
    report = analyse(read_trace(folder / "trace"))
    # THEN what the phases read adds up to what the client counted
    checks = {check.name: check.client for check in report.checks}
    assert sum(row.fuse_reads or 0 for row in report.phases) == checks["fuse_reads"]
    # AND the answer is complete: no if no request was counted between the tokens, else yes
    reads = report.verdict.fuse_reads
    assert report.verdict.generation_hits_cvmfs == ("yes" if reads else "no"), report.verdict
    assert reads is not None


def test_counters_are_read_rarely_between_tokens_and_their_cost_is_in_the_trace(stack, folder):
    warm(stack)
    trace, report, _ = record(stack, folder)
    # GIVEN the readings of the mount
    readings = trace.events[(trace.events["kind"] == Kind.COUNTER) & (trace.events["ret"] == 0)]
    of_counter = readings[readings["b"] == INDEX["nopen"]]
    # THEN there is one around each call but a token's, and of those between tokens one in a tenth of a second
    decode = next(row for row in report.phases if row.name == "decode")
    tokens = decode.count
    calls = int((trace.events["kind"] == Kind.PHASE).sum()) - tokens
    span_s = report.tokens[-1].start_s + report.tokens[-1].wall_s - report.tokens[0].start_s
    assert calls <= len(of_counter) <= 2 * calls + 3 + span_s / 0.1
    # AND each says how long it took
    assert (of_counter["dur"] > 0).all()
    # AND the recorder sampled the target
    assert len(trace.events[(trace.events["kind"] == Kind.COUNTER) & (trace.events["ret"] == 1)])
