"""`cvtrace bundle` on generated traces: one sentence for what no bundle can be made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from runs import cold_run, stored

from cvtrace.cli import main


def bundle(*words: object) -> Result:
    return CliRunner().invoke(main, ["bundle", *(str(word) for word in words)])


def changed(trace: Path, **changes: object) -> Path:
    meta = json.loads((trace / "meta.json").read_text())
    (trace / "meta.json").write_text(json.dumps({**meta, **changes}))
    return trace


@pytest.mark.parametrize(
    ("changes", "words", "sentence"),
    [
        ({"redacted": True}, [], "the paths in this trace are hashed (--redact): record the run without --redact"),
        ({}, [], "the run used no file after /cvmfs/repo.test.org/models/tiny/model.onnx.data was opened"),
        (
            {},
            ["--trigger", "/nothing"],
            "the run opened no /nothing on /cvmfs/repo.test.org: name a file that it opened, such as",
        ),
        (
            {},
            ["--trigger", "/cvmfs/repo.test.org/x"],
            "the run opened no /cvmfs/repo.test.org/x: name a file that it opened",
        ),
        ({}, ["-o", "-", "--json"], "only one of the bundle, the list and the JSON can be written to stdout"),
        ({}, ["-o", "-", "--list", "-"], "only one of the bundle, the list and the JSON can be written to stdout"),
    ],
)
def test_what_no_bundle_can_be_made_of_gets_one_sentence(
    tmp_path: Path, changes: dict[str, object], words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a trace / WHEN no bundle can be made of it / THEN one sentence says why, with the exit code of wrong use, and nothing is written
    monkeypatch.chdir(tmp_path)
    done = bundle(changed(stored(tmp_path, cold_run()), **changes), *words)
    assert done.exit_code == 2, done.output
    assert sentence in " ".join(done.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


def test_a_folder_that_is_no_trace_is_refused_like_by_other_verbs(tmp_path: Path) -> None:
    # GIVEN an empty folder and a path that is not there / WHEN / THEN
    (tmp_path / "empty").mkdir()
    assert (bundle(tmp_path / "empty").exit_code, bundle(tmp_path / "none").exit_code) == (4, 2)
