"""`cvtrace bench` on a real mount: the states it claims against what the server was asked for, and what an interruption leaves."""

from __future__ import annotations

import csv
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import LabMount, lab
from tiny import open_to_all
from unprivileged import run_as_nobody
from waiting import wait_until

from cvtrace.analysis.bench import Bench, Run, read_bench
from cvtrace.experiment.copies import LocalCopy
from cvtrace.lab.stack import Options, temporary
from cvtrace.tracer.user import user_named

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: caches are emptied and looked at, and runs are recorded"),
]

CHUNK = 1_000_000
CHUNKS = 6
REAL = os.environ.get("CVTRACE_TEST_CVMFS2", "")
READS = """
import sys
import cvtrace
with cvtrace.phase("load"):
    for name in ("weights", "config"):
        with open(f"{sys.argv[1]}/{name}", "rb") as file:
            while file.read(1 << 20):
                pass
print("done")
"""
READS_ALL = """
import pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    path.read_bytes()
"""
READS_MORE = (
    READS
    + """
import pathlib
count = pathlib.Path(sys.argv[2])
number = int(count.read_text()) if count.exists() else 0
count.write_text(str(number + 1))
pathlib.Path(sys.argv[1], "..", "others", f"{number:02d}").read_bytes()
"""
)
"""Reads another file in each run, which no argument names."""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("bench")
    open_to_all(folder)
    files = {"model/weights": os.urandom(CHUNKS * CHUNK), "model/config": b"a" * 5000}
    files |= {f"others/{number:02d}": os.urandom(5000) for number in range(20)}
    with lab(folder, files, chunk_size=CHUNK) as served, served.mount() as mount:
        yield mount


@pytest.fixture
def script(workdir: Path) -> Path:
    """Write the script into the folder that the test works in."""
    path = workdir / "reads.py"
    path.write_text(READS)
    return path


def bench(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvtrace", "bench", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environ}
    )


def measured(*arguments: str | Path, **environ: str) -> Bench:
    done = bench("-o", "out", *arguments, **environ)
    assert done.returncode == 0, done.stderr
    return read_bench("out")


def last_tries(made: Bench) -> list[Run]:
    """Return each run of the plan once: a machine that reclaims pages during a run has it repeated."""
    return list({(run.variant, run.state, run.round, run.traced): run for run in made.runs}.values())


def test_runs_are_in_the_states_that_they_claim(mounted: LabMount, script: Path) -> None:
    # WHEN a script is measured in all states, the order by a seed
    done = bench("-o", "out", "--repeats", "1", "--seed", "1", script, mounted.root / "model")
    assert done.returncode == 0, done.stderr
    made = read_bench("out")
    # THEN each run was verified, and the client served what the state says: all objects, reads alone, nothing
    runs = last_tries(made)
    assert all(run.verified for run in runs), [run.reason for run in made.runs]
    assert len(runs) == 5 * 2
    for run in runs:
        assert run.fetches == (CHUNKS + 1 if run.state == "cold" else 0), run
        assert bool(run.reads) == (run.state not in ("hot", "local")), run
        assert run.load_s is not None
        assert run.total_s is not None
        assert 0 < run.load_s < run.total_s
    # and one run in each state was traced, and shows where its load went
    traced = [run for run in runs if run.traced]
    assert {run.state for run in traced} == set(made.info.states)
    for run in traced:
        assert sum(run.classes.values()) == pytest.approx(run.load_s, rel=0.05)
        assert Path("out", run.trace, "meta.json").exists()
    # and the table, the page and both files are there, and no copy
    assert "× local" in done.stdout
    assert "seed 1" in done.stderr
    assert len(list(csv.DictReader(Path("out/runs.csv").read_text().splitlines()))) == len(made.runs)
    assert {path.name for path in Path("out").iterdir()} == {
        "bench.json",
        "bench.html",
        "runs.csv",
        "runs.parquet",
        "traces",
        "output",
    }


def test_a_path_inside_the_script_leads_to_the_copy_too(mounted: LabMount, workdir: Path) -> None:
    model = mounted.root / "model"
    (workdir / "reads.py").write_text(READS.replace("{sys.argv[1]}", str(model)))
    made = measured("--states", "hot,local", "--repeats", "1", "--model", model, "reads.py")
    assert {run.state for run in made.runs if run.verified} == {"hot", "local"}
    # the mount is as it was
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "local-copy" in line]


@pytest.mark.parametrize("replaced", ["copy", "folder of the copy", "files"])
def test_a_link_in_the_place_of_the_copy_or_of_the_files_is_not_bound(
    mounted: LabMount, workdir: Path, replaced: str
) -> None:
    # GIVEN a copy that another user owns, who put a link to a folder of root's in the place of something
    secret, nobody = workdir / "secret", user_named("nobody")
    secret.mkdir()
    model = mounted.root / "model"
    original = workdir / "model"
    original.symlink_to(secret if replaced == "files" else model)
    (workdir / "copy").mkdir()
    if replaced != "folder of the copy":
        (workdir / "copy" / "0").mkdir()
    if replaced == "copy":
        (workdir / "copy" / "0" / "model").symlink_to(secret)
    elif replaced == "folder of the copy":
        (secret / "model").mkdir()
        (workdir / "copy" / "0").symlink_to(secret)
        os.lchown(workdir / "copy" / "0", nobody.uid, nobody.gid)
    else:
        (workdir / "copy" / "0" / "model").mkdir()
        os.chown(workdir / "copy" / "0" / "model", nobody.uid, nobody.gid)
    pairs = ((str(original), str(workdir / "copy" / "0" / "model")),)
    copy = LocalCopy(workdir / "copy", pairs, 1, nobody, frozenset({model.stat().st_dev}))
    # WHEN a run is prepared THEN nothing is bound
    with pytest.raises(subprocess.SubprocessError):
        subprocess.run(["true"], preexec_fn=copy.bind, check=False)


def test_variants_are_rows_of_one_table(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a script that reads a folder, and two folders of the repository
    (workdir / "all.py").write_text(READS_ALL)
    sizes = {"large": mounted.root / "model", "small": mounted.root / "others"}
    variants = [word for name, path in sizes.items() for word in ("--variant", f"{name}={path}")]
    # WHEN both are measured in one experiment
    made = measured("--states", "cold", "--repeats", "1", *variants, "all.py")
    # THEN each has its row and its files, and a cold run of each fetched these
    assert [row.variant for row in made.summary] == ["large", "small"]
    assert {cell.variant: cell.objects for cell in made.info.cells} == {"large": CHUNKS + 1, "small": 20}
    assert {(run.variant, run.fetches) for run in made.runs} == {("large", CHUNKS + 1), ("small", 20)}


def test_a_sweep_of_the_delay_finds_the_requests_that_wait_for_each_other(workdir: Path) -> None:
    # GIVEN a script that reads a model file after file
    (workdir / "all.py").write_text(READS_ALL)
    # WHEN it is measured on a lab whose server waits before each answer
    sweep = ["--lab", "size=2MB", "--sweep", "delay=0ms,100ms,300ms", "--states", "cold", "--repeats", "1"]
    made = measured(*sweep, "all.py", "{model}")
    # THEN the law has as many requests, one after the other, as there are objects
    (law,) = made.laws
    requests = next(each.value for each in law.coefficients if each.name == "b")
    assert made.info.cells[0].objects == pytest.approx(requests, rel=0.5)
    assert {run.sweep_value for run in made.runs if run.verified} == {0.0, 0.1, 0.3}


def test_a_run_that_fetched_in_a_warm_state_is_left_out_and_repeated_once(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a script that reads a file which no argument names, another one each time
    (workdir / "more.py").write_text(READS_MORE)
    mounted.talk("cleanup 0")  # other tests read these files, too
    # WHEN it is measured in a state in which nothing may be fetched
    done = bench("-o", "out", "--states", "warm-disk", "--repeats", "1", "more.py", mounted.root / "model", "count")
    # THEN every run is marked, repeated once, and in no figure
    made = read_bench("out")
    assert [(run.traced, run.repeated) for run in made.runs if not run.traced] == [(False, False), (False, True)]
    assert not any(run.verified for run in made.runs)
    assert all("fetched 1 object" in run.reason for run in made.runs)
    assert made.summary[0].load_s is None
    assert done.returncode == 1


def test_an_interruption_keeps_the_finished_runs_and_the_same_command_continues(
    mounted: LabMount, script: Path
) -> None:
    arguments = ["-o", "out", "--states", "hot,local", "--repeats", "3", str(script), str(mounted.root / "model")]
    command = [sys.executable, "-m", "cvtrace", "bench", *arguments]
    # GIVEN a bench that was interrupted when two runs had ended
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(rows()) >= 2 or process.poll() is not None, "two runs have ended")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "the same command continues" in stderr
    before = read_bench("out")
    assert 2 <= len(before.runs) < 8
    assert not before.info.finished
    assert not list(Path("out").glob("local-copy-*"))
    # WHEN the same command is given again
    done = bench(*arguments)
    # THEN the runs that were there are kept, and the others are made in the same order
    assert done.returncode == 0, done.stderr
    after = read_bench("out")
    assert after.runs[: len(before.runs)] == before.runs
    assert (after.info.seed, after.info.finished, len(after.runs)) == (before.info.seed, True, 8)
    # AND WHEN it is given once more
    again = bench(*arguments)
    # THEN it refuses to replace what is finished
    assert again.returncode == 2
    assert "--force replaces it" in again.stderr


def rows() -> list[str]:
    try:
        return Path("out/runs.csv").read_text().splitlines()[1:]
    except FileNotFoundError:
        return []


def test_under_sudo_the_script_runs_as_the_caller_who_owns_the_results(mounted: LabMount, workdir: Path) -> None:
    caller = pwd.getpwnam("nobody")
    (workdir / "who.py").write_text(READS + "import os\nassert os.getuid() == int(sys.argv[2])\n")
    workdir.chmod(0o777)
    environ = {"SUDO_UID": str(caller.pw_uid), "SUDO_GID": str(caller.pw_gid), "SUDO_USER": caller.pw_name}
    made = measured(
        "--states",
        "warm-memory,local",
        "--repeats",
        "1",
        "who.py",
        mounted.root / "model",
        str(caller.pw_uid),
        **environ,
    )
    assert all(run.verified for run in last_tries(made)), [run.reason for run in made.runs]
    for path in (Path("out"), *Path("out").rglob("*")):
        assert path.stat().st_uid == caller.pw_uid, path


def test_traced_and_untraced_runs_are_those_of_the_user_who_is_named(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a script that only one user may run
    user = pwd.getpwnam("nobody")
    (workdir / "who.py").write_text(READS + "import os\nassert os.getuid() == int(sys.argv[2])\n")
    workdir.chmod(0o777)
    # WHEN root measures it for this user
    words = ["--user", user.pw_name, "--states", "hot", "--repeats", "1"]
    made = measured(*words, "who.py", mounted.root / "model", str(user.pw_uid))
    # THEN both kinds of runs are the user's, and so are the results
    assert {run.traced for run in made.runs} == {True, False}
    assert all(run.verified for run in last_tries(made)), [run.reason for run in made.runs]
    for path in (Path("out"), *Path("out").rglob("*")):
        assert path.stat().st_uid == user.pw_uid, path


WRONG = {
    "there is no script": (2, ["nothing.py", "{model}"]),
    "no argument names a path on CVMFS": (2, ["reads.py", "/etc/passwd"]),
    "there is no /nothing/here on a CVMFS mount": (2, ["--model", "/nothing/here", "reads.py", "{model}"]),
    "is not a state": (2, ["--states", "lukewarm", "reads.py", "{model}"]),
    "exit code 1 (IndexError": (2, ["--model", "{model}", "reads.py"]),
    "name another folder with --copy-to": (2, ["--states", "local", "--copy-to", "/proc", "reads.py", "{model}"]),
    "write {model} into the arguments": (2, ["--lab", "size=4MB", "reads.py", "x"]),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_use_is_one_sentence_and_leaves_nothing(mounted: LabMount, script: Path, sentence: str) -> None:
    before = len(mounted.gets())
    code, arguments = WRONG[sentence]
    done = bench(
        "-o",
        "out",
        *(
            word.replace("{model}", str(mounted.root / "model"), 1) if word.startswith("{model}") else word
            for word in arguments
        ),
    )
    assert (sentence in done.stderr, done.returncode) == (True, code), done.stderr
    assert "Traceback" not in done.stderr
    assert len(mounted.gets()) - before <= CHUNKS + 1  # by the first run, which is not measured
    if "exit code" not in sentence:
        assert not Path("out").exists()


def test_who_may_not_empty_the_cache_is_refused_before_anything_is_changed(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a full cache, and a user who is neither root nor the owner of the client
    for name in ("weights", "config"):
        (mounted.root / "model" / name).read_bytes()
    before = mounted.cached_objects()
    workdir.chmod(0o777)
    (workdir / "reads.py").write_text(READS)
    # WHEN that user measures
    command = [sys.executable, "-m", "cvtrace", "bench", "-o", "out", "reads.py", mounted.root / "model"]
    done = run_as_nobody(command, workdir, mounted.root, cwd=workdir)
    # THEN one sentence names the way out, and the cache is as it was
    assert done.returncode == 3, done.stderr
    assert "sudo" in done.stderr
    assert mounted.cached_objects() == before
    assert not Path("out").exists()


def test_a_state_that_the_quota_forbids_is_refused(tmp_path: Path, workdir: Path) -> None:
    files = {"model/weights": os.urandom(3_000_000), "model/config": b"a"}
    (workdir / "reads.py").write_text(READS)
    folder = tmp_path / "small"
    folder.mkdir()
    with lab(folder, files, chunk_size=CHUNK) as served, served.mount(quota_bytes=2 << 20) as mount:
        done = bench("--states", "cold,warm-disk", "-o", "out", "reads.py", mount.root / "model")
    assert done.returncode == 3, done.stderr
    assert "warm-disk cannot be reached" in done.stderr
    assert "CVMFS_QUOTA_LIMIT" in done.stderr


@pytest.mark.skipif(not REAL, reason="CVTRACE_TEST_CVMFS2 names no real client")
def test_the_states_of_cvmfs2(script: Path) -> None:
    with temporary(Options(size_bytes=12_000_000, client=REAL, chunk_bytes=CHUNK)) as stack:
        # GIVEN a real client WHEN nobody agreed to the emptying of its cache THEN it is not touched
        script.write_text(READS.replace("weights", "model.onnx.data").replace("config", "model.onnx"))
        refused = bench("-o", "out", script, stack.model)
        assert refused.returncode == 2
        assert "--yes agrees" in refused.stderr
        assert str(stack.mountpoint) in refused.stderr
        # WHEN it is measured in all states THEN each run is in its state
        made = measured("--yes", "--repeats", "1", script, stack.model)
    assert all(run.verified for run in made.runs), [run.reason for run in made.runs]
    assert all(bool(run.fetches) == (run.state == "cold") for run in made.runs)
    assert "cvmfs2 2." in made.info.versions["client"]
