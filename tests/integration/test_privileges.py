"""The privileges that the recorder keeps while it records, and what a hostile target cannot make it do."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvtrace_run import RUNGS, WAITS, start_script
from tiny import open_to_all, tiny_mount
from unprivileged import NOBODY
from waiting import DEADLINE_S, wait_until

from cvtrace.probes.capabilities import Capability
from cvtrace.probes.events import EVENT, Kind
from cvtrace.probes.phases.hook import read_marks
from cvtrace.tracer.store import read_trace

AS_NOBODY = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
pytestmark = pytest.mark.root

ALWAYS = {Capability.SYS_PTRACE, Capability.DAC_OVERRIDE}
UNDER_SUDO = {Capability.SETUID, Capability.SETGID, Capability.KILL}
OF_PROBE: dict[str, set[Capability]] = {
    "ebpf": {Capability.BPF, Capability.PERFMON, Capability.CHECKPOINT_RESTORE},
    "strace": set(),
    "portable": set(),
}


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mount")
    open_to_all(folder)
    with tiny_mount(folder, uid=1234) as (path, _):
        yield path


@pytest.fixture
def workdir(workdir: Path) -> Path:
    """Work in a folder of nobody's."""
    os.chown(workdir, NOBODY, NOBODY)
    return workdir


def finish(process: subprocess.Popen[str]) -> str:
    """Let the script end; return what the recorder said."""
    _, output = process.communicate("go on\n", timeout=DEADLINE_S)
    assert process.returncode == 0, output
    return output


def capabilities(pid: int) -> set[tuple[str, str]]:
    """Return the privileges of all threads of a process as /proc has them."""
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    return {
        (fields[0].rstrip(":"), fields[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if (fields := line.split()) and fields[0].rstrip(":") in names
    }


@pytest.mark.parametrize("sudo", [False, True], ids=["root", "sudo"])
@pytest.mark.parametrize("probes", RUNGS)
def test_each_thread_of_the_recorder_keeps_only_the_listed_capabilities(workdir, mount, probes, sudo):
    # GIVEN a recording whose target runs
    process = start_script(mount, WAITS, probes, **(AS_NOBODY if sudo else {}))
    allowed_capabilities = ALWAYS | OF_PROBE[probes] | (UNDER_SUDO if sudo else set())
    mask = f"{sum(1 << capability for capability in allowed_capabilities):016x}"
    none = "0" * 16

    def allowed() -> set[str]:
        return {value for name, value in capabilities(process.pid) if name in ("CapPrm", "CapEff", "CapBnd")}

    # WHEN it is settled THEN it may do what is needed; a thread that needs nothing has nothing
    wait_until(lambda: allowed() <= {mask, none}, "the recorder gives up its privileges")
    capabilities_ = capabilities(process.pid)
    output = finish(process)
    assert {value for name, value in capabilities_ if name in ("CapInh", "CapAmb")} == {none}
    assert ("NoNewPrivs", "1") in capabilities_
    # AND the recording came to its end: the trace is whole and the client's counters were read again
    trace = read_trace("trace")
    assert trace.damage is None, output
    assert trace.meta["mounts"][0]["counters_after"]["cvmfs.n_fs_open"] >= 0
    assert trace.meta["mounts"][0]["error"] is None


def test_reading_the_counters_needs_the_capabilities_that_are_kept(workdir, mount):
    # GIVEN a client of another user, whose workspace is closed; THEN without the capabilities its socket is out of reach
    ask = (
        "from cvtrace.probes.capabilities import keep_only, Capability as C\n"
        "from cvtrace.probes.cvmfs.mounts import mount_points, mounts_of\n"
        "from cvtrace.probes.cvmfs.survey import describe\n"
        "from cvtrace.probes.cvmfs.counters import counters\n"
        "import sys\n"
        "[point], _ = mounts_of([sys.argv[1]], mount_points())\n"
        "mount = describe(point)\n"
        "keep_only([C[name] for name in sys.argv[2:]])\n"
        "print(counters(mount).error is None)\n"
    )

    def works(*names: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", ask, mount, *names], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert works("SYS_PTRACE", "DAC_OVERRIDE") == "True"
    assert works("SYS_PTRACE") == "False"
    assert works("DAC_OVERRIDE") == "False"


@pytest.mark.parametrize("probes", RUNGS)
def test_signals_still_reach_a_target_of_another_user(workdir, mount, probes):
    process = start_script(mount, WAITS, probes, **AS_NOBODY)
    wait_until(lambda: ("NoNewPrivs", "0") not in capabilities(process.pid), "no thread can get privileges")
    process.terminate()
    process.wait(DEADLINE_S)  # before its input is closed: that would end it, too
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert read_trace("trace").damage is None


def test_executing_a_program_does_not_regain_dropped_capabilities():
    # GIVEN root without capabilities WHEN it executes a program THEN that has none either, nor as set-user-ID
    program = (
        "import os\nfrom cvtrace.probes.capabilities import keep_only\nkeep_only(())\n"
        "os.execvp('grep', ['grep', 'CapPrm', '/proc/self/status'])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split()[1] == "0" * 16


def test_without_privileges_dropping_them_has_no_effect():
    program = "from cvtrace.probes.capabilities import keep_only, held\nkeep_only(())\nkeep_only(())\nprint(held())\n"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "0\n"


# A target that attacks: it is nobody's, and the recorder root's


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of root's with a file that nobody else may read."""
    folder = tmp_path_factory.mktemp("root")
    open_to_all(folder)
    (folder / "shadow").write_bytes(b"s3cret of root's " * 100)
    (folder / "shadow").chmod(0o600)
    return folder


def untouched(folder: Path) -> bool:
    """Return whether nothing was written into the folder of root's."""
    names = [path.name for path in folder.iterdir()]
    return names == ["shadow"] and (folder / "shadow").read_bytes() == b"s3cret of root's " * 100


def test_a_parent_folder_replaced_by_a_link_is_not_followed(workdir, mount, secret):
    # GIVEN a trace in a folder that the target can rename
    (workdir / "own").mkdir()
    os.chown(workdir / "own", NOBODY, NOBODY)
    swap = f"import os\nos.rename('own', 'moved')\nos.symlink({str(secret)!r}, 'own')\n" + WAITS
    # WHEN it puts a link to a folder of root's in its place while it is recorded
    process = start_script(mount, swap, "portable", "-o", "own/trace", "--no-summary", **AS_NOBODY)
    finish(process)
    # THEN the trace is finished where it was begun, and root's folder is as before
    assert untouched(secret)
    assert read_trace(workdir / "moved/trace").damage is None
    # AND the same holds for the folder of the trace itself
    swap = f"import os\nos.rename('trace', 'taken')\nos.symlink({str(secret)!r}, 'trace')\n" + WAITS
    finish(start_script(mount, swap, "portable", "--no-summary", **AS_NOBODY))
    assert untouched(secret)
    assert read_trace(workdir / "taken").damage is None


@pytest.mark.parametrize(
    "name", ["meta.json", "meta.json.new", "events.parquet", "events.parquet.new", "texts.parquet"]
)
def test_links_planted_in_the_trace_are_not_followed(workdir, mount, secret, name):
    # GIVEN a target that replaces a file of its trace, or one that will be made, by a link
    plant = (
        # in one step: cvtrace writes meta.json anew meanwhile
        f"import os\nos.symlink({str(secret / 'shadow')!r}, 'planted')\nos.replace('planted', 'trace/{name}')\n"
    )
    # WHEN the trace is finished THEN root's file is as before, and no other file is made in root's name
    process = start_script(mount, plant + WAITS, "portable", "--no-summary", **AS_NOBODY)
    finish(process)
    assert untouched(secret)
    assert {path.lstat().st_uid for path in (workdir / "trace").iterdir()} == {NOBODY}


def test_the_summary_shows_nothing_that_the_user_may_not_read(workdir, mount, secret):
    # GIVEN a trace of root's that others may not read
    finish(start_script(mount, WAITS, "portable", "--no-summary"))
    shutil.move(workdir / "trace", secret / "trace")
    os.chown(secret / "trace", 0, 0)
    (secret / "trace").chmod(0o700)
    # WHEN a target puts a link to it in the place of its own
    swap = f"import os\nos.rename('trace', 'moved')\nos.symlink({str(secret / 'trace')!r}, 'trace')\n" + WAITS
    output = finish(start_script(mount, swap, "portable", **AS_NOBODY))
    # THEN the summary is not made from it
    assert "the summary could not be written" in output
    assert "Permission denied" in output or "cannot read" in output


def marks_attack(manner: str, secret: Path) -> str:
    """Return a script that does something to the file of marks that it is given."""
    return (
        f"import os\nmarks = os.environ['CVTRACE_MARKS']\nos.path.lexists(marks) and os.unlink(marks)\n{manner.format(secret=str(secret))}\n"
        + WAITS
    )


@pytest.mark.parametrize(
    "manner",
    [
        "os.symlink('{secret}/shadow', marks)",
        "os.mkfifo(marks)",
        "os.mkdir(marks)",
        "os.symlink('/dev/zero', marks)",
        "os.symlink('/proc/kmsg', marks)",
        "open(marks, 'wb').write(os.urandom(1_000_001))",
        "open(marks, 'wb').truncate(1 << 40)",
        "os.rename(os.path.dirname(marks), 'gone'); os.symlink('{secret}', os.path.dirname(marks))",
    ],
    ids=["link", "fifo", "folder", "endless", "kernel", "garbage", "huge", "swapped folder"],
)
def test_a_hostile_file_of_marks_is_not_read(workdir, mount, secret, manner):
    # GIVEN a target that replaces the file of marks WHEN it is recorded
    process = start_script(mount, marks_attack(manner, secret), "portable", "--no-summary", **AS_NOBODY)
    finish(process)
    # THEN the recording ends, no mark comes from there, and root's files are as before
    trace = read_trace("trace")
    assert trace.damage is None
    assert set(trace.events["kind"].tolist()) <= {Kind.COUNTER}  # the recorder's own samples
    assert untouched(secret)
    assert b"s3cret" not in b"".join(path.read_bytes() for path in (workdir / "trace").iterdir())


def test_impossible_marks_are_left_out(tmp_path):
    # GIVEN marks from the future, of a function that does not exist, longer than time itself, and a good one
    now_ns = time.monotonic_ns()
    marks = np.zeros(5, dtype=EVENT)
    marks["kind"] = Kind.PHASE
    marks["ts"] = now_ns - 10**9
    marks["dur"] = 1000
    marks["ts"][1] = 2**64 - 1
    marks["a"][2] = 10**6
    marks["dur"][3] = 2**64 - 1
    marks["kind"][4] = Kind.FUSE_SEND
    (tmp_path / "marks").write_bytes(marks.tobytes() + b"half a record")
    # THEN only that one is read
    read, _ = read_marks(tmp_path / "marks")
    assert read["ts"].tolist() == [now_ns - 10**9]


def test_other_users_cannot_open_the_files_of_a_recording(workdir, mount):
    # GIVEN recordings that use marks, and strace's log
    process = start_script(mount, WAITS, "strace", **AS_NOBODY)
    log = next(
        Path(os.fsdecode(word))
        for pid in Path("/proc").glob("[0-9]*")
        for word in cmdline(pid)
        if word.startswith(b"/") and b"cvtrace-strace-" in word
    )
    # THEN only the target's user may write its log, and only root may put something in its place
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (log.stat().st_uid, log.parent.stat().st_uid) == (NOBODY, 0)
    assert not log.parent.stat().st_mode & 0o022
    finish(process)
    assert not log.parent.exists()
    process = start_script(
        mount,
        "import os\nopen('where', 'w').write(os.environ['CVTRACE_MARKS'])\n" + WAITS,
        "portable",
        "--force",
        **AS_NOBODY,
    )
    marks = Path(Path("where").read_text())
    assert stat.S_IMODE(marks.parent.stat().st_mode) == 0o700
    assert marks.parent.stat().st_uid == NOBODY
    finish(process)
    assert not marks.parent.exists()


def cmdline(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
