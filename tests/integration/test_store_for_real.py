"""The store against the real system: a killed recorder, a full disk, other users' folders."""

import os
import pwd
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from tiny import open_to_all

from cvtrace.probes.events import EVENT, TEXT
from cvtrace.tracer.errors import TraceUnwritable
from cvtrace.tracer.store import TraceWriter, read_trace
from cvtrace.tracer.user import User

NOBODY = User(65534, 65534, (65534,), "nobody", "/")

WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from cvtrace.probes.events import EVENT, no_texts
from cvtrace.tracer.store import TraceWriter

writer = TraceWriter(Path(sys.argv[1]), {})
print("began", flush=True)
number = 0
while number < 2_000_000:
    events = np.zeros(5000, dtype=EVENT)
    events["ts"] = np.arange(number, number + 5000)
    number += 5000
    writer.write(events, no_texts())
    if number % 50_000 == 0:
        writer.update_meta(seen=number)
writer.finish(seen=number)
"""


def test_a_killed_writer_leaves_a_readable_trace(tmp_path):
    # GIVEN a recorder that writes, changes meta.json and finishes
    random.seed(5)
    states = set()
    for attempt in range(12):
        path = tmp_path / f"t{attempt}"
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        # WHEN it is killed at a random moment
        try:
            writer.wait(random.uniform(0, 0.9))
        except subprocess.TimeoutExpired:
            writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        # THEN what was written before is read, without gaps
        trace = read_trace(path)
        assert np.array_equal(trace.events["ts"], np.arange(len(trace.events)))
        assert (trace.damage is None) == trace.meta["finished"]
        states.add((trace.meta["finished"], len(trace.events) > 0))
    assert (False, True) in states


@pytest.mark.root
def test_the_trace_belongs_to_the_user_who_called_sudo(tmp_path):
    # GIVEN a folder of nobody's, which the recorder runs as root for
    open_to_all(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY.uid, NOBODY.gid)
    # WHEN a trace is recorded and finished
    writer = TraceWriter(home / "t", {}, NOBODY)
    writer.write(np.zeros(3, dtype=EVENT), np.zeros(3, dtype=TEXT))
    writer.update_meta(probe="ebpf")
    writer.finish()
    # THEN everything in it is nobody's
    paths = [home / "t", *(home / "t").iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(NOBODY.uid, NOBODY.gid)}
    assert os.geteuid() == 0


@pytest.mark.root
def test_root_does_not_create_a_trace_where_the_user_may_not(tmp_path):
    # GIVEN a folder of root's
    tmp_path.chmod(0o755)
    # WHEN nobody asks root for a trace there THEN the user's permissions count
    with pytest.raises(TraceUnwritable, match="Permission denied"):
        TraceWriter(tmp_path / "t", {}, NOBODY)
    # AND root has its own back
    (tmp_path / "file").write_text("x")
    assert pwd.getpwuid((tmp_path / "file").stat().st_uid).pw_name == "root"


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from cvtrace.probes.events import EVENT, no_texts
from cvtrace.tracer.store import TraceWriter

writer = TraceWriter(Path(sys.argv[1]), {"clock": {"start_ns": 0}})
for number in range(200):
    events = np.zeros(5000, dtype=EVENT)
    events["ts"] = np.arange(number * 5000, (number + 1) * 5000)
    writer.write(events, no_texts())
    writer.flush()
writer.finish(end="exited")
print(writer.error)
"""


@pytest.mark.root
@pytest.mark.parametrize("size_kib", [400, 1024, 4096])
def test_a_full_disk_is_reported_and_what_was_written_is_kept(tmp_path, size_kib):
    # GIVEN a disk too small for the recording
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", disk], check=True)
    try:
        # WHEN a recording fills it
        result = subprocess.run([sys.executable, "-c", FULL, disk / "t"], capture_output=True, text=True, check=True)
        # THEN that is said, meta.json knows, and what was written before can be read
        assert "the disk is full" in result.stdout
        trace = read_trace(disk / "t")
        assert len(trace.events) > 0
        assert np.array_equal(trace.events["ts"], np.arange(len(trace.events)))
        assert trace.damage is not None
        assert "the disk is full" in trace.damage
        assert trace.meta["events"] == len(trace.events)
        assert trace.meta["events"] + trace.meta["lost"]["not written"] == 1_000_000
        assert trace.meta["end"] == "exited"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_finishing_a_trace_takes_less_memory_than_its_events(tmp_path):
    # GIVEN a trace of two million events (112 MB) on disk
    path = tmp_path / "t"
    program = FULL.replace("range(200)", "range(400)").replace(
        'writer.finish(end="exited")',
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        'writer.finish(end="exited")\n'
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)",
    )
    # WHEN it is finished
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    grown_kib = int(result.stdout.split()[0])
    # THEN memory grows by less than all events, their copy and their columns would take
    mapped_kib = 2_000_000 * EVENT.itemsize // 1024
    assert grown_kib < mapped_kib + 300_000
