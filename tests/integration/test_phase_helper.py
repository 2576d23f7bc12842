"""`cvtrace.phase` in scripts whose environment has no cvtrace: under `cvtrace run`, copied, or installed as a package of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE
from tiny import tiny_mount

from cvtrace.analysis import analyse
from cvtrace.probes.phases.functions import USER_PHASE
from cvtrace.probes.phases.hook import environment, read_marks
from cvtrace.tracer.store import read_trace

PACKAGE = Path(__file__).resolve().parents[2] / "phase"
OLDEST = "python3.8"
SCRIPT = """
import cvtrace, sys
with cvtrace.phase("the work"):
    print("worked in", sys.prefix != sys.base_prefix, getattr(cvtrace, "__version__", None))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_mount(tmp_path_factory.mktemp("tiny")) as (mounted, _):
        yield mounted


def clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def marked(python: Path | str, script: str, marks: Path, cwd: Path) -> list[str]:
    """Run a script with the hook; return the names of its phases."""
    environ = environment(marks, clean_environ())
    result = subprocess.run([python, "-c", script], env=environ, cwd=cwd, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    events, texts = read_marks(marks, 1)
    begun = set(events["ts"][events["a"] == USER_PHASE].tolist())
    return [bytes(text["text"]).decode() for text in texts if int(text["ts"]) in begun]


def test_a_script_in_a_bare_environment_is_recorded_with_its_phases(bare: Path, mount: Path, tmp_path: Path) -> None:
    # GIVEN a script that imports cvtrace, and an environment without it
    (tmp_path / "work.py").write_text(SCRIPT)
    without = subprocess.run([bare, "work.py"], cwd=tmp_path, env=clean_environ(), capture_output=True, check=False)
    assert b"No module named 'cvtrace'" in without.stderr
    # WHEN it is recorded
    command = [
        *CVTRACE,
        "run",
        "--probes",
        "portable",
        "--no-summary",
        "-o",
        "trace",
        "--python",
        bare,
        "--mount",
        mount,
    ]
    result = subprocess.run(
        [*command, "work.py"], cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, check=False
    )
    # THEN it runs as it would with cvtrace, and its phase is a row of the report
    assert (result.returncode, result.stdout) == (0, "worked in True None\n"), result.stderr
    assert "the work" in [row.name for row in analyse(read_trace(tmp_path / "trace")).phases]


def test_a_cvtrace_of_the_environment_comes_first(bare: Path, tmp_path: Path) -> None:
    # GIVEN a folder with a cvtrace of its own
    (tmp_path / "cvtrace.py").write_text("phase = 'mine'\n")

    assert marked(bare, "import cvtrace\nassert cvtrace.phase == 'mine'", tmp_path / "marks", tmp_path) == []


def test_importing_other_modules_of_cvtrace_fails_in_the_script(bare: Path, tmp_path: Path) -> None:
    script = "import cvtrace\ntry:\n import cvtrace.analysis\nexcept ModuleNotFoundError: pass\nelse: raise SystemExit('found')"

    assert marked(bare, script, tmp_path / "marks", tmp_path) == []


def test_the_helper_is_not_loaded_by_a_script_that_does_not_import_it(bare: Path, tmp_path: Path) -> None:
    script = "import sys\nassert not any('cvtrace' in name for name in sys.modules), sys.modules.keys()\nassert 'inject' not in str(sys.path)"

    assert marked(bare, script, tmp_path / "marks", tmp_path) == []


def test_a_copy_of_the_helper_file_marks_phases(bare: Path, tmp_path: Path) -> None:
    # GIVEN a copy beside the script
    shutil.copy(PACKAGE / "cvtrace_phase.py", tmp_path)
    script = "from cvtrace_phase import phase\nwith phase('copied'): print(end='')"
    # THEN it does nothing without a recording, and marks in one
    subprocess.run([bare, "-c", script], cwd=tmp_path, env=clean_environ(), check=True)
    assert marked(bare, script, tmp_path / "marks", tmp_path) == ["copied"]


def test_the_package_installs_into_any_environment(bare: Path, tmp_path: Path) -> None:
    # GIVEN the small package, installed elsewhere
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source)
    result = subprocess.run(
        [*install, "--target", tmp_path / "site", source], capture_output=True, text=True, check=False
    )
    if "No matching distribution found for setuptools" in result.stderr:
        pytest.skip("pip reaches no index, from where it takes setuptools to build with")
    assert result.returncode == 0, result.stderr
    script = f"import sys\nsys.path.insert(0, {str(tmp_path / 'site')!r})\nfrom cvtrace_phase import phase\n@phase('installed')\ndef f(): pass\nf()"
    # THEN its phases are marked
    assert marked(bare, script, tmp_path / "marks", tmp_path) == ["installed"]


def test_the_helper_works_with_python_3_8(tmp_path: Path) -> None:
    python = oldest()
    if python is None:
        pytest.skip(f"there is no {OLDEST} here")
    script = "import cvtrace\n@cvtrace.phase('old')\ndef f(): pass\nf()"

    assert marked(python, script, tmp_path / "marks", tmp_path) == ["old"]


def oldest() -> str | None:
    """Return a Python 3.8: on PATH, or of pyenv."""
    of_pyenv = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    return shutil.which(OLDEST) if not of_pyenv else str(of_pyenv[0])
