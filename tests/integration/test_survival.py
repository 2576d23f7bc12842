"""A trace stays readable after a full disk, a killed process, a lost mount or a jump of the clock."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import CVTRACE, RUNGS, WAITS, start_script
from tiny import MOUNTPOINT, tiny_mount
from waiting import DEADLINE_S, wait_until

from cvtrace.analysis.report.text import summary
from cvtrace.probes.events import Kind
from cvtrace.tracer.store import TraceWriter, read_trace

pytestmark = pytest.mark.root
HOURS_NS = 8 * 3600 * 10**9


@pytest.fixture
def disk(workdir: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    path = workdir / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1024k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def report(trace: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CVTRACE, "report", trace], capture_output=True, text=True, check=False, timeout=120)


def test_a_full_disk_ends_the_trace_and_not_the_script(workdir, disk):
    # GIVEN a script that makes more events than the disk holds
    reads = "import os\nfd = os.open('/dev/zero', os.O_RDONLY)\nfor _ in range(100_000): os.read(fd, 1)\n"
    with tiny_mount(workdir) as (mount, _):
        text = WAITS + reads + "raise SystemExit(7)\n"
        process = start_script(mount, text, "ebpf", "-o", "disk/trace", "--no-summary")
        # WHEN it is recorded onto it
        _, output = process.communicate("go on\n", timeout=DEADLINE_S)
    # THEN the script has run to its end, one sentence says so, and the report of what is left says where it ends
    assert process.returncode == 7
    assert len([line for line in output.splitlines() if "the disk is full" in line]) == 1, output
    result = report("disk/trace")
    assert result.returncode in (0, 4)
    assert "the disk is full" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("probes", RUNGS)
def test_a_mount_that_goes_away_does_not_end_the_recording(workdir, probes):
    # GIVEN a script that read from the mount
    with tiny_mount(workdir) as (mount, daemon):
        process = start_script(mount, f"open('{mount}/model', 'rb').read(100)\n" + WAITS, probes, "--no-summary")
        # WHEN it is unmounted, and its daemon ends
        subprocess.run(["umount", "-l", mount], check=True)
        wait_until(lambda: daemon.poll() is not None, "the daemon ends")
        _, output = process.communicate("go on\n", timeout=DEADLINE_S)
    # THEN script and trace are whole, the trace knows when the daemon ended, and there is a report
    assert process.returncode == 0, output
    trace = read_trace("trace")
    assert trace.damage is None
    assert trace.meta["mounts"][0]["daemon_ended_ns"] > trace.meta["clock"]["start_ns"]
    assert trace.meta["mounts"][0]["counters_before"]
    assert "exited while it was traced" in output
    assert report("trace").returncode == 0, report("trace").stderr


@pytest.mark.parametrize("probes", ["strace", "ebpf"])
def test_a_killed_target_leaves_a_complete_trace(workdir, probes):
    # GIVEN a script that has children, and reads
    text = (
        f"import os\nif os.fork() == 0:\n    open('{workdir / MOUNTPOINT}/model', 'rb').read(100)\n    os._exit(0)\nos.wait()\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
    )
    with tiny_mount(workdir) as (mount, _):
        process = start_script(mount, text + WAITS, probes, "--no-summary")
        # WHEN it is killed
        os.kill(int(Path("pid").read_text()), 9)
        process.communicate(timeout=DEADLINE_S)
    # THEN that is how it ended, and what it did before is there
    trace = read_trace("trace")
    assert (process.returncode, trace.meta["end"], trace.damage) == (137, "signalled", None)
    assert (trace.events["kind"] == Kind.FUSE_DAEMON).any()
    assert report("trace").returncode == 0


def test_a_gap_of_hours_in_the_clock_does_not_change_the_report(workdir):
    # GIVEN a recording, and the same with eight hours in its middle, as of a job that was stopped
    with tiny_mount(workdir) as (mount, _):
        process = start_script(mount, WAITS + f"open('{mount}/model', 'rb').read(100)\n", "ebpf", "--no-summary")
        process.communicate("go on\n", timeout=DEADLINE_S)
    trace = read_trace("trace")
    middle = int(np.median(trace.events["ts"]))
    for records in (trace.events, trace.texts):
        records["ts"][records["ts"] > middle] += np.uint64(HOURS_NS)
    clock = {**trace.meta["clock"], "end_ns": trace.meta["clock"]["end_ns"] + HOURS_NS}
    writer = TraceWriter(Path("later"), trace.meta)
    writer.write(trace.events, trace.texts)
    writer.finish(clock=clock)
    # WHEN it is reported THEN all is seen, over all of that time
    assert "1 read" in summary(read_trace("later")) or "reads" in summary(read_trace("later"))
    assert report("later").returncode == 0
