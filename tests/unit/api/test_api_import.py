"""`import cvtrace` imports next to nothing: scripts do it, and `cvtrace run` starts with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cvtrace

HEAVY = {"numpy", "pandas", "pyarrow", "click", "typing", "cvtrace.analysis", "cvtrace.api", "cvtrace.tracer"}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_cvtrace_imports_nothing_heavy() -> None:
    loaded = modules_after("import cvtrace; cvtrace.phase; dir(cvtrace)")

    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("cvtrace")} == {"cvtrace", "cvtrace.marking"}


@pytest.mark.parametrize("verb", ["run", "attach", "doctor"])
def test_verbs_that_need_no_api_import_neither_it_nor_pandas(verb: str) -> None:
    loaded = modules_after(f"import cvtrace.cli, cvtrace.commands.{verb}")

    assert not loaded & {"pandas", "cvtrace.api", "cvtrace.analysis.report.tables"}


def test_every_name_of_the_api_is_there() -> None:
    for name in cvtrace.__all__:
        assert getattr(cvtrace, name) is not None
        assert name in dir(cvtrace)
    assert set(cvtrace._PLACES) == set(cvtrace.__all__) - {"phase", "token"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cvtrace.nonsense


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    tree = ast.parse(Path(cvtrace.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))

    imported = {
        alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert imported == cvtrace._PLACES
