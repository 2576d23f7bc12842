"""A repository over HTTPS: fetches and their times are recorded; URLs and statuses are not, and the report says so."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from lab_mount import FQRN, lab
from tls_front import tls_front

from cvtrace.analysis import analyse
from cvtrace.analysis.report.text import summary
from cvtrace.lab.origin import Injection
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root

FILES = {f"models/weights.{number}": random.Random(number).randbytes(3_000_000) for number in range(3)}
DELAY_S = 0.1
READ = "import sys\nfor path in sys.argv[1:]: open(path, 'rb').read()\n"


@pytest.mark.parametrize("probes", ["ebpf", "strace"])
def test_fetches_over_https_are_counted_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probes: str) -> None:
    # GIVEN a cold client whose origin speaks TLS, and waits before each answer
    with lab(tmp_path, FILES) as served, tls_front(tmp_path, served.origin.port) as front:
        monkeypatch.setenv("X509_CERT_BUNDLE", str(front.certificate))
        with served.mount(url=f"https://127.0.0.1:{front.port}/cvmfs/{FQRN}") as mounted:
            served.origin.injections = [Injection(first_byte_delay_s=DELAY_S)]
            os.stat(mounted.root / "models")  # noqa: PTH116 - the catalog is there now
            before = len(mounted.gets())
            mounted.drop_caches()

            # WHEN files are read under observation
            trace = tmp_path / "trace"
            command = [*CVTRACE, "run", "--no-summary", "--probes", probes, "-o", str(trace)]
            paths = [str(mounted.root / name) for name in FILES]
            command += ["--mount", str(mounted.root), "--", sys.executable, "-c", READ, *paths]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
            entries = mounted.gets()[before:]

    # THEN every fetch is there, with its object's file, and its bytes as on the wire
    report = analyse(read_trace(trace))
    assert len(report.fetches) == len(entries) >= 9
    assert all(fetch.encrypted and fetch.url == "" and fetch.status == 0 for fetch in report.fetches)
    assert {fetch.path.rpartition("/")[2] for fetch in report.fetches} == {name.rpartition("/")[2] for name in FILES}
    bodies = sum(entry.body_bytes for entry in entries)
    assert bodies < sum(fetch.bytes for fetch in report.fetches) < 1.02 * bodies + 1000 * len(entries)

    # AND the time that the origin waited is the network's
    waited_s = sum(entry.delay_ns for entry in entries) / 1e9
    network_s = sum(phase.network_s for phase in report.phases)
    assert waited_s <= network_s < waited_s + 1.0
    request_s = sum(phase.classes["network.request"] for phase in report.phases)
    assert request_s > 0.8 * waited_s  # the first of each connection may be ended by a session ticket

    # AND counts agree with the client's, while bytes are not compared, and that is said
    checks = {check.name: check.agree for check in report.checks}
    assert checks.get("http_fetches") is True
    assert "http_bytes" not in checks
    assert any("over HTTPS" in reason for reason in report.trace.missing)
    assert "over HTTPS" in summary(read_trace(trace), verbose=True)
