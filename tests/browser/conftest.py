"""A browser for the tests of the report. Each test asserts that the page makes no request and logs no error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_page import ReportPage

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.tracer.store import Trace

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium without a window."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        if os.geteuid() == 0 or os.environ.get("CI"):
            pytest.fail("no Chromium on PATH: scripts/setup.sh --tests installs it")
        pytest.skip("no Chromium on PATH, and no root to install it (scripts/setup.sh --tests)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_report(browser: Browser) -> Iterator[Callable[..., ReportPage]]:
    """Open a report; at the end, nothing may have left the page and nothing may have gone wrong in it."""
    pages: list[tuple[ReportPage, Page]] = []

    def open_it(report: Path, fragment: str = "", **context: object) -> ReportPage:
        page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, "color_scheme": "light", **context})  # type: ignore[arg-type]
        page.set_default_timeout(10_000)
        view = ReportPage(page)
        pages.append((view, page))
        view.open(report, fragment)
        return view

    yield open_it
    for view, page in pages:
        page.close()
        assert view.troubles == []


def write_report(folder: Path, trace: Trace) -> Path:
    """Write the page of a trace into a folder."""
    path = folder / "report.html"
    path.write_text(html.render(*full_analysis(trace)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report on a made-up run of 3,000 requests: a load, then 40 tokens, with 30 fetches."""
    return write_report(tmp_path_factory.mktemp("report"), big_trace(3000, tokens=40, files=4))


@pytest.fixture(scope="session")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report on a run that reads 40 files."""
    return write_report(tmp_path_factory.mktemp("many"), big_trace(3000, tokens=5, files=40))
