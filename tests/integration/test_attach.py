"""`cvtrace attach`: a running process is recorded, and goes on as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from lab_mount import Lab, LabMount, lab
from unprivileged import AS_READER
from waiting import DEADLINE_S, wait_until

from cvtrace.analysis import analyse
from cvtrace.lab.model import build
from cvtrace.probes.events import Kind
from cvtrace.tracer.store import Trace, read_trace

pytestmark = pytest.mark.root
RUNGS = ["ebpf", "strace"]

READS = """
import os, sys, threading, time
def read(fd):
    while not os.path.exists("enough"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(fd, 65536, 0)
        time.sleep(0.005)
one, other = (os.open(sys.argv[1], os.O_RDONLY) for _ in range(2))
threading.Thread(target=read, args=(one,)).start()
print("ready", flush=True)
read(other)
"""

GENERATES = """
import os, sys, time
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=256)
generator = og.Generator(model, parameters)
generator.append_tokens(tokenizer.encode("the rain in spain"))
print("ready", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
for _ in range(12): generator.generate_next_token()
del generator
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    build(folder / "made", 2 << 20)
    files = {f"model/{path.name}": path.read_bytes() for path in (folder / "made").iterdir()}
    with lab(folder, {**files, "file": os.urandom(300_000)}) as mount_:
        yield mount_


@pytest.fixture(scope="module")
def mounted(published: Lab) -> Iterator[LabMount]:
    with published.mount() as mount:
        yield mount


@contextlib.contextmanager
def running(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a script and wait until it says that it is ready; end it when the test is over."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def start(pid: int, *options: str, mount: LabMount | None = None) -> subprocess.Popen[str]:
    mount_options = ["--mount", str(mount.root)] if mount else []
    command = [*CVTRACE, "attach", str(pid), "-o", "trace", *mount_options, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def attach(pid: int, *options: str, mount: LabMount | None = None) -> tuple[int, str]:
    recorder = start(pid, *options, mount=mount)
    stdout, stderr = recorder.communicate(timeout=2 * DEADLINE_S)
    assert stdout == ""
    return recorder.returncode, stderr


def state(pid: int) -> dict[int, list[str]]:
    """Return for every thread what tracing could change: whether it is stopped, signal masks, tracer, seccomp."""
    fields = (
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "SigPnd",
        "ShdPnd",
        "TracerPid",
        "Seccomp",
        "NoNewPrivs",
        "CapEff",
        "Threads",
    )
    status = {}
    for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
        lines = (task / "status").read_text().splitlines()
        stopped = next(line for line in lines if line.startswith("State")).split()[1] in "Tt"
        status[int(task.name)] = [str(stopped), *(line for line in lines if line.partition(":")[0] in fields)]
    return status


def open_files(pid: int) -> list[str]:
    return sorted(f"{link.name} {link.readlink()}" for link in Path(f"/proc/{pid}/fd").iterdir())


def recorded() -> Trace:
    trace = read_trace("trace")
    assert trace.damage is None
    return trace


def recording_began() -> bool:
    with contextlib.suppress(Exception):
        return read_trace("trace").meta["clock"]["start_ns"] is not None
    return False


@pytest.mark.parametrize("option", [[], ["--redact"]])
def test_names_are_hashed_with_redact(workdir: Path, mounted: LabMount, option: list[str]) -> None:
    with running(READS, mounted.root / "file") as process:
        code, stderr = attach(process.pid, "--for", "1s", "--probes", "ebpf", *option, mount=mounted)

    assert code == 0, stderr
    names = {name for path in recorded().texts["text"].tolist() for name in path.split(b"/")}
    assert names
    assert (b"file" in names) == (not option)


def test_attach_has_the_recording_options_of_run(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a process that reads, and the options of the recorder that `run` has
    with running(READS, mounted.root / "file") as process:
        code, stderr = attach(process.pid, "--for", "1s", "--buffer", "1MB", "--cost", mount=mounted)

    # THEN they take effect, and meta.json has what that of a run has
    assert code == 0, stderr
    meta = recorded().meta
    assert meta["recorder"]["bpf_runs"] > 0
    assert meta["mounts_left_out"] == []


@pytest.mark.parametrize("probes", RUNGS)
def test_a_process_that_reads_is_recorded_and_continues_unchanged(
    workdir: Path, mounted: LabMount, probes: str
) -> None:
    # GIVEN a process with two threads that reads from the mount in a loop, by descriptors it opened before
    with running(READS, mounted.root / "file") as process:
        before, files = state(process.pid), open_files(process.pid)
        # WHEN it is recorded for a while
        code, stderr = attach(process.pid, "--for", "1s", "--probes", probes, mount=mounted)
        # THEN it is as it was, and runs
        assert code == 0, stderr
        assert state(process.pid) == before
        assert open_files(process.pid) == files
        assert process.poll() is None
    # AND its reads are in the trace, of both threads, known to be of the mount
    trace = recorded()
    assert (trace.meta["end"], trace.meta["target"]["pid"]) == ("detached", process.pid)
    assert trace.meta["target"]["exit_code"] is None
    assert trace.meta["lost"] == {}
    reads = trace.events[trace.events["kind"] == Kind.SYS_READ]
    reads = reads[reads["ret"] == 65536]
    assert set(reads["tid"].tolist()) == set(before)
    assert len(reads) > 20
    report = analyse(trace)
    assert report.trace.mounts[0].used
    assert [row.name for row in report.phases] == ["script"]
    assert (report.phases[0].fuse_reads or 0) > 10
    assert 0.9 < report.trace.duration_s < 10
    assert report.verdict.generation_hits_cvmfs == "inconclusive"
    # AND the summary says whom it is about
    assert " · cvtrace-lab " in stderr


def test_phases_are_marked_after_attaching(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a process that generates, started without us
    with running(GENERATES, mounted.root / "model") as process:
        # WHEN it is recorded until it has ended
        recorder = start(process.pid, "--probes", "ebpf", "--no-summary", mount=mounted)
        wait_until(recording_began, "the recording has begun")
        Path("go").touch()
        _, stderr = recorder.communicate(timeout=DEADLINE_S)
    # THEN its tokens are told from what lies between them
    assert recorder.returncode == 0, stderr
    trace = recorded()
    assert trace.meta["end"] == "exited"
    rows = {row.name: row for row in analyse(trace).phases}
    assert rows["decode"].count == 12
    assert not {"load", "import"} & set(rows)
    assert "teardown" in rows


@pytest.mark.parametrize("probes", RUNGS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_and_not_the_process(
    workdir: Path, mounted: LabMount, probes: str, number: signal.Signals
) -> None:
    with running(READS, mounted.root / "file") as process:
        before = state(process.pid)
        recorder = start(process.pid, "--probes", probes, "--no-summary", mount=mounted)
        wait_until(recording_began, "the recording has begun")
        recorder.send_signal(number)
        _, stderr = recorder.communicate(timeout=DEADLINE_S)
        assert recorder.returncode == 0, stderr
        assert state(process.pid) == before
        assert process.poll() is None
    assert recorded().meta["end"] == "detached"


@pytest.mark.parametrize("probes", [*RUNGS, "portable"])
def test_the_end_of_the_process_ends_the_recording(workdir: Path, mounted: LabMount, probes: str) -> None:
    with running(READS, mounted.root / "file") as process:
        recorder = start(process.pid, "--probes", probes, mount=mounted)
        wait_until(recording_began, "the recording has begun")
        Path("enough").touch()
        _, stderr = recorder.communicate(timeout=DEADLINE_S)
        assert process.wait(DEADLINE_S) == 0
    assert recorder.returncode == 0, stderr
    assert recorded().meta["end"] == "exited"
    if probes == "portable":
        assert "sees only the client's counters" in " ".join(recorded().meta["missing"])


def test_a_recorder_that_is_killed_leaves_the_process_running(workdir: Path, mounted: LabMount) -> None:
    with running(READS, mounted.root / "file") as process:
        before = state(process.pid)
        recorder = start(process.pid, "--probes", "ebpf", mount=mounted)
        wait_until(recording_began, "the recording has begun")
        recorder.kill()
        recorder.communicate()
        assert state(process.pid) == before
    assert "killed" in str(read_trace("trace").damage)


def test_later_children_are_recorded_and_earlier_ones_are_reported(workdir: Path, mounted: LabMount) -> None:
    # GIVEN a process with one child, that starts another later
    program = (
        "import os, subprocess, sys, time\n"
        "first = subprocess.Popen(['sleep', '60'])\nprint('ready', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "subprocess.run(['cat', sys.argv[1]], stdout=subprocess.DEVNULL)\nfirst.kill()\nfirst.wait()\n"
    )
    with running(program, mounted.root / "file") as process:
        recorder = start(process.pid, "--probes", "ebpf", "--no-summary", mount=mounted)
        wait_until(recording_began, "the recording has begun")
        Path("go").touch()
        recorder.communicate(timeout=DEADLINE_S)
    trace = recorded()
    assert "1 child of process" in " ".join(trace.meta["missing"])
    assert trace.meta["end"] == "exited"
    executed = trace.texts[trace.texts["kind"] == Kind.PROC_EXEC]["text"]
    assert any(bytes(path).endswith(b"/cat") for path in executed)
    report = analyse(trace)
    assert any(file.path.endswith("/file") for file in report.files)


def refused(pid: object, code: int, message: str, *options: str) -> None:
    command = [*CVTRACE, "attach", str(pid), "-o", "trace", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("trace").exists()


def test_a_process_that_cannot_be_recorded_is_refused_in_one_sentence(workdir: Path, mounted: LabMount) -> None:
    refused(0, 2, "PID")
    refused("x", 2, "PID")
    refused(2**22 + 1, 2, "there is no process")
    kernel_thread = next(
        (int(path.name) for path in Path("/proc").glob("[0-9]*") if (path / "comm").read_text() == "kthreadd\n"), None
    )
    if kernel_thread is not None:
        refused(kernel_thread, 2, "is a thread of the kernel")
    refused(mounted.mounted.pid, 2, "serves a mount", "--mount", str(mounted.root))
    with running(READS, mounted.root / "file") as process:
        thread = max(state(process.pid))
        refused(thread, 2, f"cvtrace attach {process.pid}")
        refused(process.pid, 2, "is not a duration", "--for", "soon")
        refused(process.pid, 3, "is not on a CVMFS mount", "--mount", str(workdir))
        process.kill()
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "the process has ended")
        refused(process.pid, 2, "has ended already")


def test_attaching_to_another_users_process_needs_root(workdir: Path, mounted: LabMount) -> None:
    with running(READS, mounted.root / "file") as process:
        command = [*AS_READER, *CVTRACE, "attach", str(process.pid), "-o", "trace"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (3, "")
        assert (
            result.stderr
            == (
                f"cvtrace: process {process.pid} ({Path(sys.executable).resolve().name[:15]}) belongs to root: "
                f"run `sudo cvtrace attach {process.pid}`\n"
            )
            or "sudo cvtrace attach" in result.stderr
        )


def test_a_process_that_is_traced_already_is_reported(workdir: Path, mounted: LabMount) -> None:
    with running(READS, mounted.root / "file") as process:
        tracer = subprocess.Popen(
            ["strace", "-f", "-o", "/dev/null", "-p", str(process.pid)], stderr=subprocess.DEVNULL
        )
        status = Path(f"/proc/{process.pid}/status")
        wait_until(lambda: f"TracerPid:\t{tracer.pid}" in status.read_text(), "the tracer is attached")
        refused(process.pid, 3, "is already traced", "--probes", "strace", "--mount", str(mounted.root))
        tracer.terminate()
        tracer.wait()


@pytest.mark.parametrize("probes", ["ebpf", "portable"])
def test_the_profile_of_a_run_is_in_its_trace(workdir: Path, mounted: LabMount, probes: str) -> None:
    # GIVEN a script that generates twelve tokens from the mount, which cannot be written to
    Path("script.py").write_text(GENERATES)
    Path("go").touch()
    command = [*CVTRACE, "run", "--ort-profile", "-o", "trace", "--probes", probes, "--mount", str(mounted.root)]
    # WHEN
    result = subprocess.run(
        [*command, "--python", sys.executable, "script.py", str(mounted.root / "model")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )
    # THEN the operators of each phase are told, counted and timed
    assert (result.returncode, result.stdout) == (0, "ready\n"), result.stderr
    assert "Slowest operators in decode:" in result.stderr
    report = analyse(recorded())
    nodes = {(row.phase, row.op_type): row for row in report.operators}
    prefill, decode = (nodes[phase, "MatMulNBits"] for phase in ("prefill", "decode"))
    assert decode.count == 11 * prefill.count  # the first token only samples
    rows = {row.name: row for row in report.phases}
    assert 0 < sum(row.time_s for row in report.operators if row.phase == "decode") <= rows["decode"].wall_s
    assert any("6 µs of each node" in note for note in report.notes)
    assert Path("trace/ort-profile-1.json").is_file()
    # AND a trace that replaces this one has none of it left
    again = subprocess.run(
        [*command, "--force", "--no-summary", "--", "true"], check=False, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert not Path("trace/nodes.parquet").exists()
    assert "wrote no profile" in " ".join(recorded().meta["missing"])
