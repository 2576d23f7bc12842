"""Runs of `cvtrace bench` that hang, and runs of programs that are not Python, on real mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import LabMount, lab
from tiny import open_to_all
from waiting import wait_until

from cvtrace.analysis.bench import read_bench
from cvtrace.experiment import launch, states
from cvtrace.experiment.files import look
from cvtrace.experiment.holding import held
from cvtrace.experiment.request import experiment_of
from cvtrace.experiment.settings import round_of
from cvtrace.probes.phases.library import find_libraries
from cvtrace.probes.residency.cache_files import drop_from_memory
from cvtrace.probes.residency.survey import drop_pages
from cvtrace.tracer.user import user_named

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: caches are emptied and looked at, and runs are recorded"),
]

READS_ALL = """
import pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    path.read_bytes()
"""
LIBRARIES = find_libraries(sys.executable, {})
ORT = [
    str(path) for library in LIBRARIES for path in Path(library).parents[1].glob("onnxruntime/capi/libonnxruntime.so*")
]
HANGS = """
import os, pathlib, signal, sys, time
pathlib.Path(sys.argv[1], "weights").read_bytes()
count = pathlib.Path(sys.argv[2])
number = int(count.read_text()) if count.exists() else 0
count.write_text(str(number + 1))
if number == int(sys.argv[3]):
    signal.signal(signal.SIGTERM, getattr(signal, sys.argv[4]))
    print(f"hangs as {os.getpid()}", flush=True)
    time.sleep(600)
"""
"""Hangs in the run of that number, the first of which is not measured, and lets itself be ended or not."""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("hangs")
    open_to_all(folder)
    with lab(folder, {"model/weights": os.urandom(1_000_000)}) as served, served.mount() as mount:
        yield mount


def bench(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvtrace", "bench", "-o", "out", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environ}
    )


def seed_with_first_run(*, traced: bool) -> str:
    """Return a seed whose first run is of that kind."""
    seeds = (n for n in range(100) if round_of(experiment_of(["x"], states="hot", seed=n), 0)[0].traced == traced)
    return str(next(seeds))


def test_a_run_that_hangs_is_ended_and_the_rest_goes_on(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a script that hangs in its first run that is measured, and does not let itself be ended
    (workdir / "hangs.py").write_text(HANGS)
    words = ["--states", "hot", "--repeats", "1", "--timeout", "4", "--seed", seed_with_first_run(traced=False)]
    # WHEN it is measured with a limit
    done = bench(*words, "hangs.py", mounted.root / "model", "count", "1", "SIG_IGN")
    # THEN that run is marked and repeated, and the others are there
    assert done.returncode == 0, done.stderr
    hung, again, traced = read_bench("out").runs
    assert (hung.verified, hung.exit_code) == (False, 124)
    assert "did not end within 4 s" in hung.reason
    assert (again.repeated, again.verified, traced.verified) == (True, True, True)
    # and no process of it is left
    assert is_gone(Path("out/output", f"{hung.order:04d}-run-hot.txt"))


def is_gone(output: Path) -> bool:
    """Return whether the process that printed its number has ended, if it came to print one."""
    _, began, number = output.read_text().partition("hangs as ")
    return not began or not Path("/proc", number.split()[0]).exists()


def test_a_traced_run_that_hangs_is_ended_with_its_script(
    mounted: LabMount, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "hangs.py").write_text(HANGS)
    monkeypatch.setattr(launch, "RECORDER_S", 6.0)
    user = user_named("root")
    argv = ("hangs.py", str(mounted.root / "model"), "count", "0", "SIG_DFL")
    script = launch.Script(argv, None, workdir, user, user, timeout_s=1.0)

    ended = launch.run_traced(script, None, workdir / "printed", workdir / "trace", [str(mounted.root)])

    assert "did not end within 8 s" in ended.trouble
    assert is_gone(workdir / "printed")


def test_a_script_that_hangs_in_the_first_run_is_not_measured(mounted: LabMount, workdir: Path) -> None:
    (workdir / "hangs.py").write_text(HANGS)
    words = ["--timeout", "4", "--states", "hot", "hangs.py", mounted.root / "model", "count", "0", "SIG_DFL"]
    done = bench(*words)
    assert (done.returncode, "did not end within 4 s" in done.stderr) == (2, True), done.stderr


CALLER = """
void *OgaCreateModel(const char *, void **);
int main(int argc, char **argv) {
  void *model = 0;
  return OgaCreateModel(argv[1], &model) != 0;
}
"""
"""A C program that loads a model."""


def linked(source: str, program: Path, *libraries: str) -> Path:
    """Compile a program that finds its libraries where they are."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    program.with_suffix(".c").write_text(source)
    (program.parent / "libonnxruntime.so.1").symlink_to(ORT[0])  # its name in itself; in the wheel it has another
    folders = ":".join([str(program.parent), *(str(Path(library).parent) for library in libraries)])
    options = [
        "-Wl,--no-as-needed",
        "-Wl,--unresolved-symbols=ignore-all",
        "-Wl,--disable-new-dtags",
        f"-Wl,-rpath,{folders}",
    ]
    subprocess.run([compiler, "-o", program, program.with_suffix(".c"), *options, *libraries], check=True)
    return program


@pytest.mark.skipif(not ORT, reason="needs onnxruntime-genai")
def test_the_load_of_a_c_program_is_measured_in_untraced_runs(workdir: Path) -> None:
    # GIVEN a program that is no script, and calls the library of GenAI
    program = linked(CALLER, workdir / "caller", LIBRARIES[0], ORT[0])
    # WHEN it is measured
    words = ["--lab", "size=2MB", "--states", "hot", "--repeats", "2", program, "{model}"]
    done = bench(*words, ORT_DISABLE_TELEMETRY="1")
    # THEN the untraced runs have its load, which is a part of their time, and nothing of their recording is kept
    assert done.returncode == 0, done.stderr
    untraced = [run for run in read_bench("out").runs if not run.traced]
    assert all(run.load_s is not None and run.total_s is not None and 0 < run.load_s < run.total_s for run in untraced)
    assert len(list(Path("out/traces").iterdir())) == sum(run.traced for run in read_bench("out").runs)


def test_a_program_whose_calls_are_not_seen_has_its_total_and_is_said_to(mounted: LabMount, workdir: Path) -> None:
    words = ["--states", "hot", "--repeats", "1", "cat", mounted.root / "model" / "weights"]
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    assert all(run.load_s is None and run.total_s for run in read_bench("out").runs)
    assert "no call that loads a model was seen" in done.stdout


def test_a_sweep_of_the_quota_measures_what_each_cache_can_hold(workdir: Path) -> None:
    # GIVEN a script that reads a model, and a client's cache that is smaller than the model, and one that is larger
    (workdir / "all.py").write_text(READS_ALL)
    lab_and_states = ["--lab", "size=4MB,chunk=1MB", "--states", "warm-disk,hot", "--repeats", "1"]
    # WHEN both are measured
    done = bench(*lab_and_states, "--sweep", "quota=3MB,40MB", "all.py", "{model}")
    # THEN what the smaller one cannot hold is left out with a sentence, and the rest is measured and plotted
    made = read_bench("out")
    measured = {(run.sweep_value, run.state) for run in made.runs if run.counts}
    assert measured == {(3e6, "hot"), (40e6, "warm-disk"), (40e6, "hot")}, [run.reason for run in made.runs]
    assert "warm-disk cannot be reached" in done.stderr
    assert "3.00 MB" in Path("out/bench.html").read_text()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("state", ["hot", "warm-memory"])
def test_what_a_state_has_in_memory_stays_there_until_the_run_has_ended(mounted: LabMount, state: str) -> None:
    # GIVEN a state that is reached and held
    place = look([str(mounted.root / "model")], (), Path.cwd(), user_named("root"))

    def drop() -> None:
        """Have the kernel drop all pages that no process has mapped, as it does where memory is short."""
        if state == "hot":
            drop_pages(place.files)
        for mount in place.mounts:
            assert mount.daemon is not None
            drop_from_memory(mount.daemon.pid, place.hashes_of(mount))

    states.bring_about(state, place, None)
    with held(state, place, None):
        # WHEN its pages are dropped THEN they stay
        before = states.count(place)
        drop()
        assert states.why_not(state, place, None) == ""
        assert states.counted(before, states.count(place)).reads == 0
    # and go afterwards
    drop()
    assert "in the page cache before the run" in states.why_not(state, place, None)


def test_an_interruption_before_any_run_has_ended_keeps_nothing_and_says_so(mounted: LabMount, workdir: Path) -> None:
    # GIVEN a bench whose first run, which is not measured, hangs
    (workdir / "hangs.py").write_text(HANGS)
    words = ["--states", "hot", "hangs.py", str(mounted.root / "model"), "count", "0", "SIG_DFL"]
    command = [sys.executable, "-m", "cvtrace", "bench", "-o", "out", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: Path("count").exists() or process.poll() is not None, "the script has begun")
        # WHEN it is interrupted
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    # THEN nothing is left, and nothing else is claimed
    assert (process.returncode, "no run had ended" in stderr) == (130, True), stderr
    assert not Path("out").exists()
