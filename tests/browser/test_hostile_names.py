"""Names with markup, escape sequences, other writing directions, 4 KiB or invalid UTF-8 are shown as text in every output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cvtrace_run import CVTRACE, cvtrace
from hostile import hostile_run
from lab_mount import lab
from playwright.sync_api import Page
from report_page import ReportPage

from cvtrace.analysis.report import html, text
from cvtrace.analysis.report.names import UNSEEN, printable
from cvtrace.analysis.summary.assemble import full_analysis

MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=2</script>"
HOSTILE = (
    MARKUP,
    "</script><script>window.hacked=3</script>",
    "'\"><svg onload=window.hacked=4>",
    "@{what}{safe} $index $$x^2$$ \\[x\\] {{ 7 * 7 }} %s ${7*7}",
    "red \x1b[31m bell \x07 back \x08\x08\x08 new\nline\r\x00",
    "gpj.\u202eexe \u200b\ufeff",
    "&lt;b&gt; &amp; \ufffd",
    "deep/" * 60 + "end",
)


def assert_harmless(page: Page) -> None:
    """Nothing of a name became an element, ran, or moved the text around."""
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe, object, embed, svg[onload]").count() == 0
    shown = page.locator("body").inner_text()
    assert not [each for each in UNSEEN.findall(shown) if each not in "\n\t"]


def test_hostile_names_are_shown_as_text_in_the_report(open_report: Callable[..., ReportPage], tmp_path: Path) -> None:
    # GIVEN a report full of hostile names
    report = tmp_path / "report.html"
    report.write_text(html.render(*full_analysis(hostile_run(HOSTILE).trace())), encoding="utf-8", errors="strict")
    view = open_report(report)
    # WHEN everything is open_report, chosen and pointed at
    for table in ("phases", "tokens", "files", "fetches", "waits", "stacks"):
        view.rows(table)
    files = [row[0] for row in view.rows("files")]
    for name in HOSTILE:
        assert printable(name.replace("\x00", "")).rstrip("/") in files, name
    assert_harmless(view.page)
    for key in ("timeline", "waterfall", "heat", "phases", "flame"):
        view.show(key)
        box = view.box(key)
        for step in range(12):
            view.page.mouse.move(box["x"] + 120 + 90 * step, box["y"] + 20 + 17 * step)
        view.page.locator(f"#plot-{key}").focus()
        for _ in range(12):
            view.page.keyboard.press("ArrowDown")
    for number in range(0, len(HOSTILE), 3):
        view.page.locator('details[data-table="files"] tbody tr').nth(number).click()
        assert view.hash.startswith("#file=")
        assert_harmless(view.page)
        view.page.reload()
        view.page.wait_for_selector("html[data-ready]")
        assert view.page.locator("#chosen .chip").count() == 1
        view.page.keyboard.press("Escape")
        view.rows("files")
    # THEN none of it was more than text (and, on leaving the test, no request was made and no error seen)
    assert_harmless(view.page)


def test_hostile_names_are_shown_as_text_in_the_summary() -> None:
    _, _, report = full_analysis(hostile_run(HOSTILE).trace())

    summary = text.render(report, 120, verbose=True)

    assert not [each for each in UNSEEN.findall(summary) if each != "\n"]
    assert printable(MARKUP) in summary


PROGRAM = """
import os, sys
for folder, _, files in os.walk(os.fsencode(sys.argv[1])):
    for name in files:
        with open(os.path.join(folder, name), "rb") as file:
            file.read()
"""


@pytest.mark.root
def test_real_files_with_hostile_names_are_traced_and_shown(
    open_report: Callable[..., ReportPage], tmp_path: Path
) -> None:
    # GIVEN a repository with files of such names, one that is not UTF-8, and one whose path is very long
    deep = "/".join(["d" * 120] * 30)
    names = [
        *(name.replace("\x00", "").replace("/", "|")[:80] for name in HOSTILE),
        os.fsdecode(b"not utf-8 \xff\xfe"),
        f"{deep}/model.onnx",
    ]
    with lab(tmp_path, {name: os.urandom(5000) for name in names}) as served, served.mount() as mounted:
        # WHEN a program that reads them is traced, and the trace reported in both forms
        where = ["-o", tmp_path / "trace", "--mount", mounted.root, "--no-summary", "--"]
        cvtrace("run", *where, sys.executable, "-c", PROGRAM, mounted.root)
    summary = subprocess.run([*CVTRACE, "report", tmp_path / "trace"], check=True, capture_output=True)
    cvtrace("report", tmp_path / "trace", "--format", "html", "-o", tmp_path / "r.html")
    view = open_report(tmp_path / "r.html")
    # THEN all of them are there, as text
    files = [row[0] for row in view.rows("files")]
    for name in names[: len(HOSTILE)]:
        assert printable(name) in files
    assert any(each.startswith("not utf-8 ") for each in files)
    assert any(each.startswith("d" * 120) for each in files)
    assert_harmless(view.page)
    assert not [each for each in UNSEEN.findall(summary.stdout.decode()) if each != "\n"]
