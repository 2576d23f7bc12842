"""Machines without BPF: bcc hidden, no tracefs, or root without the capabilities."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from namespaces import WITHOUT_BCC, WITHOUT_TRACEFS, after

from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


def run_after(preparation: str, mount: Path, trace: Path, probes: str) -> subprocess.CompletedProcess[str]:
    """Run `true` under cvtrace in a mount namespace of its own that was prepared by a piece of shell."""
    argv = [*CVTRACE, "run", "--no-summary", "--probes", probes, "-o", str(trace)]
    argv += ["--mount", str(mount), "--", "true"]
    return subprocess.run(after(preparation, *argv), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("preparation", "message"), [(WITHOUT_BCC, "apt install python3-bpfcc"), (WITHOUT_TRACEFS, "mount -t tracefs")]
)
def test_where_ebpf_is_not_available_the_error_says_what_to_do(
    tmp_path: Path, mount: Path, preparation: str, message: str
) -> None:
    # WHEN
    result = run_after(preparation, mount, tmp_path / "trace", "ebpf")

    # THEN one sentence, exit code 3, and nothing is left behind
    assert result.returncode == 3, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "trace").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("preparation", [WITHOUT_BCC, WITHOUT_TRACEFS])
def test_the_next_probe_is_chosen_and_the_trace_says_why(tmp_path: Path, mount: Path, preparation: str) -> None:
    # WHEN
    result = run_after(preparation, mount, tmp_path / "trace", "auto")

    # THEN
    assert result.returncode == 0, result.stderr
    meta = read_trace(tmp_path / "trace").meta
    assert meta["probe"] == "strace"
    assert any("tracefs" in sentence or "bcc" in sentence for sentence in meta["missing"])


def test_a_root_without_capabilities_is_reported(tmp_path: Path, mount: Path) -> None:
    # GIVEN root in a container that may not load BPF programs
    less = ["setpriv", "--bounding-set", "-sys_admin,-bpf,-perfmon", "--inh-caps", "-sys_admin,-bpf,-perfmon"]
    argv = [
        sys.executable,
        "-m",
        "cvtrace",
        "run",
        "--probes",
        "ebpf",
        "-o",
        str(tmp_path / "trace"),
        "--mount",
        str(mount),
    ]

    # WHEN
    result = subprocess.run([*less, *argv, "--", "true"], capture_output=True, text=True, check=False)

    # THEN
    assert result.returncode == 3, result.stderr
    assert "cvtrace: " in result.stderr
    assert "Traceback" not in result.stderr
