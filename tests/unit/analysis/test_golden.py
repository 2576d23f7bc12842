"""Logs of real clients, from the parser through the joins: what comes out is what server and client counted."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvtrace.analysis import analyse
from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.contract.report_schema import Report
from cvtrace.probes.strace import parse_daemon, parse_target
from cvtrace.tracer.store import Trace

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
TRUTH: dict[str, Any] = json.loads((GOLDEN / "ground_truth.json").read_text())
COLD = ("t100-hex.cold", "tiny1-hex.cold", "tiny1.cold")
CUT_HEADS = ("t100-hex.cold", "tiny1-hex.cold")
"""Logs whose strings are too short to show Content-Length: bodies can then only be told to within a head."""
HEAD_BYTES = 400


def lines(run: str, role: str) -> list[bytes]:
    return gzip.decompress((GOLDEN / f"{run}.{role}.strace.gz").read_bytes()).splitlines(keepends=True)


def trace(run: str) -> Trace:
    """Return daemon and application of a run as one trace."""
    offset_ns = round(float(TRUTH[run].get("mono_to_real_offset_s", 0)) * 1e9)
    logged = lines(run, "daemon")
    pid = int(TRUTH[run]["daemon_pids"][0])
    threads = {int(line.split()[0]): pid for line in logged if line[:1].isdigit()}
    daemon = parse_daemon(logged, realtime_offset_ns=offset_ns, tgids=threads)
    target = parse_target(lines(run, "app"), realtime_offset_ns=offset_ns)
    events = np.concatenate([daemon.events, target.events])
    texts = np.concatenate([daemon.texts, target.texts])
    counters = TRUTH[run]["counters"]
    mount = {
        "path": "/cvmfs/repo.test.org",
        "fqrn": "repo.test.org",
        "connection": 39,
        "daemon_pid": pid,
        "counters_before": dict.fromkeys(counters, 0),
        "counters_after": counters,
    }
    meta = {
        "target": {"argv": ["qa.py"], "pid": int(target.events["tgid"][0]), "cwd": "/tmp"},
        "clock": {},
        "probe": "strace",
        "mounts": [mount],
    }
    return Trace(Path(run), meta, events[np.argsort(events["ts"], kind="stable")], texts, None)


@pytest.fixture(scope="module", params=COLD)
def run(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Report]:
    return TRUTH[request.param], analyse(trace(request.param))


def total(report: Report, name: str) -> int:
    return sum(int(getattr(row, name)) for row in report.phases)


def test_counts_are_those_of_the_client(run: tuple[dict[str, Any], Report]) -> None:
    truth, report = run
    counters = truth["counters"]
    assert {check.name for check in report.checks} == {"fuse_reads", "opens", "http_fetches", "http_bytes"}
    exact = [check for check in report.checks if check.name != "http_bytes" or report.trace.path not in CUT_HEADS]
    assert all(check.agree for check in exact), report.checks
    assert total(report, "fuse_reads") == counters["cvmfs.n_fs_read"]
    assert total(report, "cache_misses") == counters["fetch.n_downloads"]
    assert total(report, "cache_hits") == counters["fetch.n_invocations"] - counters["fetch.n_downloads"]
    assert report.cache_state == "cold"


def test_every_get_is_one_of_the_access_log(run: tuple[dict[str, Any], Report]) -> None:
    truth, report = run
    logged = sorted((get["url"], get["bytes"]) for get in truth["http"])
    fetches = sorted((fetch.url, fetch.bytes) for fetch in report.fetches)
    assert [url for url, _ in fetches] == [url for url, _ in logged]
    slack = HEAD_BYTES if report.trace.path in CUT_HEADS else 0
    assert all(0 <= traced[1] - served[1] <= slack for traced, served in zip(fetches, logged, strict=True))
    assert all(fetch.status == 200 and fetch.path.startswith("/cvmfs/repo.test.org/") for fetch in report.fetches)
    assert all(fetch.by_target for fetch in report.fetches)


def test_every_job_has_its_get_and_its_request(run: tuple[dict[str, Any], Report]) -> None:
    _, report = run
    result = study_of(trace(report.trace.path))
    assert (result.jobs.request >= 0).all()
    assert (result.gets.job == np.arange(len(result.jobs))).all()
    assert (result.jobs.object == result.gets.object).all()
    assert {row.path.rpartition("/")[2] for row in report.files} >= {"model.onnx", "model.onnx.data", "tokenizer.json"}


def test_the_time_of_the_target_is_explained(run: tuple[dict[str, Any], Report]) -> None:
    _, report = run
    row = report.phases[0]
    assert sum(round(spent * 1e9) for spent in row.classes.values()) == round(row.wall_s * 1e9)
    assert row.network_s > 0
    assert row.cache_s > 0
    assert row.unattributed_s == 0
