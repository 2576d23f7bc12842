"""The command line: verbs by name, nothing imported too early, error families as exit codes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cvtrace import cli
from cvtrace.commands.lazy_group import LazyGroup, Verb
from cvtrace.lab.errors import LabError
from cvtrace.probes.probe import CannotObserve
from cvtrace.tracer.errors import TraceDamaged, TraceExists, TraceUnwritable


class Dead(CannotObserve):
    """A family member that the table does not name."""


def line_that_raises(error: BaseException) -> cli.CommandLine:
    """Return a command line whose verb `fail` raises `error`."""

    class Line(cli.CommandLine):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            def fail() -> None:
                raise error

            return click.Command("fail", callback=fail)

    return Line(verbs={"fail": Verb("nowhere", "Fail.")})


@pytest.mark.parametrize(
    "error, code",
    [
        (LabError("no room"), 2),
        (TraceExists("no room"), 2),
        (TraceUnwritable("no room"), 2),
        (CannotObserve("no room"), 3),
        (Dead("no room"), 3),
        (TraceDamaged("no room"), 4),
    ],
)
def test_an_error_family_is_one_sentence_and_its_exit_code(error: Exception, code: int) -> None:
    # WHEN
    result = CliRunner().invoke(line_that_raises(error), ["fail"])

    # THEN
    assert (result.exit_code, result.output) == (code, "cvtrace: no room\n")


def test_each_error_family_of_the_table_exists() -> None:
    for name in cli.EXIT_CODES:
        module, _, family = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), family), Exception)


def test_a_missing_lab_package_names_the_extra() -> None:
    result = CliRunner().invoke(line_that_raises(ModuleNotFoundError("no", name="onnx.helper")), ["fail"])
    assert result.exit_code == 2
    assert "onnx" in result.output
    assert f"{sys.prefix}/bin/python -m pip install 'cryptography" in result.output


def test_a_defect_keeps_its_traceback() -> None:
    result = CliRunner().invoke(line_that_raises(KeyError("oops")), ["fail"])
    assert isinstance(result.exception, KeyError)


def test_ctrl_c_is_130() -> None:
    assert CliRunner().invoke(line_that_raises(KeyboardInterrupt()), ["fail"]).exit_code == 130


@pytest.mark.parametrize("argv", [["nonsense"], ["lab", "nonsense"], ["--nonsense"]])
def test_an_unknown_verb_is_wrong_usage(argv: list[str]) -> None:
    result = CliRunner().invoke(cli.main, argv)
    assert result.exit_code == 2
    assert "No such" in result.output


def test_a_verb_that_is_not_installed_is_reported() -> None:
    group = LazyGroup("group", verbs={"gone": Verb("cvtrace.commands.gone", "Gone.")})
    result = CliRunner().invoke(group, ["gone"])
    assert result.exit_code == 2
    assert "this installation of cvtrace has no 'group gone'" in result.output


@pytest.mark.parametrize("argv", [[], ["--help"], ["lab", "--help"], ["lab", "model", "--help"]])
def test_help_imports_no_heavy_package(argv: list[str]) -> None:
    # GIVEN
    heavy = {"numpy", "pandas", "pyarrow", "onnx", "pycurl", "mfusepy"}
    code = "import sys\nfrom cvtrace.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"

    # WHEN
    result: Any = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)

    # THEN
    assert "Usage:" in result.stdout + result.stderr
    assert not heavy & set(result.stderr.split())


def test_residency_imports_no_heavy_package() -> None:
    # GIVEN that most of the time of a look at a few files would be the import of packages for traces
    heavy = {"numpy", "pandas", "pyarrow"}
    code = (
        "import sys\nfrom cvtrace.commands import residency\nimport cvtrace.probes.residency.survey, cvtrace.tracer.user\n"
        "print(residency._drawn([], []), *sys.modules)"
    )

    # WHEN
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # THEN
    assert "page cache" in result.stdout
    assert not heavy & set(result.stdout.split())
