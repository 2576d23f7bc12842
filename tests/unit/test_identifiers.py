"""Checks the names in the project's Python files: an identifier is the noun of what it holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKED = (
    "probes",
    "tracer",
    "analysis",
    "experiment",
    "lab",
    "cvtrace",
    "benchmarks",
    "examples",
    "scripts",
    "tests",
    "phase",
)
"""Folders whose files are checked; cvtrace/ links to those of other folders, which are not followed."""
VAGUE = frozenset({"found", "asked", "told", "said", "mine", "wanted", "ours", "theirs"})


def python_files() -> Iterator[Path]:
    for folder in CHECKED:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.resolve().is_relative_to(ROOT / folder):
                yield path


def defined_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each name that the code defines (variable, argument, field, attribute, function, class, import) with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname, node.lineno) for alias in aliases if alias.asname)


def vague_names(source: str) -> list[tuple[str, int]]:
    return [(name, line) for name, line in defined_names(ast.parse(source)) if name.strip("_").lower() in VAGUE]


def test_identifiers_are_nouns() -> None:
    paths = list(python_files())
    problems = [
        f"{path.relative_to(ROOT)}:{line}: `{name}` does not say what it holds: "
        "use the noun of its content, such as report, rows, output, message or requests"
        for path in paths
        for name, line in vague_names(path.read_text(encoding="utf-8"))
    ]
    assert len(paths) > 500
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "def f(told): pass",
        "def _asked(): pass",
        "class Found: pass",
        "class A:\n    said: str",
        "self.mine = 1",
        "for found in rows: pass",
        "lambda told: told",
        "[found for found in rows]",
        "with open(path) as found: pass",
        "import rows as found",
        "try: pass\nexcept OSError as said: pass",
        "match x:\n    case [*found]: pass",
    ],
)
def test_check_sees_every_kind_of_definition(source: str) -> None:
    assert vague_names(source)


def test_check_accepts_words_that_are_part_of_a_name() -> None:
    assert not vague_names("found_s = row.found\ntold_by_client = 'found'")
