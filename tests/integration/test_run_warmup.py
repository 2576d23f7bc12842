"""`cvtrace run --warmup` on a real mount: what the run fetches after it, what is counted as the run's, and what ends it before the script."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import Lab, LabMount, lab
from unprivileged import NOBODY, as_nobody, cannot
from waiting import wait_until

from cvtrace.analysis.summary.assemble import analyse
from cvtrace.lab.origin import Injection
from cvtrace.lab.publish import publish
from cvtrace.tracer.store import read_trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs are recorded with eBPF")]

CHUNK = 1_000_000
FILES = {"model/weights": os.urandom(4 * CHUNK), "model/config": b"a" * 5000, "model/unused": b"b" * 5000}
OBJECTS = 5
SCRIPT = """
import sys
for name in ("config", "weights"):
    with open(f"{sys.argv[1]}/{name}", "rb") as file:
        while file.read(100_000):
            pass
raise SystemExit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), FILES, chunk_size=CHUNK) as served:
        served.folder.chmod(0o755)
        yield served


@pytest.fixture
def mounted(served: Lab, tmp_path: Path) -> Iterator[LabMount]:
    (tmp_path / "script.py").write_text(SCRIPT)
    with served.mount(cache=tmp_path / "cache") as mount:
        list((mount.root / "model").iterdir())  # the catalog is there
        yield mount


def command(*options: str | Path, script: Path, model: Path, code: int = 0) -> list[str]:
    words = [sys.executable, "-m", "cvtrace", "run", "--no-summary", *options, script, model, code]
    return [str(word) for word in words]


def run(*arguments: str | Path, **more: int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, **more), capture_output=True, text=True, timeout=120, check=False)


def record(mounted: LabMount, folder: Path) -> Path:
    done = run(
        "--mount", mounted.root, "-o", folder / "first", script=folder / "script.py", model=mounted.root / "model"
    )
    assert done.returncode == 0, done.stderr
    mounted.talk("cleanup 0")
    mounted.drop_caches()
    return folder / "first"


def test_a_run_after_its_warm_up_fetches_nothing_and_has_none_of_its_reads(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN the trace of a cold run, and empty caches
    first = record(mounted, tmp_path)
    before = len(mounted.gets())
    # WHEN the script runs again after a warm-up, and ends with an exit code of its own
    trace = tmp_path / "second"
    done = run(
        "--mount",
        mounted.root,
        "-o",
        trace,
        "--warmup",
        first,
        script=tmp_path / "script.py",
        model=mounted.root / "model",
        code=7,
    )
    # THEN the exit code is the script's, and the warm-up fetched each object once
    assert done.returncode == 7, done.stderr
    assert f"{OBJECTS} objects of 2 files" in done.stderr
    assert len(mounted.gets()) - before == OBJECTS
    # and nothing of that is in the trace: no fetch, of nobody, and no request but the target's
    report = analyse(read_trace(trace))
    assert report.fetches == ()
    assert {check.name: (check.traced, check.client) for check in report.checks}["http_fetches"] == (0, 0)
    assert all(check.agree for check in report.checks)
    assert sum(file.opens for file in report.files) == 2


def test_of_a_folder_all_files_are_fetched_also_without_privileges(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a user without privileges
    if reason := cannot():
        pytest.skip(reason)
    os.chown(tmp_path, NOBODY, NOBODY)
    before = len(mounted.gets())
    # WHEN a run with the portable probe warms a folder up first
    words = command(
        *("--probes", "portable", "-o", tmp_path / "trace", "--warmup", mounted.root / "model"),
        script=tmp_path / "script.py",
        model=mounted.root / "model",
    )
    done = subprocess.run(
        as_nobody(words, tmp_path, mounted.root), capture_output=True, text=True, timeout=120, check=False
    )
    # THEN all three files are fetched before, and the client counts no download in the run
    assert done.returncode == 0, done.stderr
    assert len(mounted.gets()) - before == OBJECTS + 1
    report = analyse(read_trace(tmp_path / "trace"))
    fetched = [phase.http_fetches for phase in report.phases if phase.http_fetches]
    assert fetched == []


def test_a_trace_of_another_revision_or_of_missing_files_is_said(
    served: Lab, mounted: LabMount, tmp_path: Path
) -> None:
    # GIVEN a trace, and then a revision without one of its files
    first = record(mounted, tmp_path)
    folder = tmp_path / "changed"
    (folder / "model").mkdir(parents=True)
    (folder / "model/weights").write_bytes(FILES["model/weights"])
    (tmp_path / "script.py").write_text("print('ran')")
    subprocess.run(["umount", mounted.root], check=True)
    publish(folder, fqrn=served.published.fqrn, store=served.folder / "store", chunk_size=CHUNK)
    with served.mount(cache=tmp_path / "cache2") as again:
        arguments = ("--mount", again.root, "--warmup", first)
        # WHEN a run is warmed up with it
        done = run(*arguments, "-o", tmp_path / "second", script=tmp_path / "script.py", model=again.root)
        # THEN what is missing, and that the revisions differ, is said, and the run goes on
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        assert "model/config is not there any more: the run may need other files now" in done.stderr
        assert re.search(r"the trace is of revision \d of test.example.org, and revision \d is mounted", done.stderr)
        # AND WHEN nothing of it is there
        (folder / "model/weights").rename(folder / "other")
    publish(folder, fqrn=served.published.fqrn, store=served.folder / "store", chunk_size=CHUNK)
    with served.mount(cache=tmp_path / "cache3") as empty:
        done = run(
            *("--mount", empty.root, "--warmup", first, "-o", tmp_path / "third"),
            script=tmp_path / "script.py",
            model=empty.root,
        )
        # THEN the script is not started, with the exit code of wrong use
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "none of 2 files that the run of" in done.stderr
        assert "script.py is not started, as the warm-up did not succeed" in done.stderr
        assert not (tmp_path / "third").exists()
    publish(served.folder / "source", fqrn=served.published.fqrn, store=served.folder / "store", chunk_size=CHUNK)


@pytest.mark.parametrize("to_group", [True, False], ids=["from a terminal", "to cvtrace alone"])
def test_ctrl_c_in_the_warm_up_ends_it_and_starts_no_script(
    served: Lab, mounted: LabMount, tmp_path: Path, to_group: bool
) -> None:
    # GIVEN a server that takes long for each object
    served.origin.injections = (Injection(match="*/data/*", first_byte_delay_s=3.0),)
    before = mounted.counters()["download.n_requests"]
    try:
        words = command(
            *("--mount", mounted.root, "-o", tmp_path / "trace", "--warmup", mounted.root / "model"),
            script=tmp_path / "script.py",
            model=mounted.root / "model",
        )
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        # WHEN Ctrl-C comes in the warm-up
        wait_until(lambda: mounted.counters()["download.n_requests"] > before, "an object is being fetched")
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
        # THEN the exit code says so, no script has run, there is no trace, and no process is left
        assert process.returncode == 130, stderr
        assert "stopped: " in stderr
        assert "Traceback" not in stderr
        assert not (tmp_path / "trace").exists()
        wait_until(lambda: not members(process.pid), "no process of the run is left")
    finally:
        served.origin.injections = ()


def members(group: int) -> list[str]:
    """Return the processes of a group that run, as ps(1) prints them; what nobody has reaped does not."""
    listing = subprocess.run(["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = (line.split(None, 2) for line in listing.stdout.splitlines())
    return [" ".join(words) for words in lines if words[0] == str(group) and not words[1].startswith("Z")]


def test_what_would_fail_later_fails_before_the_warm_up(mounted: LabMount, tmp_path: Path) -> None:
    # GIVEN a folder in the place of the trace, and a path that is no trace and not on CVMFS
    (tmp_path / "there").mkdir()
    before = len(mounted.gets())
    wrong = {
        "is already there: choose another folder": ("-o", tmp_path / "there", "--warmup", mounted.root / "model"),
        "there is no ": ("-o", tmp_path / "new", "--warmup", tmp_path / "nothing"),
        "is on a CVMFS mount": ("-o", tmp_path / "new", "--warmup", tmp_path),
    }
    for sentence, arguments in wrong.items():
        # WHEN a run is to warm up / THEN one sentence says what is wrong, and nothing is fetched or recorded
        done = run(*arguments, script=tmp_path / "script.py", model=mounted.root / "model")
        assert done.returncode in (2, 3), done.stderr
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "new").exists()
    assert len(mounted.gets()) == before
