"""`make dist`: wheel and source distribution, installed into an empty environment and run there, far from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from lab_mount import lab

ROOT = Path(__file__).resolve().parents[2]
BUILD_S, INSTALL_S = 240.0, 280.0


def run(*command: object, cwd: Path, limit_s: float = 60.0, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == code, f"{command}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what is committed, with the changes of the working folder."""
    folder = tmp_path_factory.mktemp("dist") / "cvtrace"
    files = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).stdout
    archive = folder.parent / "files.tar"
    with archive.open("wb") as stream:
        subprocess.run(
            ["tar", "-c", "--null", "-T", "-", "--ignore-failed-read"],
            input=files.encode(),
            stdout=stream,
            cwd=ROOT,
            check=False,
        )
    folder.mkdir()
    run("tar", "-xf", archive, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def built(clone: Path) -> Path:
    """The folder with wheel and sdist; the wheel is built from the sdist."""
    run(sys.executable, "scripts/make_man.py", cwd=clone)
    run(sys.executable, "-m", "build", "--outdir", "dist", ".", cwd=clone, limit_s=BUILD_S)
    return clone / "dist"


def test_the_wheel_has_manual_pages_bpf_programs_and_the_example(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("share/man/man1/cvtrace-run.1") for name in names)
    assert "cvtrace/probes/ebpf/programs/syscalls.bpf.c" in names
    assert "cvtrace/lab/example/phi3-qa.py" in names
    assert not [name for name in names if name.startswith(("docs/", "tests/", "demo-out/"))]


def test_the_wheel_works_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    # GIVEN an environment with nothing but the wheel and what it depends on
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python, program = tmp_path / "env/bin/python", tmp_path / "env/bin/cvtrace"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=tmp_path, limit_s=INSTALL_S)
    # THEN the command, its manual page and a recording work
    assert run(program, "--version", cwd=tmp_path).stdout.startswith("cvtrace, version ")
    assert (tmp_path / "env/share/man/man1/cvtrace.1").is_file()
    with lab(tmp_path / "lab", {"weights": bytes(100_000)}) as site, site.mount() as mount:
        (tmp_path / "hello.py").write_text(f"print(len(open({str(mount.root / 'weights')!r}, 'rb').read()))\n")
        run(program, "run", "--probes", "portable", "--mount", mount.root, "-o", "trace", "hello.py", cwd=tmp_path)
    run(program, "report", "trace", "-o", "report.html", cwd=tmp_path)
    # AND the example is there, outside of the clone
    example = Path(run(program, "lab", "example", cwd=tmp_path).stdout.strip())
    assert example.is_file()
    assert ROOT not in example.parents
    # AND the lab, which is not installed, says how to add it to this very environment
    missing = run(
        program, "lab", "up", "--mount", tmp_path / "mnt", "--state", tmp_path / "state", cwd=tmp_path, code=2
    )
    assert f"{tmp_path}/env/bin/python -m pip install 'cryptography" in missing.stderr
