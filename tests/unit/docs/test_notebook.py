"""The notebook in examples/: its cells run from top to bottom, and what each would show can be drawn."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from runs import cold_run, hot_run, stored

from .blocks_of_commands import ROOT

NOTEBOOK = ROOT / "examples" / "traces-in-pandas.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def shown_of(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a kernel does; return the value of its last expression, None without one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names) if last is not None else None


@pytest.fixture
def demo_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of `make demo`, with made-up runs."""
    for name, scene in (("cold", cold_run()), ("hot", hot_run())):
        (tmp_path / name).mkdir()
        (tmp_path / "demo-out").mkdir(exist_ok=True)
        stored(tmp_path / name, scene).rename(tmp_path / "demo-out" / name)
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")  # a kernel runs in the folder of its notebook


@pytest.mark.usefixtures("demo_out")
def test_every_cell_runs_and_shows_something() -> None:
    names: dict[str, Any] = {}
    drawn = []
    for cell in cells("code"):
        value = shown_of("".join(cell["source"]), names)
        if value is not None:
            drawn.append(value._repr_html_())

    assert len(drawn) > 8
    assert all(len(html) > 100 for html in drawn)
    assert "YES" in drawn[0]


def test_it_is_committed_without_outputs_and_paths_of_a_machine() -> None:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))

    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK.stat().st_size < 20_000
    identifiers = [cell["id"] for cell in content["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in cells("code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        assert not [word for word in "".join(cell["source"]).split('"') if word.startswith("/")]
