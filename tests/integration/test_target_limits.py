"""The limits of the cgroup that a target is put into while it is recorded, also in a mount namespace of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cvtrace_run import run, script, trace_of

from cvtrace.lab.errors import LabError
from cvtrace.lab.memory import limited
from cvtrace.probes.cgroups import memory_bytes

pytestmark = pytest.mark.root
LIMIT_BYTES = 256 << 20
READS = """
import sys, time
with open(sys.argv[1], "rb") as file:
    file.read(100)
time.sleep(0.5)
"""


@pytest.mark.parametrize("probes", ["ebpf", "portable"])
@pytest.mark.parametrize("inside", ["alone", "bwrap"])
def test_limits_of_a_container_are_in_the_trace(workdir: Path, mount: Path, inside: str, probes: str) -> None:
    if inside == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("needs bwrap")
    command = [sys.executable, script(READS), f"{mount}/model"]
    if inside == "bwrap":
        command = [
            "bwrap",
            "--bind",
            "/",
            "/",
            "--dev-bind",
            "/dev",
            "/dev",
            "--proc",
            "/proc",
            "--unshare-pid",
            *command,
        ]
    try:
        with limited(command, LIMIT_BYTES) as argv:
            result = run(mount, "--", *argv, probes=probes)
    except LabError as error:
        pytest.skip(str(error))

    assert result.returncode == 0, result.stderr
    trace = trace_of(result)
    assert trace.meta["target"]["limits"]["memory_bytes"] == LIMIT_BYTES
    if probes == "ebpf":
        assert any(b"/model" in bytes(text) for text in trace.texts["text"])


def test_a_target_in_no_group_of_its_own_has_the_limits_of_the_recorder(workdir: Path, mount: Path) -> None:
    result = run(mount, "--", "true", probes="portable")

    limits = trace_of(result).meta["target"].get("limits", {})
    assert limits.get("memory_bytes") == memory_bytes(Path("/proc/self/cgroup").read_text())
