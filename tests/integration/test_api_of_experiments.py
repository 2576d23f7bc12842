"""`cvtrace.bench` on a real mount, and what `cvtrace check` and `compare` say of a script that became slower."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_mount import LabMount, lab
from tiny import open_to_all
from waiting import wait_until

import cvtrace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: caches are emptied and looked at, and runs are recorded"),
]

CHUNK = 1_000_000
SLEEPS_S = 0.5
READS = """
import sys, time
import cvtrace
with cvtrace.phase("load"):
    with open(sys.argv[1], "rb") as file:
        while file.read(1 << 20):
            pass
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabMount]:
    folder = tmp_path_factory.mktemp("api")
    open_to_all(folder)
    with lab(folder, {"weights": os.urandom(2 * CHUNK)}, chunk_size=CHUNK) as served, served.mount() as mount:
        yield mount


@pytest.fixture
def script(workdir: Path) -> Path:
    path = workdir / "reads.py"
    path.write_text(READS)
    return path


def measured(script: Path, mount: LabMount, output: str, sleep_s: float) -> cvtrace.Bench:
    return cvtrace.bench(
        script, mount.root / "weights", str(sleep_s), output=output, states=["hot"], repeats=3, seed=1, yes=True
    )


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cvtrace", *words], capture_output=True, text=True, check=False)


def test_a_script_that_became_slower_is_noticed(
    mounted: LabMount, script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # GIVEN an experiment, and one with a script that sleeps in its load
    before = measured(script, mounted, "before", 0.0)
    after = measured(script, mounted, "after", SLEEPS_S)
    printed = capfd.readouterr()

    # THEN what the command says is passed on, and its table is not printed
    assert "seed 1" in printed.err
    assert printed.out == ""
    # AND the runs are those of the experiment, with the caches in the state that it claims
    runs = after.runs
    assert runs.loc[~runs["traced"], "state"].value_counts().to_dict() == {"hot": 3}
    assert (runs.loc[runs["verified"], "fetches"] == 0).all()
    # AND the load is slower for certain, by as much as it slept
    changes = cvtrace.compare(before, after).changes.set_index(["of", "name"])
    assert changes.loc[("hot", "load_s"), "certain"]
    assert changes.loc[("hot", "load_s"), "low"] > 0.5 * SLEEPS_S
    # AND a check fails, with JUnit XML
    failed = command("check", "after", "--against", "before", "--junit", "out.xml")
    assert failed.returncode == 1
    assert "failed: hot.load_s is not higher" in failed.stdout
    assert "<failure" in Path("out.xml").read_text()
    assert command("check", "before", "hot.fetches == 0").returncode == 0


def test_what_the_command_refuses_is_an_error_with_its_sentence(script: Path, mounted: LabMount) -> None:
    with pytest.raises(cvtrace.BenchError, match="tepid") as raised:
        cvtrace.bench(script, mounted.root / "weights", "0", output="out", states=["tepid"], yes=True)
    assert raised.value.exit_code == 2

    with pytest.raises(cvtrace.BenchError, match=r"missing\.py"):
        cvtrace.bench("missing.py", mounted.root / "weights", output="out", states=["hot"], yes=True)
    assert not Path("out/bench.json").exists()


def test_an_interruption_ends_the_experiment_and_keeps_its_runs(script: Path, mounted: LabMount) -> None:
    # GIVEN a program that makes an experiment, with a second between its runs
    code = "import sys, cvtrace\ncvtrace.bench(*sys.argv[1:], output='out', states=['hot'], repeats=50, yes=True)"
    program = [sys.executable, "-c", code, str(script), str(mounted.root / "weights"), "0.2"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as running:
        # WHEN it is interrupted after its first run
        wait_until(lambda: Path("out/runs.csv").exists(), "the first run is kept", 60.0)
        running.send_signal(signal.SIGINT)
        # THEN it ends as an interrupted program does, and the runs are there
        _, message = running.communicate(timeout=120)
    assert running.returncode not in (0, None)
    assert "KeyboardInterrupt" in message
    kept = cvtrace.read_bench("out")
    assert len(kept.runs) >= 1
    assert not kept.finished
