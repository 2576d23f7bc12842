"""Commands in messages of cvtrace work where cvtrace is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cvtrace.commands.installation import how_to_add, packages_of
from cvtrace.probes.command import cvtrace_here


def test_the_lab_is_added_with_the_packages_of_its_extra_and_not_from_an_index_of_cvtrace() -> None:
    assert {"cryptography", "mfusepy", "onnx", "onnxruntime-genai", "pycurl"} == {
        package.partition(">")[0] for package in packages_of("lab")
    }
    assert how_to_add("lab", "/home/ann/v env").startswith("'/home/ann/v env/bin/python' -m pip install ")
    assert "cvtrace[" not in how_to_add("lab")


def test_in_an_environment_of_pipx_the_packages_are_injected() -> None:
    assert how_to_add("lab", "/home/ann/.local/share/pipx/venvs/cvtrace").startswith("pipx inject cvtrace ")


def test_the_program_is_called_by_its_name_only_where_a_shell_finds_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "cvtrace"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert cvtrace_here(str(program)) == "cvtrace"
    monkeypatch.setenv("PATH", "/nowhere")
    assert cvtrace_here(str(program)) == str(program)
    assert cvtrace_here("/x/__main__.py") == f"{sys.executable} -m cvtrace"
