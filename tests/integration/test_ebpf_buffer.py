"""The size of the buffer for events: what is reported when it is too small, and what the recording itself costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cvtrace_run import CVTRACE

pytestmark = pytest.mark.root

STORM = "import os\nfd = os.open('/dev/zero', os.O_RDONLY)\nfor _ in range(300_000): os.read(fd, 1)"


def run(
    mount: Path, trace: Path, program: str, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    argv = [*CVTRACE, "run", "-o", str(trace), "--probes", "ebpf", "--no-summary"]
    argv += ["--mount", str(mount), *options, "--", sys.executable, "-S", "-c", program]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    meta = trace / "meta.json"
    return result, json.loads(meta.read_text()) if meta.exists() else {}


def test_a_full_buffer_is_reported_with_the_option_that_helps(mount: Path, tmp_path: Path) -> None:
    # GIVEN room for a thousand events / WHEN hundreds of thousands come faster than the recorder wakes up
    result, meta = run(mount, tmp_path / "trace", STORM, "--buffer", "64KiB")

    # THEN the trace says what is missing, by kind and CPU, and the user is told what to do
    assert result.returncode == 0
    assert meta["lost"]["SYS_READ"] > 0
    assert {name: sum(counts) for name, counts in meta["lost_by_cpu"].items()} == meta["lost"]
    assert f"{sum(meta['lost'].values()):,} events lost: run again with --buffer 1MB" in result.stderr


def test_a_ring_that_fills_wakes_the_recorder(mount: Path, tmp_path: Path) -> None:
    # GIVEN room for 131,000 events, which the recorder looks at four times a second if nothing wakes it
    result, meta = run(mount, tmp_path / "trace", STORM, "--buffer", "8MiB")
    # WHEN 300,000 come in a third of a second THEN none is lost
    assert (meta["lost"], result.stderr) == ({}, "")
    assert meta["events"] > 300_000


def test_a_large_enough_buffer_loses_nothing_and_prints_no_warning(mount: Path, tmp_path: Path) -> None:
    result, meta = run(mount, tmp_path / "trace", "print(1)", "--buffer", "64MB")
    assert (meta["lost"], meta["lost_by_cpu"]) == ({}, {})
    assert result.stderr == ""


@pytest.mark.parametrize("size", ["much", "-1", "1KB", "100GB"])
def test_a_size_that_makes_no_sense_is_refused(mount: Path, tmp_path: Path, size: str) -> None:
    result, meta = run(mount, tmp_path / "trace", "print(1)", f"--buffer={size}")
    assert result.returncode == 2
    assert "--buffer" in result.stderr
    assert meta == {}


def test_the_cost_of_the_programs_is_reported_on_request(mount: Path, tmp_path: Path) -> None:
    # WHEN
    _, meta = run(mount, tmp_path / "trace", STORM, "--cost")

    # THEN every read was worth two runs, and each took some time
    recorder = meta["recorder"]
    assert recorder["bpf_runs"] > 600_000
    assert recorder["bpf_s"] > 600_000 * 10e-9
    spent_s, runs = (sum(column) for column in zip(*recorder["bpf_programs"].values(), strict=True))
    assert (round(spent_s, 6), runs) == (round(recorder["bpf_s"], 6), recorder["bpf_runs"])
    assert 10e6 < recorder["max_rss_bytes"] < 2e9
    assert recorder["drain_cpu_s"] > 0
