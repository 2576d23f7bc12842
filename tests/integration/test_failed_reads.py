"""Reads of the target that fail, on a mount whose origin fails in different ways.

What is right is said by the origin's log (status and number of requests), by the program (which errno or signal, at which offset), and by
what was done to the client.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import options, start
from lab_mount import FQRN, Lab, LabMount, lab

from cvtrace.analysis import Report, analyse
from cvtrace.analysis.report import text
from cvtrace.analysis.report.failed import sentences
from cvtrace.lab.origin import Injection, Origin
from cvtrace.tracer.store import read_trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse"),
]
CHUNK = 1 << 20
CHUNKS = 6
AT = 2 * CHUNK + 5 * 4096 + 100
"""Where the programs want something that they do not get."""
READS = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nos.pread(fd, 100, 0)\nprint('ready', flush=True); input()\n"
GETS_EIO = READS + f"os.pread(fd, 100, {AT})\n"
TOUCHES = READS + f"import mmap\nmapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)\nmapped[{AT}]\n"
LETS_ANOTHER = TOUCHES.replace("mapped[", "pid = os.fork()\nif pid == 0: mapped[") + "os.waitpid(pid, 0)\n"
GOES_ON = READS + f"try: os.pread(fd, 100, {AT})\nexcept OSError: pass\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(
        tmp_path_factory.mktemp("failed"), {"models/data": os.urandom(CHUNK * CHUNKS)}, chunk_size=CHUNK
    ) as served:
        yield served


@pytest.fixture
def mounted(served: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabMount]:
    monkeypatch.chdir(tmp_path)
    with served.mount(cache=tmp_path / "cache", retries=2) as mounted:
        yield mounted
    served.origin.injections = ()


def fail(mounted: LabMount, program: str, *injections: Injection, expected: int) -> tuple[Report, int, list[int]]:
    """Record a program that has what it needs until the origin fails; return report, its pid, and the statuses the origin sent since."""
    Path("script.py").write_text(program)
    mounted.drop_caches()
    data = str(mounted.root / "models" / "data")
    process = start(*options(mounted.root, "ebpf"), "script.py", data, stdin=-1)
    before = len(mounted.gets())
    mounted.origin.injections = injections
    _, errors = process.communicate("\n", timeout=120)
    assert process.returncode == expected, errors
    trace = read_trace("trace")
    assert trace.damage is None
    entries = mounted.gets()[before:]
    report = analyse(trace)
    assert [check.name for check in report.checks if not check.agree] == []  # failures and retries are no disagreement
    return report, int(trace.meta["target"]["pid"]), [entry.status for entry in entries]


def test_a_program_that_dies_of_sigbus_is_reported_first_with_what_it_touched(mounted: LabMount) -> None:
    # GIVEN an origin that answers 503 WHEN a program touches a mapped page
    report, pid, statuses = fail(mounted, TOUCHES, Injection(match="*P", status=503), expected=128 + signal.SIGBUS)

    # THEN the signal is there, with file, offset, status, tries (those of the log) and server
    assert report.trace.signal == "SIGBUS"
    first = report.failures[0]
    assert (first.what, first.path, first.signal, first.pid) == (
        "read",
        str(mounted.root / "models/data"),
        "SIGBUS",
        pid,
    )
    assert first.offset_bytes == AT // 4096 * 4096
    assert first.error == "EIO"
    assert set(first.statuses) == {503} == set(statuses)
    assert first.tries == 3
    port = mounted.origin.url.rpartition(":")[2]
    assert first.server == f"127.0.0.1:{port}"
    assert first.client_said == "the server answered with an error"
    line = text.render(report).replace("\n", " ")
    assert line.startswith("script.py was killed by SIGBUS at ")
    assert "reading data at 2.12 MB failed" in " ".join(sentences(report)), sentences(report)
    assert f"503 from 127.0.0.1:{port}, 3 tries" in " ".join(sentences(report))
    # AND a failed read is no read
    rows = {row.path: row for row in report.files}
    assert rows[first.path].read_bytes == sum(phase.fuse_read_bytes or 0 for phase in report.phases)
    assert "evicted_page" not in report.verdict.causes
    assert "server_errors" in [finding.id for finding in report.findings]


@pytest.mark.parametrize(
    ("injection", "outcome", "reason"),
    [
        (Injection(match="*P", status=404), "404", "the server answered with an error"),
        (Injection(match="*P", drop=True), "no answer", "no connection to the server"),
        (Injection(match="*P", truncate_after_bytes=100_000), "cut after", "the server cut the data short"),
    ],
    ids=["404", "drop", "cut"],
)
def test_a_read_that_fails_is_reported_first(
    mounted: LabMount, injection: Injection, outcome: str, reason: str
) -> None:
    # GIVEN an origin that fails WHEN a program reads and gets EIO
    report, _, statuses = fail(mounted, GETS_EIO, injection, expected=1)

    # THEN
    first = report.failures[0]
    assert first.error == "EIO"
    assert first.signal is None
    assert all(word.startswith(outcome) for word in first.outcomes), first
    assert first.tries >= 3
    assert first.client_said == reason
    assert len(statuses) >= first.tries
    sentence = sentences(report)[0]
    assert sentence.startswith("script.py ended with exit code 1 at ")
    assert "reading data" in sentence
    assert outcome in sentence
    findings = {finding.id: finding for finding in report.findings}
    assert "server_errors" in findings
    assert "127.0.0.1" in findings["server_errors"].evidence


def test_a_refused_connection_is_reported_as_a_server_error(
    served: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a client whose server goes away
    monkeypatch.chdir(tmp_path)
    origin = Origin(served.folder / "store")
    origin.start()
    port = origin.url.rpartition(":")[2]
    url = f"{origin.url}/cvmfs/{FQRN}"
    with served.mount(cache=tmp_path / "cache", retries=2, url=url) as mounted:
        Path("script.py").write_text(GETS_EIO)
        mounted.drop_caches()
        process = start(*options(mounted.root, "ebpf"), "script.py", str(mounted.root / "models/data"), stdin=-1)

        # WHEN
        origin.stop()
        process.communicate("\n", timeout=120)
        report = analyse(read_trace("trace"))

    # THEN the connection is named, though no GET was sent
    first = report.failures[0]
    assert first.error == "EIO"
    assert first.outcomes[-1] == "connection refused", first
    assert first.server == f"127.0.0.1:{port}"
    findings = {finding.id: finding for finding in report.findings}
    assert f"127.0.0.1:{port}" in findings["server_errors"].evidence
    assert "back_off" in findings
    assert "counters_disagree" not in findings


def test_a_worker_process_that_dies_is_named(mounted: LabMount) -> None:
    report, pid, _ = fail(mounted, LETS_ANOTHER, Injection(match="*P", status=503), expected=0)
    (dead,) = [row for row in report.processes if row.signal]
    assert (dead.parent, dead.signal) == (pid, "SIGBUS")
    assert report.failures[0].pid == dead.pid
    assert f"process {dead.pid}" in sentences(report)[0]
    assert "503" in sentences(report)[0]


def test_a_program_that_goes_on_after_a_failed_read_is_reported(mounted: LabMount) -> None:
    report, _, _ = fail(mounted, GOES_ON, Injection(match="*P", status=503), expected=0)
    assert report.trace.exit_code == 0
    assert sentences(report)[0].startswith("Reading data at 2.12 MB failed")
    assert sentences(report)[0].endswith("script.py went on.")


def test_retries_that_succeed_are_not_reported_as_failures(mounted: LabMount) -> None:
    report, _, statuses = fail(mounted, GETS_EIO, Injection(match="*P", status=503, times=1), expected=0)
    assert statuses == [503, 200]
    assert report.failures == ()
    assert sentences(report) == []
    assert "server_errors" in [finding.id for finding in report.findings]


def test_a_killed_client_is_reported(mounted: LabMount) -> None:
    # GIVEN a program that has read something WHEN its client is killed, and it reads more
    Path("script.py").write_text(GETS_EIO)
    process = start(*options(mounted.root, "ebpf"), "script.py", str(mounted.root / "models/data"), stdin=-1)
    os.kill(mounted.mounted.pid, signal.SIGKILL)
    process.communicate("\n", timeout=120)
    report = analyse(read_trace("trace"))

    # THEN
    assert process.returncode == 1
    assert report.failures[0].error in ("ENOTCONN", "ECONNABORTED")
    assert "the client was gone" in sentences(report)[0]
    assert "client_gone" in [finding.id for finding in report.findings]
    assert sum(row.fuse_reads or 0 for row in report.phases) >= 1


def test_a_stopped_client_is_reported_and_its_unanswered_requests_read_nothing(mounted: LabMount) -> None:
    # GIVEN a client that is stopped while a program wants to read
    Path("script.py").write_text(GETS_EIO)
    mounted.drop_caches()
    process = start(*options(mounted.root, "ebpf"), "script.py", str(mounted.root / "models/data"), stdin=-1)
    before = sum(1 for _ in mounted.gets())
    os.kill(mounted.mounted.pid, signal.SIGSTOP)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate("\n", timeout=1.5)
        deadline_s = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline_s:
            process.send_signal(signal.SIGTERM)  # twice, or as often as it takes until one is seen after the other
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
    finally:
        os.kill(mounted.mounted.pid, signal.SIGCONT)
        process.communicate(timeout=120)
    report = analyse(read_trace("trace"))

    # THEN
    assert "client_stopped" in [finding.id for finding in report.findings]
    assert len(mounted.gets()) <= before + 1
    assert sum(row.fuse_read_bytes or 0 for row in report.phases) <= 2 * CHUNK
