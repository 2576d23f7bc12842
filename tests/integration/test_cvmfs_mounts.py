"""Several mounts at once, and daemons that live in another PID namespace than the observer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvtrace.probes.cvmfs.counters import counters
from cvtrace.probes.cvmfs.mounts import Mount, describe, mount_points
from cvtrace.probes.events import Kind
from cvtrace.probes.portable.counts import INDEX
from cvtrace.tracer.store import read_trace

DEADLINE_S = 30.0
pytestmark = pytest.mark.root


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def mounted(folder: Path, fqrn: str, *wrapper: str) -> Iterator[Path]:
    """Mount one file with a process that looks like cvmfs2, started through `wrapper`."""
    mount, workspace = folder / fqrn, folder / f"{fqrn}.cache"
    mount.mkdir()
    workspace.mkdir()
    program = [sys.executable, str(Path(__file__).with_name("tiny_mount.py")), str(mount), str(workspace), fqrn]
    daemon = subprocess.Popen([*wrapper, *program], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: mount.is_mount() and (workspace / f"cvmfs_io.{fqrn}").exists())
        yield mount
    finally:
        subprocess.run(["fusermount3", "-u", "-z", mount], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        daemon.wait()


def told(mount: Path) -> Mount:
    (point,) = [each for each in mount_points() if each.path == str(mount)]
    return describe(point)


def test_each_mount_has_its_own_daemon_and_counters(tmp_path):
    # GIVEN two mounts, of which one is read
    with mounted(tmp_path, "one.test.org") as one, mounted(tmp_path, "two.test.org") as two:
        (one / "model").read_bytes()
        first, second = told(one), told(two)
        # THEN each has a daemon of its own, and its own counters
        assert first.daemon is not None
        assert second.daemon is not None
        assert first.daemon.pid != second.daemon.pid
        assert (first.fqrn, second.fqrn) == ("one.test.org", "two.test.org")
        assert counters(first).values["cvmfs.n_fs_open"] == 1
        assert counters(second).values["cvmfs.n_fs_open"] == 0


def test_a_daemon_in_another_pid_namespace_is_found_by_its_own_number(tmp_path):
    # GIVEN two daemons that both are process 1 of a namespace of their own
    apart = ("unshare", "--pid", "--fork", "--kill-child")
    with mounted(tmp_path, "one.test.org", *apart) as one, mounted(tmp_path, "two.test.org", *apart) as two:
        assert os.getxattr(one, "user.pid") == os.getxattr(two, "user.pid") == b"1"
        # THEN each is found under its number here, and its socket answers
        first, second = told(one), told(two)
        assert (first.error, second.error) == (None, None)
        assert first.daemon is not None
        assert second.daemon is not None
        assert {first.daemon.pid, second.daemon.pid}.isdisjoint({1})
        assert first.daemon.pid != second.daemon.pid
        assert first.daemon.workspace == str(tmp_path / "one.test.org.cache")
        assert counters(first).error is None


def test_from_inside_a_pid_namespace_the_daemon_is_missed_and_its_counters_are_read(tmp_path):
    # GIVEN a recorder that cannot see the daemon's process
    with mounted(tmp_path, "one.test.org") as mount:
        inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "cvtrace"]
        done = subprocess.run(
            [*inside, "doctor", "--json", "--mount", mount], capture_output=True, text=True, check=False
        )
        # THEN the doctor says so, with the way out
        daemon = next(each for each in json.loads(done.stdout)["checks"] if each["name"] == "daemon")
        assert daemon["status"] == "failed"
        assert "PID namespace" in daemon["says"]
        assert "--pid=host" in daemon["mend"]
        # AND a recording still has what the attributes tell
        trace = tmp_path / "trace"
        run = [*inside, "run", "--probes", "portable", "--no-summary", "-o", trace, "--mount", mount, "--", "true"]
        assert subprocess.run(run, capture_output=True, check=False).returncode == 0
        (meta,) = read_trace(trace).meta["mounts"]
        assert meta["daemon_pid"] is None
        assert meta["counters_after"] == {"nopen": 7}


def test_the_counters_of_several_mounts_keep_apart_in_a_trace(tmp_path):
    # GIVEN two mounts, and a script that imports a package like GenAI and reads a file of the second
    package = tmp_path / "lib" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class Model:\n    def __init__(self, path):\n        open(path, 'rb').read()\n"
        "class Generator:\n    def generate_next_token(self):\n        pass\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, onnxruntime_genai as og\nmodel = og.Model(sys.argv[1])\n"
        "generator = og.Generator()\nfor _ in range(4): generator.generate_next_token()\n"
    )
    with mounted(tmp_path, "one.test.org") as one, mounted(tmp_path, "two.test.org") as two:
        trace = tmp_path / "trace"
        command = [sys.executable, "-m", "cvtrace", "run", "--probes", "portable", "--no-summary", "-o", trace]
        command += ["--mount", one, "--mount", two, script, two / "model"]
        environ = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
        subprocess.run(command, check=True, capture_output=True, env=environ)
        # THEN the load's opens and reads are the second mount's
        found = read_trace(trace)
        events = found.events[found.events["kind"] == Kind.COUNTER]
        opens = events[events["b"] == INDEX["cvmfs.n_fs_open"]]
        grown = {
            mount["path"]: int(values.max() - values.min())
            for number, mount in enumerate(found.meta["mounts"])
            if len(values := opens["c"][opens["a"] == number])
        }
    assert grown == {str(one): 0, str(two): 1}
