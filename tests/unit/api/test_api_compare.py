"""`cvtrace.compare`: what `cvtrace compare` finds, as tables."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostile import hostile_run
from runs import cold_run, hot_run, stored

import cvtrace
from cvtrace.cli import main


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two traces."""
    paths = []
    for name, scene in (("cold", cold_run()), ("hot", hot_run())):
        (tmp_path / name).mkdir()
        paths.append(stored(tmp_path / name, scene))
    return paths[0], paths[1]


def test_it_is_what_the_command_finds(sides: tuple[Path, Path]) -> None:
    printed = CliRunner().invoke(main, ["compare", *map(str, sides), "--format", "json"])

    comparison = cvtrace.compare(*sides)

    expected = json.loads(printed.stdout)
    assert json.loads(json.dumps(comparison.as_dict())) == expected
    assert list(comparison.notes) == expected["notes"]
    changes = comparison.changes
    assert len(changes) == len(expected["changes"])
    for row, change in zip(changes.itertuples(index=False), expected["changes"], strict=True):
        assert (row.of, row.name, row.unit) == (change["of"], change["name"], change["unit"])
        assert change["a"] is None or row.a == change["a"]
    assert changes.dtypes.astype(str).to_dict() == {
        "of": "string",
        "name": "string",
        "unit": "string",
        "certain": "boolean",
        **dict.fromkeys(("a", "b", "difference", "ratio", "low", "high"), "float64"),
    }
    words = comparison.words.set_index(["of", "name", "word"])
    assert words.loc[("run", "verdict", "yes")].to_dict() == {"a": 1, "b": 0}


def test_sides_are_paths_traces_folders_or_several(sides: tuple[Path, Path], tmp_path: Path) -> None:
    cold, hot = sides
    expected = cvtrace.compare(cold, hot).changes

    assert cvtrace.compare(str(cold), str(hot)).changes.equals(expected)
    assert cvtrace.compare(cvtrace.open(cold), hot).changes.equals(expected)
    assert cvtrace.compare(tmp_path / "cold", tmp_path / "hot").changes.equals(expected)  # the folder that holds it
    assert cvtrace.compare([cold], [hot]).changes.equals(expected)
    several = cvtrace.compare([cold] * 3, [cvtrace.open(hot)] * 3)
    assert several.changes["low"].notna().any()
    with pytest.raises(ValueError, match="needs one trace or more"):
        cvtrace.compare([], hot)


def test_names_from_a_trace_are_text_in_a_notebook(tmp_path: Path) -> None:
    scene = hostile_run()
    scene.named("<script>alert(1)</script>", 800_000, 801_000)
    trace = cvtrace.open(stored(tmp_path, scene))

    for html in (trace._repr_html_(), cvtrace.compare(trace, trace)._repr_html_()):
        assert "<script" not in html
        assert html.startswith("<pre")


def test_a_notebook_shows_the_answer(sides: tuple[Path, Path]) -> None:
    cold = cvtrace.open(sides[0])

    assert '<b style="color:#c62828">YES</b>' in cold._repr_html_()
    assert repr(cold).startswith("<cvtrace.Trace ")
    assert "A and B took the same time" in cvtrace.compare(*sides)._repr_html_()
    assert str(cvtrace.compare(*sides)) == CliRunner().invoke(main, ["compare", *map(str, sides)]).stdout
