"""Memory limits with cgroups of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cvtrace.lab.errors import LabError
from cvtrace.lab.memory import PREFIX, hierarchy, limited
from cvtrace.lab.stack.processes import is_running, wait_until

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _a_controller() -> None:
    try:
        hierarchy()
    except LabError as error:
        pytest.skip(str(error))


def groups() -> set[Path]:
    return set(hierarchy().parent.glob(f"{PREFIX}*"))


def test_the_command_runs_in_a_group_that_is_gone_afterwards() -> None:
    # GIVEN
    before = groups()

    # WHEN
    with limited(["cat", "/proc/self/cgroup"], 64 << 20) as argv:
        new_groups = groups() - before
        first, second = (subprocess.run(argv, capture_output=True, text=True, check=True).stdout for _ in range(2))

    # THEN
    assert len(new_groups) == 1
    assert new_groups.pop().name in first
    assert first == second
    assert groups() == before


def test_a_command_that_exceeds_the_memory_limit_is_killed() -> None:
    with limited([sys.executable, "-c", "bytearray(200 << 20)"], 64 << 20) as argv:
        assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == -9


def test_processes_that_the_command_leaves_running_are_killed() -> None:
    # WHEN
    with limited(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], 64 << 20) as argv:
        pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
        assert is_running(pid)

    # THEN
    assert wait_until(lambda: not is_running(pid), 10.0)


def test_a_cgroup_whose_creator_was_killed_is_removed() -> None:
    # GIVEN
    code = (
        "import os\nfrom cvtrace.lab.memory import limited\nwith limited(['true'], 64 << 20): os.kill(os.getpid(), 9)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code])
    maker.wait()
    assert any(group.name.startswith(f"{PREFIX}{maker.pid}-") for group in groups())

    # WHEN
    with limited(["true"], 64 << 20):
        pass

    # THEN
    assert not any(group.name.startswith(f"{PREFIX}{maker.pid}-") for group in groups())


def test_a_memory_limit_too_small_to_start_a_process_is_refused() -> None:
    with pytest.raises(LabError, match="at least 16MiB"), limited(["true"], 1 << 20):
        pass
