"""docs/api.md is made from the docstrings, and its examples work as they are printed."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest
from bench_folders import cold_and_hot
from runs import cold_run, hot_run, stored

from .blocks_of_commands import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import make_api

PAGE = ROOT / "docs" / "api.md"


def test_the_page_is_made_from_the_docstrings() -> None:
    """GIVEN docs/api.md WHEN it is made anew THEN it is the same; `make man` writes it."""
    assert PAGE.read_text(encoding="utf-8") == make_api.page()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the traces and experiments that the examples open, as the working folder."""
    for name, scene in (("cold", cold_run()), ("hot", hot_run())):
        (tmp_path / f"{name}-made").mkdir()
        stored(tmp_path / f"{name}-made", scene).rename(tmp_path / name)
    cold_and_hot(tmp_path / "bench-a", 2.0, 0.5)
    cold_and_hot(tmp_path / "bench-b", 3.0, 0.5, seed=9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_print_what_the_page_shows(folder: Path) -> None:
    examples = doctest.DocTestParser().get_doctest(
        PAGE.read_text(encoding="utf-8").replace("```", ""), {}, "docs/api.md", str(PAGE), 0
    )
    assert len(examples.examples) > 10

    printed: list[str] = []
    failed, _ = doctest.DocTestRunner().run(examples, out=printed.append)

    assert not failed, "".join(printed)
