"""What cannot be read is one class of errors, with the sentence that the command prints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from runs import cold_run, stored
from test_commands import BAD

import cvtrace
from cvtrace.cli import main


def a_missing_folder(folder: Path) -> Path:
    return folder / "missing"


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("no trace")
    return folder / "file"


ALL_BAD = [*(make for make, _ in BAD), a_missing_folder, a_file]


@pytest.mark.parametrize("make", ALL_BAD, ids=lambda make: make.__name__)
def test_the_error_says_what_the_command_says(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    printed = CliRunner().invoke(main, ["report", str(path)])

    with pytest.raises(cvtrace.TraceError) as raised:
        cvtrace.open(path).report()

    assert printed.exit_code in (2, 4)
    assert printed.stderr == f"cvtrace: {raised.value}\n"


@pytest.mark.parametrize("make", ALL_BAD, ids=lambda make: make.__name__)
def test_every_table_and_a_comparison_raise_it(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "good").mkdir()
    good, path = stored(tmp_path / "good", cold_run()), make(tmp_path)

    for name in ("reads", "phases", "waits"):
        with pytest.raises(cvtrace.TraceError):
            cvtrace.open(path).table(name)
    for sides in ((path, good), (good, path), ([good, path], good)):
        with pytest.raises(cvtrace.TraceError):
            cvtrace.compare(*sides)


def test_what_is_missing_is_exit_2_and_what_is_damaged_exit_4(tmp_path: Path) -> None:
    codes = {
        make.__name__: CliRunner().invoke(main, ["report", str(make(tmp_path))]).exit_code
        for make in (a_missing_folder, a_file, *(make for make, _ in BAD[:1]))
    }

    assert codes == {"a_missing_folder": 2, "a_file": 2, "an_empty_folder": 4}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": "missing"}, "model: there is no folder missing"),
        ({"access_log": "missing"}, "access_log: there is no file missing"),
        ({"log_clients": ["10.0.0.1"]}, "which is missing"),
        ({"rtt_s": -1.0}, "rtt_s: -1.0 is no time"),
        ({"rtt_s": float("nan")}, "rtt_s: nan is no time"),
        ({"parallel": 0}, "from 1 to 1000"),
        ({"scale": 0.0}, "scale: 0.0 is not a number from"),
    ],
    ids=str,
)
def test_arguments_that_the_command_refuses_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cvtrace.open(stored(tmp_path, cold_run()), **arguments)


def test_a_log_that_is_none_is_the_same_class_of_errors(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("nothing\n" * 3)
    path = stored(tmp_path, cold_run())
    printed = CliRunner().invoke(main, ["report", str(path), "--access-log", str(tmp_path / "log")])

    with pytest.raises(cvtrace.TraceError) as raised:
        cvtrace.open(path, access_log=tmp_path / "log").report()

    assert (printed.exit_code, printed.stderr) == (2, f"cvtrace: {raised.value}\n")
