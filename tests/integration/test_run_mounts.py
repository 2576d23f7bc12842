"""The client's counters in a recording, and daemons that end or hang while it runs."""

import re
import signal
from pathlib import Path

import pytest
from cvtrace_run import RUNGS, options, run, script, start, trace_of
from tiny import tiny_mount
from waiting import DEADLINE_S

from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root


def test_the_counters_of_the_client_are_in_the_trace(workdir, mount):
    result = run(mount, script(f"open('{mount}/model').read()"), probes="ebpf")
    described = trace_of(result).meta["mounts"][0]
    assert described["fqrn"] == "tiny.test.org"
    assert described["version"] == "2.12.0"
    assert described["workspace"] == str(mount.with_name("workspace"))
    assert described["error"] is None
    opened = [described[name]["cvmfs.n_fs_open"] for name in ("counters_before", "counters_after")]
    assert opened[1] == opened[0] + 1


def test_a_daemon_that_dies_is_reported_and_the_trace_goes_on(workdir):
    # GIVEN a script that does something else long after its mount died
    with tiny_mount(workdir) as (path, daemon):
        name = script(
            "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('enough'): time.sleep(0.05)\n"
        )
        process = start(*options(path, "ebpf"), name)
        # WHEN the daemon dies
        daemon.kill()
        daemon.wait()
        assert process.stderr is not None
        line = process.stderr.readline()
        Path("enough").touch()
        _, output = process.communicate(timeout=DEADLINE_S)
    # THEN that is said once, and the trace knows when
    assert re.match(rf"cvtrace: cvmfs2 \(pid {daemon.pid}\) of .* exited while it was traced, at \d+\.\d s", line)
    assert output == ""
    assert process.returncode == 0
    described = read_trace("trace").meta["mounts"][0]
    assert read_trace("trace").meta["clock"]["start_ns"] < described["daemon_ended_ns"]


@pytest.mark.parametrize("probes", RUNGS)
def test_a_daemon_that_hangs_does_not_hang_the_recorder(workdir, probes):
    with tiny_mount(workdir) as (path, daemon):
        # GIVEN a daemon that answers nothing any more
        daemon.send_signal(signal.SIGSTOP)
        # WHEN a script is recorded that does not touch the mount
        result = run(path, script("print('done')"), probes=probes)
    # THEN it runs, and one sentence says what is wrong
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    assert "does not answer" in read_trace("trace").meta["mounts"][0]["error"]
