"""The HTML report of traces of every kind, and the command that writes and opens it."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from runs import cold_run, hot_run, large_run, portable_run, stored
from scene import CONNECTION, TARGET, WORKER, Scene

from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.cli import main
from cvtrace.probes.events import Kind, Opcode


def payload(page: str) -> dict[str, Any]:
    match = re.search(r'id="data">([^<]*)<', page)
    assert match is not None
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(match[1])))
    return unpacked


def read_without_answer() -> Scene:
    """Return a run whose only READ has no reply when the recording ends: its offset is known, and it brought nothing."""
    scene = Scene()
    scene.request(Opcode.OPEN, 110, 115, 120, sent=105)
    scene.unique += 2
    head = Opcode.READ << 32
    scene.add(Kind.FUSE_SEND, 200, 900, tid=TARGET, a=scene.unique, b=CONNECTION, c=head | 80, unfinished=True)
    scene.add(Kind.FUSE_DAEMON, 210, 900, tid=WORKER, a=scene.unique, b=7, c=head | TARGET, unfinished=True)
    scene.add(Kind.FUSE_READ, 210, tid=WORKER, a=scene.unique, b=4096, c=4096)
    scene.end = 900
    return scene


@pytest.mark.parametrize("make_scene", [cold_run, hot_run, large_run, portable_run, Scene])
def test_every_kind_of_trace_has_a_report(make_scene: Callable[[], Scene]) -> None:
    study, details, report = full_analysis(make_scene().trace())

    page = html.render(study, details, report)

    assert f"<strong>{report.verdict.generation_hits_cvmfs.upper()}</strong>" in page
    data = payload(page)
    assert {"phases", "timeline", "flame"} <= set(data["roots"])
    assert ("waterfall" in data["roots"]) == bool(report.fetches)
    assert ("tokens" in data["roots"]) == bool(report.tokens)


def test_reads_without_data_have_no_chart_by_offset() -> None:
    # GIVEN a run whose only READ has an offset and no reply when the recording ends
    page = html.render(*full_analysis(read_without_answer().trace()))
    # THEN there is a page, without a picture that has nothing to show
    assert "heat" not in payload(page)["roots"]


def test_tables_of_the_page_have_the_values_of_the_json() -> None:
    study, details, report = full_analysis(cold_run().trace())

    tables = {table["key"]: table for table in payload(html.render(study, details, report))["tables"]}
    columns = {column["name"]: column["values"] for column in tables["phases"]["columns"]}

    assert columns["phase"] == [row.name for row in report.phases]
    assert columns["wall"] == pytest.approx([row.wall_s for row in report.phases])
    assert columns["FUSE reads"] == [row.fuse_reads for row in report.phases]
    assert [column["values"] for column in tables["fetches"]["columns"] if column["name"] == "bytes"] == [[1_000_000]]
    assert tables["tokens"]["total"] == 3


def two_answers() -> Scene:
    scene = Scene()
    for at in (100, 500):
        scene.call("OgaGenerator_AppendTokens", at, at + 50)
        for number in range(3):
            scene.call("OgaGenerator_GenerateNextToken", at + 60 + 20 * number, at + 75 + 20 * number)
    return scene


def test_answers_and_mounts_that_were_not_observed_have_tables() -> None:
    other_mount = {"path": "/cvmfs/b.test.org", "device": 77, "connection": 77, "type": "fuse", "source": "cvmfs2"}
    scene = two_answers().add(Kind.FUSE_SEND, 120, 130, tid=TARGET, a=2, b=77, c=Opcode.READ << 32 | 80)
    study, details, report = full_analysis(
        scene.trace(other_mounts=[{**other_mount, "paths": [other_mount["path"]], "used": True}])
    )

    tables = {table["key"]: table for table in payload(html.render(study, details, report))["tables"]}

    assert len(report.answers) == tables["answers"]["total"] == 2
    answers = {column["name"]: column for column in tables["answers"]["columns"]}
    assert answers["tokens"]["values"] == [row.tokens for row in report.answers]
    assert (answers["wall"]["unit"], answers["wall"]["values"]) == (
        "s",
        pytest.approx([row.wall_s for row in report.answers]),
    )
    mounts = {column["name"]: column["values"] for column in tables["unobserved_mounts"]["columns"]}
    assert (mounts["path"], mounts["reads"]) == (["/cvmfs/b.test.org"], [1])


def test_a_single_answer_has_no_table() -> None:
    study, details, report = full_analysis(cold_run().trace())
    keys = {table["key"] for table in payload(html.render(study, details, report))["tables"]}
    assert len(report.answers) == 1
    assert not {"answers", "unobserved_mounts"} & keys


def test_values_that_were_not_observed_are_not_shown_as_zero() -> None:
    study, details, report = full_analysis(portable_run().trace())

    tables = {table["key"]: table for table in payload(html.render(study, details, report))["tables"]}
    columns = {column["name"]: column["values"] for column in tables["phases"]["columns"]}

    assert set(columns["from page cache"]) == {None}
    assert "single reads are not seen: nobody knows" in html.render(study, details, report)


def test_the_page_loads_nothing_from_the_network() -> None:
    page = html.render(*full_analysis(cold_run().trace()))

    assert "default-src 'none'" in unescape(page)
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", page)
    assert len(page) < 2_000_000


def test_open_writes_beside_the_trace_and_starts_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, opened_page = stored(tmp_path, cold_run()), tmp_path / "shown"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened_page}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))

    result = CliRunner().invoke(main, ["report", str(trace), "--open"])

    assert result.exit_code == 0
    assert opened_page.read_text().strip() == (tmp_path / "trace.html").as_uri()
    assert (tmp_path / "trace.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert result.stdout == ""


def test_open_without_a_screen_says_where_the_report_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)

    result = CliRunner().invoke(main, ["report", str(stored(tmp_path, cold_run())), "--open"])

    assert result.exit_code == 0
    assert f"no browser was found; the report is in {tmp_path / 'trace.html'}" in result.stderr


def test_open_needs_a_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(stored(tmp_path, cold_run())), "--open", "-o", "-"])

    assert result.exit_code == 2
    assert "--open needs a file" in result.output


def failing_run() -> Scene:
    """Return a run with a worker process, whose READ the server answered with 503, and which died of it."""
    scene, child = cold_run(), TARGET + 9
    scene.meta["target"] = {
        "argv": ["phi3-qa.py"],
        "pid": TARGET,
        "cwd": "/",
        "user": "user",
        "exit_code": 1,
        "signal": None,
    }
    scene.add(Kind.PROC_FORK, 50, tid=TARGET, a=child, b=child)
    unique = scene.request(Opcode.READ, 60, 90, 95, sent=55, asker=child, sender=child, offset=81_300_000)
    (place,) = [at for at, row in enumerate(scene.events) if row[4] == Kind.FUSE_DAEMON and row[7] == unique]
    row = scene.events[place]
    scene.events[place] = (*row[:6], -5, *row[7:])
    scene.add(Kind.PROC_SIGNAL, 97, tid=child, tgid=child, ret=7, a=1 << 40, c=2)
    scene.add(Kind.PROC_EXIT, 99, tid=child, tgid=child)
    return scene


def test_failures_come_first_and_each_process_has_a_row() -> None:
    study, details, report = full_analysis(failing_run().trace())

    page = html.render(study, details, report)

    text = re.sub(r"\s+", " ", unescape(page))
    first = text.index("phi3-qa.py ended with exit code 1")
    assert first < text.index("Does generation hit CVMFS?")
    assert "SIGBUS" in text
    tables = {table["key"]: table for table in payload(page)["tables"]}
    columns = {column["name"]: column["values"] for column in tables["processes"]["columns"]}
    assert columns["pid"] == [TARGET, TARGET + 9]
    assert columns["signal"] == ["", "SIGBUS"]
    failed = {column["name"]: column["values"] for column in tables["failures"]["columns"]}
    assert failed["error"] == ["EIO"]
