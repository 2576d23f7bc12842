"""`cvtrace report --format …` for other programs: where it writes, what it never replaces, and its errors."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from runs import cold_run, stored

from cvtrace.cli import main
from cvtrace.commands.formats import FORMATS

EXPORTS = tuple(name for name, form in FORMATS.items() if form.for_programs)
TEXTS = tuple(name for name in EXPORTS if not FORMATS[name].is_binary)
FILES = tuple(form for form in EXPORTS if form not in ("csv", "parquet"))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["report", *(str(word) for word in words)])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return stored(tmp_path / "store", cold_run())


@pytest.mark.parametrize("form", TEXTS)
def test_texts_go_to_stdout(trace: Path, form: str) -> None:
    result = run(trace, "--format", form)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith({"speedscope": "}", "folded": "\n", "openmetrics": "# EOF\n"}[form])


@pytest.mark.parametrize("form", FILES)
def test_a_file_and_a_pipe_get_the_same_bytes(trace: Path, form: str, tmp_path: Path) -> None:
    out = tmp_path / "out"

    result = run(trace, "--format", form, "-o", out)
    piped = run(trace, "--format", form, "-o", "-")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert out.read_bytes() == piped.stdout_bytes != b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_a_perfetto_trace_can_be_parsed(trace: Path) -> None:
    perfetto_trace = Trace.FromString(run(trace, "--format", "perfetto").stdout_bytes)

    assert len(perfetto_trace.packet) > 20


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_tables_go_to_a_folder_or_a_zip(trace: Path, form: str, name: str, tmp_path: Path) -> None:
    result = run(trace, "--format", form, "-o", tmp_path / name)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / name).is_file() == name.endswith(".zip")


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("words", [(), ("-o", "-")])
def test_exported_tables_need_an_output_option(trace: Path, form: str, words: tuple[str, ...]) -> None:
    result = run(trace, "--format", form, *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "name a folder or a .zip with -o" in result.stderr


@pytest.mark.parametrize("form", ["text", "json", "html", *EXPORTS])
@pytest.mark.parametrize("existing", ["file", "folder"])
def test_no_file_is_replaced_without_force(trace: Path, form: str, existing: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if existing == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")

    result = run(trace, "--format", form, "-o", out)

    assert result.exit_code == 2
    assert "out is already there: choose another name with -o, or replace it with --force" in result.stderr
    assert (out if existing == "file" else out / "mine.txt").read_text() == "mine"


def test_force_replaces_a_file(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine " * 10_000)

    assert run(trace, "--format", "folded", "-o", out, "--force").exit_code == 0
    assert out.read_bytes() == run(trace, "--format", "folded").stdout_bytes
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_force_leaves_other_files_of_a_folder(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")

    assert run(trace, "--format", "csv", "-o", out, "--force").exit_code == 0
    assert (out / "mine.txt").read_text() == "mine"
    assert len(pd.read_csv(out / "tokens.csv")) == 3


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(
    "destination, message",
    [("nowhere/out", "No such file"), ("file/out", "Not a directory"), ("/dev/full", "No space left")],
)
def test_an_unwritable_output_is_exit_2_and_leaves_no_file(
    trace: Path, form: str, destination: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    before = sorted(path.name for path in tmp_path.iterdir())

    result = run(trace, "--format", form, "-o", tmp_path / destination)

    assert result.exit_code == 2
    assert f"cannot write {tmp_path / destination}" in result.stderr
    assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("destination", ["nowhere/out", "nowhere/out.zip", "file"])
def test_tables_that_cannot_be_written_are_exit_2(trace: Path, form: str, destination: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = run(trace, "--format", form, "-o", tmp_path / destination, "--force")

    assert result.exit_code == 2
    assert f"cannot write {tmp_path / destination}: " in result.stderr


def test_an_unknown_format_is_exit_2_and_the_known_ones_are_named(trace: Path) -> None:
    result = run(trace, "--format", "jpeg")

    assert result.exit_code == 2
    assert all(form in result.stderr for form in EXPORTS)


@pytest.mark.parametrize("form", EXPORTS)
def test_open_is_refused_for_formats_of_other_programs(trace: Path, form: str) -> None:
    result = run(trace, "--format", form, "--open")

    assert result.exit_code == 2
    assert "for other programs" in result.stderr


def test_protobuf_is_not_written_to_a_terminal(trace: Path) -> None:
    master, terminal = os.openpty()
    result = subprocess.run(
        [sys.executable, "-m", "cvtrace", "report", str(trace), "--format", "perfetto"],
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(terminal)
    os.close(master)

    assert result.returncode == 2
    assert "not for a terminal: name a file with -o" in result.stderr


def test_an_export_to_an_ascii_pipe_is_utf8(trace: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cvtrace", "report", str(trace), "--format", "openmetrics"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode("utf-8").endswith("# EOF\n")
