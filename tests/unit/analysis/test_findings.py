"""Each finding is reported where its evidence is in the trace, and not without it."""

import errno
from collections.abc import Callable

import pytest
from finding_scenes import (
    MB,
    backing_off,
    cleaning,
    client_ended,
    cold,
    cut,
    damaged,
    disagreeing,
    evicted,
    failed_over,
    failing,
    findings_by_id,
    from_server,
    importing,
    importing_with_calls_missed,
    imports_of,
    imports_with_calls_missed,
    many_files,
    observed,
    over_fetching,
    path_checking,
    quota,
    refused_open,
    reloaded_client,
    retried,
    run,
    run_well,
    sequential,
    silent_client,
    silent_server,
    slow,
    starved,
    stopped,
    streaming,
    thrashing,
    tokenizing,
    too_large,
    touched_here_and_there,
    unchunked,
    waiting,
    waiting_for_disk,
    with_reload,
    writing,
)
from runs import generation, hot_run
from scene import DAEMON, DOWNLOADER, MODEL, START, TARGET, US, WORKER, Scene

from cvtrace.analysis import analyse
from cvtrace.analysis.findings import RULES
from cvtrace.analysis.findings.scene import SEVERITIES
from cvtrace.analysis.report import text
from cvtrace.probes.events import Kind
from cvtrace.tracer.store import Trace

EXPECTED_TITLES: list[tuple[str, Callable[[], Trace], str]] = [
    (
        "quota_too_small",
        thrashing,
        "the client had to fetch 2 objects again (160 MB); the run used 160 MB; the cache may hold 105 MB",
    ),
    ("quota_too_small", too_large, "the client fetched nothing twice so far; the run used 160 MB"),
    ("streaming_cache", streaming, "2 reads each downloaded"),
    ("mapped_weights_evicted", evicted, "1.57 MB again in 12 reads"),
    ("cold_cache", cold, "for 1 fetch of 1.00 MB"),
    ("sequential_fetches", sequential, "100 %"),
    ("unchunked_file", unchunked, f"to open {MODEL}, the client fetched 30.0 MB"),
    ("over_fetch", over_fetching, "fetched 8.00 MB in 1 chunk, and the run read 131 kB of them (61.0 bytes"),
    ("catalogs_reloaded", with_reload, "loaded a new catalog 1 time; 1 request"),
    ("client_reloaded", reloaded_client, "at 300 µs, and its counters began anew; 1 request of the run"),
    ("server_errors", failing, "1 of 1 fetch failed (status 503 ×1)"),
    (
        "client_gone",
        client_ended,
        "(pid 200) of /cvmfs/repo.test.org had ended by 290 µs; 1 request of the run failed for it",
    ),
    ("client_stopped", stopped, "for 2.00 ms no thread of it ran"),
    (
        "client_silent",
        silent_client,
        "1 request on /cvmfs/repo.test.org had no answer, the oldest for 2.00 s",
    ),
    ("quota_too_small", cleaning, "the client cleaned up 1 time"),
    ("back_off", backing_off, "the run waited 200 µs of its 10.0 ms"),
    ("server_errors", silent_server, "1 of 2 fetches failed (no answer ×1)"),
    ("object_above_half_of_quota", lambda: quota(refused_open(), 200 << 20), "above half of its quota of 210 MB"),
    ("cache_not_written", lambda: cut(1), "gave up 1 fetch after "),
    (
        "server_errors",
        failed_over,
        "from 127.0.0.1:7999 to 127.0.0.1:8000 321 µs after the start, 121 µs after the first",
    ),
    ("server_errors", lambda: cut(15), "1 of 1 fetch failed (too slow ×1)"),
    ("server_errors", lambda: cut(17), "1 of 1 fetch failed (cut short ×1)"),
    ("proxy_missing", from_server, "3 fetches went straight to 141.142.143.144"),
    ("slow_first_byte", slow, "comes 30.0 ms after the request (median of 3 fetches)"),
    ("path_checks", path_checking, "150 path checks took"),
    ("imports_wait", lambda: imports_of(0.6), "imports waited 6.00 ms of 10.0 ms, with 2 opens; the packages with"),
    ("imports_wait", lambda: imports_of(0.6), "app 3.00 ms, heavy 3.00 ms"),
    ("read_amplification", lambda: touched_here_and_there(200, 32), "26.2 MB of"),
    (
        "read_amplification",
        lambda: touched_here_and_there(200, 32),
        "at least 819 kB were used (access is random)",
    ),
    ("small_files", lambda: many_files(200), "200 small files took 4.00 ms of 10.0 ms"),
    ("cpu_starved", starved, "2.00 ms of 10.0 ms"),
    ("other_io", waiting_for_disk, "most in load"),
    ("import_dominates", importing, "2.00 s of 3.00 s"),
    ("tokenizer_dominates", tokenizing, "2.00 s of 4.00 s"),
    ("telemetry", writing, "onnxruntime-genai.db"),
    ("counters_disagree", disagreeing, "fuse_reads: 0 traced, 3 counted"),
    ("events_lost", lambda: run().trace(lost={"ring": 12, "other": 0}), "lost 12 events (ring 12)"),
    ("cut_off", damaged, "the recorder was killed"),
]

SILENT: list[tuple[str, Callable[[], Trace]]] = [
    ("quota_too_small", lambda: quota(too_large(), 200 << 20)),
    ("mapped_weights_evicted", lambda: evicted(3)),
    ("sequential_fetches", cold),
    ("unchunked_file", lambda: unchunked(1 * MB)),
    ("catalogs_reloaded", lambda: run().manifest(400).trace()),
    ("server_errors", lambda: failing(200)),
    ("client_stopped", lambda: stopped(state=1)),
    ("client_silent", lambda: silent_client(sent=1_999_000)),
    ("client_gone", run_well),
    ("client_reloaded", run_well),
    ("counters_disagree", reloaded_client),
    ("counters_disagree", retried),
    ("server_errors", lambda: silent_server(again=False)),
    ("server_errors", lambda: cut(1)),
    ("cache_not_written", lambda: cut(17)),
    ("object_above_half_of_quota", lambda: refused_open(errno.EIO)),
    ("back_off", lambda: observed(run().add(Kind.BACKOFF, 400, 600, tid=DOWNLOADER).trace())),
    ("proxy_missing", lambda: from_server(0x7F000001)),
    ("proxy_missing", lambda: from_server(0x0A000001)),
    ("proxy_missing", lambda: from_server(proxied=True)),
    ("proxy_missing", lambda: from_server(fetches=2)),
    ("imports_wait", lambda: imports_of(0.05)),
    ("read_amplification", lambda: touched_here_and_there(20, 32)),
    ("read_amplification", lambda: touched_here_and_there(200, 16, begin_to_end=True)),
    ("small_files", lambda: many_files(90)),
    ("small_files", lambda: many_files(200, length=2)),
    ("small_files", lambda: many_files(200, imported=True)),
    ("slow_first_byte", lambda: slow(0.004)),
    ("path_checks", lambda: path_checking(40)),
    ("cpu_starved", lambda: run().preempted(1000, 1100).trace()),
    ("cpu_starved", lambda: run().preempted(1000, 3000, tid=TARGET + 1).trace()),
    ("import_dominates", lambda: importing(0.9)),
    ("import_dominates", importing_with_calls_missed),
    ("imports_wait", imports_with_calls_missed),
    ("telemetry", lambda: writing(flags=0)),
]


@pytest.mark.parametrize("name, builder, evidence", EXPECTED_TITLES)
def test_a_finding_is_reported_with_its_evidence(name: str, builder: Callable[[], Trace], evidence: str) -> None:
    finding = findings_by_id(builder()).get(name)
    assert finding is not None
    assert evidence in finding.evidence
    assert finding.severity in SEVERITIES
    assert finding.title
    assert finding.advice


@pytest.mark.parametrize("name, builder", SILENT)
def test_a_finding_is_not_reported_without_its_evidence(name: str, builder: Callable[[], Trace]) -> None:
    assert name not in findings_by_id(builder())


def test_every_rule_is_tested() -> None:
    assert {name for name, _, _ in EXPECTED_TITLES} == {rule.__name__ for rule in RULES}  # type: ignore[attr-defined]


@pytest.mark.parametrize("builder", [hot_run, generation, run])
def test_a_healthy_run_has_no_findings(builder: Callable[[], Scene]) -> None:
    assert findings_by_id(builder().trace()) == {}


def test_without_observed_requests_there_are_no_findings_on_requests() -> None:
    scene = Scene(end=900_000)
    scene.call("OgaCreateModel", 100_000, 400_000)
    assert findings_by_id(scene.trace(probe="portable", mounts=[])) == {}


def test_the_severest_findings_come_first_and_three_are_in_the_summary() -> None:
    # GIVEN a run that is cold, starved, and recorded with losses
    scene = run()
    waiting(scene, 300, 1, last=2000)
    path = "/home/user/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db"
    scene.add(Kind.SYS_OPEN, 200, 210, tid=TARGET, ret=7, a=-100, b=2, text=path).preempted(3000, 5000)
    report = analyse(scene.trace(lost={"ring": 3}))
    # WHEN
    severities = [finding.severity for finding in report.findings]
    summary = " ".join(text.render(report, verbose=True).split())
    # THEN
    assert [finding.id for finding in report.findings] == [
        "events_lost",
        "cold_cache",
        "cpu_starved",
        "over_fetch",
        "telemetry",
    ]
    assert severities == sorted(severities, key=SEVERITIES.index)
    titles = [finding.title[0].upper() + finding.title[1:] for finding in report.findings]
    assert [f"→ {title}: " in summary for title in titles] == [True, True, True, False, False]
    assert "2 more findings" in summary


def test_the_daemons_own_threads_do_not_starve_the_run() -> None:
    scene = run()
    scene.add(Kind.OFFCPU, 1000, 4000, tid=WORKER, tgid=DAEMON, a=START + 1000 * US)
    assert "cpu_starved" not in findings_by_id(scene.trace())


@pytest.mark.parametrize("calls", [True, False], ids=["GenAI", "no library"])
def test_the_thread_setting_of_onnxruntime_is_advised_only_if_it_was_called(calls: bool) -> None:
    scene = run() if calls else Scene(end=10_000).preempted(9_000, 9_100)
    finding = findings_by_id(scene.preempted(1000, 3000).trace())["cpu_starved"]
    assert ("intra_op_num_threads" in finding.advice) == calls


def test_the_saving_of_another_cpu_is_at_most_the_time_waited_for_one() -> None:
    # GIVEN a thread that has no CPU from 2 ms on, and a target whose life ends at 3 ms, before the thread gets one
    scene = Scene(end=10_000).add(Kind.PROC_EXEC, 0, tid=TARGET, text="/usr/bin/sha256sum")
    scene.preempted(2000, 9000).add(Kind.PROC_EXIT, 3000, tid=TARGET)
    report = analyse(scene.trace())

    # THEN no more is promised than the class has
    waited = sum(row.classes["compute.wait"] for row in report.phases)
    (finding,) = (finding for finding in report.findings if finding.id == "cpu_starved")
    assert waited == pytest.approx(0.001)
    assert finding.saves_s == pytest.approx(waited)


def test_the_server_that_was_left_is_to_be_repaired_not_one_more_to_be_configured() -> None:
    assert findings_by_id(failed_over())["server_errors"].advice.startswith(
        "repair 127.0.0.1:7999, or take it out of CVMFS_SERVER_URL"
    )
    assert "configure more than one" in findings_by_id(failing())["server_errors"].advice
