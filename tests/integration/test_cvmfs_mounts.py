"""Several mounts at once, and daemons that live in another PID namespace than the observer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from namespaces import unshare
from tiny import tiny_mount

from cvtrace.probes.cvmfs.counters import counters
from cvtrace.probes.cvmfs.mounts import Mount, mount_points
from cvtrace.probes.cvmfs.survey import describe
from cvtrace.probes.events import Kind
from cvtrace.probes.portable.counts import INDEX
from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


@contextlib.contextmanager
def mounted(folder: Path, fqrn: str, *wrapper: str) -> Iterator[Path]:
    """Mount one file in a folder called as the repository, with a daemon started through `wrapper`."""
    (folder / fqrn).mkdir()
    with tiny_mount(folder / fqrn, fqrn=fqrn, wrapper=wrapper) as (path, _):
        yield path


def described(mount: Path) -> Mount:
    (point,) = [point for point in mount_points() if point.path == str(mount)]
    return describe(point)


def test_each_mount_has_its_own_daemon_and_counters(tmp_path):
    # GIVEN two mounts, of which one is read
    with mounted(tmp_path, "one.test.org") as first_mount, mounted(tmp_path, "two.test.org") as two:
        (first_mount / "model").read_bytes()
        first, second = described(first_mount), described(two)
        # THEN each has a daemon of its own, and its own counters
        assert first.daemon is not None
        assert second.daemon is not None
        assert first.daemon.pid != second.daemon.pid
        assert (first.fqrn, second.fqrn) == ("one.test.org", "two.test.org")
        assert counters(first).values["cvmfs.n_fs_open"] == 1
        assert counters(second).values["cvmfs.n_fs_open"] == 0


def test_a_daemon_in_another_pid_namespace_is_located_by_its_own_number(tmp_path):
    # GIVEN two daemons that both are process 1 of a namespace of their own
    apart = unshare("--pid", "--fork", "--kill-child")
    with mounted(tmp_path, "one.test.org", *apart) as first_mount, mounted(tmp_path, "two.test.org", *apart) as two:
        assert os.getxattr(first_mount, "user.pid") == os.getxattr(two, "user.pid") == b"1"
        # THEN each is found under its number here, and its socket answers
        first, second = described(first_mount), described(two)
        assert (first.error, second.error) == (None, None)
        assert first.daemon is not None
        assert second.daemon is not None
        assert {first.daemon.pid, second.daemon.pid}.isdisjoint({1})
        assert first.daemon.pid != second.daemon.pid
        assert first.daemon.workspace == str(tmp_path / "one.test.org" / "workspace")
        assert counters(first).error is None


def test_from_inside_a_pid_namespace_the_daemon_is_missed_and_its_counters_are_read(tmp_path):
    # GIVEN a recorder that cannot see the daemon's process
    with mounted(tmp_path, "one.test.org") as mount:
        inside = [*unshare("--pid", "--fork", "--mount-proc"), *CVTRACE]
        result = subprocess.run(
            [*inside, "doctor", "--json", "--mount", mount], capture_output=True, text=True, check=False
        )
        # THEN the doctor says so, with the way out
        daemon = next(check for check in json.loads(result.stdout)["checks"] if check["name"] == "daemon")
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


def test_the_counters_of_several_mounts_are_separate_in_a_trace(tmp_path):
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
    with mounted(tmp_path, "one.test.org") as first, mounted(tmp_path, "two.test.org") as two:
        trace = tmp_path / "trace"
        command = [*CVTRACE, "run", "--probes", "portable", "--no-summary", "-o", trace]
        command += ["--mount", first, "--mount", two, script, two / "model"]
        environ = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
        subprocess.run(command, check=True, capture_output=True, env=environ)
        # THEN the load's opens and reads are the second mount's
        trace_ = read_trace(trace)
        events = trace_.events[trace_.events["kind"] == Kind.COUNTER]
        opens = events[events["b"] == INDEX["cvmfs.n_fs_open"]]
        grown = {
            mount["path"]: int(values.max() - values.min())
            for number, mount in enumerate(trace_.meta["mounts"])
            if len(values := opens["c"][opens["a"] == number])
        }
    assert grown == {str(first): 0, str(two): 1}
