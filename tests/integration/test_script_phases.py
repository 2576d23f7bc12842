"""Phases that a script marks itself, through `cvtrace run` on every rung."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_run import RUNGS, here, mount, needs_root, run, script, trace_of

from cvtrace.analysis import analyse

__all__ = ["here", "mount"]
pytestmark = [pytest.mark.root, needs_root]


@pytest.mark.parametrize("probes", RUNGS)
def test_phases_of_a_script_are_rows(here: Path, mount: Path, probes: str) -> None:
    # GIVEN a script that names two phases, one of which reads from the mount, and ends within a third
    name = script(
        "import cvtrace, os, time\n"
        f"with cvtrace.phase('read the file'): os.open('{mount}/model', os.O_RDONLY); time.sleep(0.05)\n"
        "for _ in range(3):\n with cvtrace.phase('rest'): time.sleep(0.02)\n"
        "cvtrace.phase('last').__enter__(); time.sleep(0.02); os._exit(0)\n"
    )
    # WHEN
    done = run(mount, "--python", sys.executable, name, probes=probes)
    # THEN
    assert done.returncode == 0, done.stderr
    trace = trace_of(done)
    rows = {row.name: row for row in analyse(trace).phases}
    assert list(rows) == ["script", "read the file", "rest", "last"]
    assert rows["rest"].count == 3
    assert rows["read the file"].wall_s >= 0.05
    assert rows["rest"].wall_s >= 0.06
    assert rows["last"].wall_s >= 0.02
    if probes == "ebpf":
        assert rows["read the file"].fuse_requests
        assert rows["rest"].fuse_requests == 0
