"""`cvtrace report` and `cvtrace check` on traces good and bad: an exit code and one sentence, never a traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runs import cold_run, stored
from scene import TARGET

from cvtrace.cli import main
from cvtrace.tracer.store import TraceWriter


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def change_meta(trace: Path, **changes: Any) -> None:
    meta = json.loads((trace / "meta.json").read_text())
    (trace / "meta.json").write_text(json.dumps({**meta, **changes}))


def an_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def a_foreign_folder(folder: Path) -> Path:
    (folder / "foreign").mkdir()
    (folder / "foreign" / "notes.txt").write_text("mine")
    return folder / "foreign"


def of_a_newer_version(folder: Path) -> Path:
    trace = stored(folder, cold_run())
    change_meta(trace, schema="cvtrace-trace/2")
    return trace


def with_damaged_events(folder: Path) -> Path:
    trace = stored(folder, cold_run())
    content = bytearray((trace / "events.parquet").read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    (trace / "events.parquet").write_bytes(content)
    return trace


def without_events(folder: Path) -> Path:
    trace = stored(folder, cold_run())
    (trace / "events.parquet").unlink()
    return trace


def with_nonsense_in_its_meta(folder: Path) -> Path:
    trace = stored(folder, cold_run())
    change_meta(trace, mounts=[{"path": "/cvmfs/x", "counters_before": {"cvmfs.n_fs_read": "many"}}])
    return trace


def with_absurd_times(folder: Path) -> Path:
    scene = cold_run()
    for thread in range(5):
        scene.preempted(800_000, 800_001, tid=TARGET + thread)
    trace = stored(folder, scene)
    change_meta(trace, clock={"start_ns": 0, "end_ns": 2**62 - 1})
    return trace


BAD: tuple[tuple[Callable[[Path], Path], str], ...] = (
    (an_empty_folder, "empty folder"),
    (a_foreign_folder, "no meta.json"),
    (of_a_newer_version, "newer cvtrace"),
    (with_damaged_events, "is damaged"),
    (without_events, "is damaged"),
    (with_nonsense_in_its_meta, "no proper mounts.counters_before.cvmfs.n_fs_read"),
    (with_absurd_times, "too far apart"),
)


@pytest.mark.parametrize("make, message", BAD, ids=[make.__name__ for make, _ in BAD])
@pytest.mark.parametrize("verb", ["report", "json", "check", "bundle"])
def test_an_unreadable_trace_is_exit_4_and_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], message: str, verb: str
) -> None:
    trace = make(tmp_path)

    words = {"json": ("--format", "json"), "check": ("decode.fuse_reads == 0",)}.get(verb, ())
    result = run("report" if verb == "json" else verb, trace, *words)

    assert result.exit_code == 4
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A trace whose recorder was killed before it could finish."""
    events, texts = cold_run().arrays()
    meta = cold_run().trace().meta
    writer = TraceWriter(tmp_path / "cut", {**meta, "clock": {**meta["clock"], "end_ns": None}})
    writer.write(events, texts)
    writer.flush()
    writer.close()
    return tmp_path / "cut"


def test_an_unfinished_trace_is_reported_as_far_as_it_goes(cut_off: Path) -> None:
    result = run("report", cut_off)

    assert result.exit_code == 0
    assert "Does generation hit CVMFS?" in result.stdout
    assert result.stdout.splitlines()[1].startswith("The recording is incomplete: the trace ends at 0.7 s:")
    assert f"\nMore: cvtrace report {cut_off} --open" in result.stdout.replace(
        "\\\n", ""
    )  # a shell puts it together again
    assert result.stderr == "cvtrace: the trace ends at 0.7 s: the recorder was killed before it could finish\n"


def test_json_of_an_unfinished_trace_stays_json(cut_off: Path) -> None:
    result = run("report", cut_off, "--format", "json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["trace"]["damage"].startswith("the trace ends at 0.7 s")
    assert "ends at 0.7 s" in result.stderr


def test_an_unfinished_trace_is_checked_and_reported_as_unfinished(cut_off: Path) -> None:
    assert run("check", cut_off, "load.http_fetches == 1").exit_code == 0
    failed = run("check", cut_off, "load.http_fetches == 2")

    assert failed.exit_code == 1
    assert failed.stdout.startswith("failed: load.http_fetches == 2")
    assert "ends at 0.7 s" in failed.stderr


def test_a_complete_trace_prints_nothing_on_stderr(tmp_path: Path) -> None:
    assert run("report", stored(tmp_path, cold_run())).stderr == ""


def test_output_replaces_a_file_with_force_and_leaves_stdout_empty(tmp_path: Path) -> None:
    trace, out = stored(tmp_path, cold_run()), tmp_path / "summary.txt"
    out.write_text("what was there before " * 1000)

    assert run("report", trace, "-o", out).exit_code == 2
    result = run("report", trace, "-o", out, "--force")

    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text() == run("report", trace).stdout


def test_output_dash_writes_to_stdout(tmp_path: Path) -> None:
    trace = stored(tmp_path, cold_run())
    assert run("report", trace, "-o", "-").stdout == run("report", trace).stdout


@pytest.mark.parametrize(
    "destination, message", [("nowhere/report.txt", "No such file"), ("folder", "is already there")]
)
def test_output_that_cannot_be_written_is_exit_2(tmp_path: Path, destination: str, message: str) -> None:
    (tmp_path / "folder").mkdir()

    result = run("report", stored(tmp_path, cold_run()), "-o", tmp_path / destination)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_output_on_a_full_disk_is_exit_2(tmp_path: Path) -> None:
    result = run("report", stored(tmp_path, cold_run()), "-o", "/dev/full")

    assert result.exit_code == 2
    assert "cannot write /dev/full: No space left on device" in result.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_text_for_an_ascii_terminal_is_ascii(tmp_path: Path, form: str) -> None:
    trace = stored(tmp_path, cold_run())
    change_meta(trace, host="Bücherei")

    result = subprocess.run(
        [sys.executable, "-m", "cvtrace", "report", str(trace), "--format", form],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, b"")
    assert (
        json.loads(result.stdout)["trace"]["host"] == "Bücherei" if form == "json" else b"phi3-qa.py" in result.stdout
    )


def test_a_pipe_closed_by_its_reader_is_not_an_error(tmp_path: Path) -> None:
    trace = stored(tmp_path, cold_run())
    script = f"{sys.executable} -m cvtrace report {trace} --format json | head -c 1 >/dev/null"

    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)

    assert result.stderr == ""
