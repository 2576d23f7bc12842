"""Bad input to `cvtrace run`: one sentence, before anything starts."""

import subprocess
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, run, script
from namespaces import after

pytestmark = pytest.mark.root


def refused(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("ran").exists()


WRITES_A_FILE = "open('ran', 'w')"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "nothing to run"),
        (["missing.py"], "there is no script missing.py"),
        (["folder.py"], "is a folder"),
        (["--", "no-such-program"], "there is no script or program no-such-program"),
        (["--", "./script.py.txt"], "not executable"),
        (["--", "script.py.txt"], "write ./script.py.txt"),
        (["--python", "/no/python", "script.py"], "no Python interpreter at /no/python"),
        (["--user", "no-such-user", "script.py"], "no user no-such-user"),
    ],
)
def test_a_wrong_target_is_refused(workdir, mount, arguments, message):
    script(WRITES_A_FILE)
    Path("folder.py").mkdir()
    Path("script.py.txt").write_text(WRITES_A_FILE)
    refused(run(mount, *arguments), 2, message)
    assert not Path("trace").exists()


def test_an_existing_output_is_refused(workdir, mount):
    Path("trace").mkdir()
    refused(run(mount, script(WRITES_A_FILE)), 2, "trace is already there")


def test_force_does_not_replace_a_folder_that_is_not_a_trace(workdir, mount):
    Path("trace").mkdir()
    Path("trace/thesis.txt").write_text("years of work")
    refused(run(mount, "--force", script(WRITES_A_FILE)), 2, "is not a trace")
    assert Path("trace/thesis.txt").read_text() == "years of work"


def test_an_unwritable_output_is_refused(workdir, mount):
    refused(run(mount, "-o", "missing/trace", script(WRITES_A_FILE)), 2, "cannot create missing/trace")
    refused(run(mount, "-o", "/proc/trace", script(WRITES_A_FILE)), 2, "cannot create /proc/trace")


def test_a_mount_option_that_is_not_a_cvmfs_mount_is_refused(workdir, mount):
    refused(run(workdir, script(WRITES_A_FILE)), 3, "is not on a CVMFS mount")
    assert not Path("trace").exists()


def test_without_any_mount_the_error_says_what_to_do(workdir):
    # GIVEN a mount namespace without CVMFS
    command = after("umount -l -a -t fuse || true", *CVTRACE, "run", script(WRITES_A_FILE))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    refused(result, 3, "no CVMFS mount found")
    assert "cvtrace lab up" in result.stderr
    assert [path.name for path in workdir.iterdir()] == ["script.py"]


def test_a_program_that_cannot_be_executed_is_reported(workdir, mount):
    # GIVEN an executable in no known format
    Path("program").write_bytes(b"\x7fELF nonsense")
    Path("program").chmod(0o755)
    result = run(mount, "--", "./program")
    assert result.returncode == 126
    assert result.stderr == "cvtrace: cannot run ./program: Exec format error\n"
    assert not Path("trace").exists()
