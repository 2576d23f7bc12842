"""`cvtrace report --access-log` compares fetches with the access log of the lab's origin, and with lines of another client in it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cvtrace_run import CVTRACE

from cvtrace.lab.origin import control
from cvtrace.lab.stack import Options, temporary

pytestmark = pytest.mark.root


def report(trace: Path, log: Path, form: str) -> str:
    command = [*CVTRACE, "report", str(trace), "--access-log", str(log), "--format", form]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_fetch_of_a_cold_read_is_in_the_log_of_the_origin(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with temporary(Options(size_bytes=4_000_000, chunk_bytes=1 << 20, client="lab")) as stack:
        weights = max(stack.model.iterdir(), key=lambda path: path.stat().st_size)
        run = [*CVTRACE, "run", "--probes", "ebpf", "--no-summary", "-o", str(trace), "--mount", str(stack.mountpoint)]
        subprocess.run([*run, "--", "cat", str(weights)], check=True, stdout=subprocess.DEVNULL)
        control(stack.control, {"command": "wait_idle"})
        log = tmp_path / "access.log"
        log.write_bytes(stack.access_log.read_bytes())

    check: dict[str, Any] = json.loads(report(trace, log, "json"))["access_log"]
    chunks = check["matched"]
    assert chunks >= 3
    assert (check["fetches"], check["only_in_trace"], check["only_in_log"]) == (chunks, 0, 0)
    assert check["traced_bytes"] == check["log_bytes"]
    assert check["agree"] is True
    assert f"Access log of the server (cvtrace lab): {chunks} of {chunks} fetches matched" in report(trace, log, "text")

    # WHEN the log has one more line of that time, and lacks another
    lines = log.read_text().splitlines()
    last = json.loads(lines[-1])
    lines[-1] = json.dumps({**last, "path": last["path"][:-6] + "00000P"})
    log.write_text("".join(f"{line}\n" for line in lines))

    check = json.loads(report(trace, log, "json"))["access_log"]
    assert (check["only_in_trace"], check["agree"]) == (1, False)
    assert check["only_in_log"] + check["at_edges"] == 1
