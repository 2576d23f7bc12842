"""Long-lived servers: `--for` and `--max-size` of `run` and `attach`; the report says what it does not have."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, options, script
from waiting import DEADLINE_S, wait_until

from cvtrace.tracer.store import read_trace

pytestmark = pytest.mark.root

READS = """
import os, sys
open("pid", "w").write(str(os.getpid()))
fd = os.open(sys.argv[1], os.O_RDONLY)
print("ready", flush=True)
while not os.path.exists("enough"):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for _ in range(200):
        os.pread(fd, 1, 4096)
"""


def record(mount: Path, verb: str, *words: str) -> tuple[int, str]:
    """Run cvtrace to its end, also where the target goes on with the streams that it has of it; returns exit code and stderr."""
    command = [*CVTRACE, verb, *options(mount, "ebpf"), *words]
    with Path("stderr").open("w") as stderr:
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, check=False, timeout=3 * DEADLINE_S)
    return result.returncode, Path("stderr").read_text()


def report() -> dict[str, object]:
    result = subprocess.run([*CVTRACE, "report", "trace", "--format", "json"], capture_output=True, check=True)
    document: dict[str, object] = json.loads(result.stdout)
    return document


def test_run_for_a_time_leaves_the_program_running_with_a_whole_trace(workdir, mount):
    # GIVEN a server that does not end
    try:
        # WHEN it is recorded for a second
        code, stderr = record(mount, "run", "--for", "1s", script(READS), str(mount / "model"))
        # THEN the recording ends, the server goes on, and the report says what is not there
        assert code == 0, stderr
        pid = int(Path("pid").read_text())
        os.kill(pid, 0)
        sentence = f"the recording ended when its time was over (--for): script.py (pid {pid}) continues"
        assert sentence in stderr
        assert read_trace("trace").meta["end"] == "detached"
        trace = report()["trace"]
        assert any(each.startswith(sentence) for each in trace["missing"])
        assert 0.9 < trace["duration_s"] < 10
    finally:
        Path("enough").touch()


@pytest.mark.parametrize("verb", ["run", "attach"])
def test_of_a_recording_that_becomes_too_large_the_newest_part_is_kept(workdir, mount, verb):
    # GIVEN a server that makes many events
    server = None
    try:
        words = [script(READS), str(mount / "model")]
        if verb == "attach":
            server = subprocess.Popen([sys.executable, *words])
            wait_until(Path("pid").exists, "the server runs")
            words = [str(server.pid)]
        # WHEN it is recorded with room for a part of them
        code, stderr = record(mount, verb, "--for", "3s", "--max-size", "1MB", *words)
        # THEN the trace has the end of the recording, whole, and says what went
        assert code == 0, stderr
        assert "events were dropped for room (--max-size): the trace has what came later" in stderr
        trace = read_trace("trace")
        assert trace.damage is None
        assert 0 < trace.meta["events"] == len(trace) < 1_000_000 / 56 + 1000
        clock = trace.meta["clock"]
        assert clock["recorded_from_ns"] < clock["start_ns"] <= int(trace.events["ts"][0])
        document = report()
        missing = document["trace"]["missing"]
        assert any("of the recording and" in each and "were dropped for room (--max-size)" in each for each in missing)
        assert document["trace"]["duration_s"] == pytest.approx((clock["end_ns"] - clock["start_ns"]) / 1e9, abs=0.5)
        assert document["verdict"]["answer"] != "no"
    finally:
        Path("enough").touch()
        if server is not None:
            server.wait(DEADLINE_S)


def test_a_recorder_that_is_killed_leaves_the_part_that_was_kept(workdir, mount):
    # GIVEN a recording that has dropped its begin
    words = ["--max-size", "1MB", script(READS), str(mount / "model")]
    recorder = subprocess.Popen([*CVTRACE, "run", *options(mount, "ebpf"), *words], stderr=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: Path("trace/meta.json").exists() and "dropped" in Path("trace/meta.json").read_text(),
            "the oldest events were dropped",
        )
        # WHEN its recorder is killed
        recorder.send_signal(signal.SIGKILL)
        recorder.wait(DEADLINE_S)
        # THEN the newest part can be read
        trace = read_trace("trace")
        assert "the recorder was killed" in str(trace.damage)
        assert len(trace) > 1000
        assert int(trace.events["ts"][0]) >= trace.meta["dropped"]["before_ns"]
    finally:
        Path("enough").touch()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--max-size", "much"), "'much' is not a size such as 128MB"),
        (("--max-size", "10kB"), "10kB is less than 1MB"),
        (("--for", "soon"), "'soon' is not a duration"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_sentence(workdir, mount, words, sentence):
    code, stderr = record(mount, "run", *words, script("print()"))
    assert code == 2
    assert sentence in stderr
    assert "Traceback" not in stderr
    assert not Path("trace").exists()
