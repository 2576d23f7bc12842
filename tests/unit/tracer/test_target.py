"""Finding what is to run, and as whom, before anything is started."""

import os
import sys
from pathlib import Path

import pytest

from cvtrace.probes.phases.library import find_libraries
from cvtrace.tracer.errors import UnknownUser, WrongTarget
from cvtrace.tracer.origin import caller_environment
from cvtrace.tracer.target import Inheritance, NotStarted, find_command, runs_models, start_target
from cvtrace.tracer.user import User, calling_user, current_user

SOMEBODY = User(12345, 12345, (12345,), "somebody", "/home/somebody")


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("qa.py").write_text("")
    return "qa.py"


@pytest.mark.parametrize(
    "active, expected",
    [
        ({"VIRTUAL_ENV": "venv", "CONDA_PREFIX": "conda"}, "venv/bin/python"),
        ({"CONDA_PREFIX": "conda"}, "conda/bin/python"),
        ({"VIRTUAL_ENV": "deleted"}, "bin/python3"),
        ({}, "bin/python3"),
    ],
)
def test_the_interpreter_is_the_active_one(script, tmp_path, monkeypatch, active, expected):
    # GIVEN interpreters in a virtual environment, in conda and on PATH, and cvtrace is in an environment of its own
    monkeypatch.setattr("cvtrace.tracer.target.runs_models", lambda: False)
    for name in ("venv/bin/python", "conda/bin/python", "bin/python3"):
        executable(tmp_path / name)
    environ = {"PATH": str(tmp_path / "bin"), **{name: str(tmp_path / value) for name, value in active.items()}}
    # WHEN a script is to run THEN the active one is taken
    command = find_command([script, "-x"], None, environ, current_user())
    assert command.argv == (str(tmp_path / expected), "qa.py", "-x")
    assert command.title == "qa.py"


def test_without_an_active_one_it_is_that_of_cvtrace_if_it_runs_models(script, tmp_path):
    # GIVEN cvtrace beside GenAI in a virtual environment, called by its path
    executable(tmp_path / "python3")
    assert runs_models() == (sys.prefix != sys.base_prefix)
    command = find_command([script], None, {"PATH": str(tmp_path)}, current_user())
    assert command.argv[0] == (sys.executable if runs_models() else str(tmp_path / "python3"))


def test_without_any_interpreter_the_error_says_what_to_do(script, monkeypatch):
    monkeypatch.setattr("cvtrace.tracer.target.runs_models", lambda: False)
    with pytest.raises(WrongTarget, match="--python"):
        find_command([script], None, {"PATH": "/nowhere"}, current_user())


def test_a_program_keeps_its_name_and_python_is_recognised(script):
    command = find_command(["sh", "-c", "x"], None, dict(os.environ), current_user())
    assert command.argv == ("sh", "-c", "x")
    assert command.executable.endswith("/sh")
    assert command.python is None
    assert find_command([sys.executable, script], None, dict(os.environ), current_user()).python == sys.executable


def test_the_user_is_the_caller_of_sudo():
    # GIVEN the variables of sudo THEN they count for root only
    user = calling_user({"SUDO_UID": "12345", "SUDO_GID": "54321"})
    if os.geteuid() == 0:
        assert (user.uid, user.gid, user.groups) == (12345, 54321, (54321,))
        assert calling_user({"SUDO_UID": "0", "SUDO_GID": "0"}) == current_user()
        for broken in ("", "x", "-1", str(2**32 - 1), str(2**32)):
            with pytest.raises(UnknownUser, match="unset it"):
                calling_user({"SUDO_UID": broken})
        # AND doas and pkexec say it their way
        assert calling_user({"DOAS_USER": "nobody"}).name == "nobody"
        assert calling_user({"PKEXEC_UID": "12345", "SUDO_UID": "0"}).uid == 12345
        with pytest.raises(UnknownUser, match="name both"):
            calling_user({"PKEXEC_UID": "12345", "SUDO_UID": "12346"})
        with pytest.raises(UnknownUser, match="DOAS_USER"):
            calling_user({"DOAS_USER": "no such user"})
    else:
        assert user == current_user()
    assert calling_user({}) == current_user()


def test_the_environment_under_sudo_is_the_callers():
    # GIVEN what sudo left of an environment, without a sudo process to ask
    environ = {"HOME": "/root", "USER": "root", "PATH": "/sbin", "SUDO_UID": "12345", "OMP_NUM_THREADS": "2"}
    # WHEN the target is another user's
    target = caller_environment(environ, SOMEBODY)
    # THEN it is at home there, and keeps the rest
    assert target["HOME"] == "/home/somebody"
    assert (target["USER"], target["LOGNAME"]) == ("somebody", "somebody")
    assert target["OMP_NUM_THREADS"] == "2"
    assert not any(name.startswith("SUDO_") for name in target)
    # WHEN it is the same user's THEN nothing is changed
    assert caller_environment(environ, current_user()) == environ


def test_the_library_is_located_without_running_the_interpreter(tmp_path):
    # GIVEN a virtual environment with the package, whose interpreter would fail
    python = executable(tmp_path / "venv" / "bin" / "python")
    package = tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "libonnxruntime-genai.so").touch()
    # WHEN it is looked for THEN it is found
    assert find_libraries(str(python), {}) == (str(package / "libonnxruntime-genai.so"),)


def test_the_library_is_located_by_running_the_interpreter(tmp_path):
    # GIVEN a package where only the interpreter knows of it
    package = tmp_path / "elsewhere" / "onnxruntime_genai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "libonnxruntime-genai.so").touch()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/elsewhere exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    # WHEN it is looked for THEN the package is found and not imported
    assert find_libraries(str(python), {}) == (str(package / "libonnxruntime-genai.so"),)


def test_a_missing_library_is_not_an_error(tmp_path):
    assert find_libraries(None, {}) == ()
    assert find_libraries("/no/such/python", {"PYTHONPATH": "/nowhere", "LD_LIBRARY_PATH": str(tmp_path)}) == ()


def test_an_error_before_exec_is_reported_as_a_failed_start(script):
    # GIVEN an environment that cannot be handed over WHEN the target is let go
    command = find_command(["true"], None, dict(os.environ), current_user())
    target = start_target(command, ["true"], {"": "a name is missing"}, Inheritance())
    # THEN it is said that nothing ran, and the process is gone
    with pytest.raises(NotStarted, match="cannot run true: ValueError: illegal environment") as refused:
        target.release()
    assert refused.value.exit_code == 126
    with pytest.raises(ChildProcessError):
        os.waitpid(target.pid, os.WNOHANG)
