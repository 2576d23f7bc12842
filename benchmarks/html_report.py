"""The HTML report: how large it is, how soon it is seen, and how long zooming, hovering and choosing take, in headless Chromium."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.big_trace import big_trace
from benchmarks.results import Row, Settings
from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import full_analysis

SIZES = (1_000, 100_000, 1_000_000)
AIMED_AT = 100_000
"""Requests for which the aims of the browser hold."""
WRITE_AIMS_S = {100_000: 4.0, 1_000_000: 20.0}
SIZE_AIM_BYTES = 6_000_000
PAINT_AIM_S = 1.5
ACT_AIM_MS = 100.0
WATCH = """() => {
  window.painted = 0;
  for (const view of Bokeh.index.roots) {
    const paint = view.paint;
    view.paint = function (...given) { const result = paint.apply(this, given); window.painted = performance.now(); return result; };
  }
  addEventListener("keydown", () => { window.acted = performance.now(); }, true);
}"""
SETTLED_MS = 400


@dataclass(frozen=True)
class PageTimes:
    """What a browser was measured to do with one report."""

    paint_s: float
    usable_s: float
    zoom_ms: float
    hover_ms: float
    choose_ms: float


def run(settings: Settings) -> list[Row]:
    """Measure reports of every size; the median of the repeats."""
    rows = []
    for requests in SIZES:
        print(f"benchmark: HTML report of {requests:,} requests", file=sys.stderr)
        analysis = full_analysis(big_trace(requests))
        start_s = time.perf_counter()
        page = html.render(*analysis)
        rendered_s = time.perf_counter() - start_s
        path = settings.folder / f"report-{requests}.html"
        path.write_text(page, encoding="utf-8")
        page_times = _page_times(path, settings.repeats)
        rows += _rows(requests, path.stat().st_size, rendered_s, page_times)
    return rows


def _rows(requests: int, size: int, rendered_s: float, page_times: list[PageTimes]) -> list[Row]:
    measure, aimed = f"HTML report, {requests:,} requests", requests == AIMED_AT

    def row(name: str, value: float, unit: str, aim: float) -> Row:
        text = f"{value:.2f} {unit}" if unit in ("s", "MB") else f"{value:.0f} {unit}"
        return Row(f"{measure}, {name}", text, f"≤ {aim:g} {unit}" if aimed else "", value <= aim if aimed else None)

    def median(name: str) -> float:
        return statistics.median(getattr(row, name) for row in page_times)

    return [
        Row(f"{measure}, to write it", f"{rendered_s:.1f} s", *_aim(rendered_s, WRITE_AIMS_S.get(requests))),
        row("size", size / 1e6, "MB", SIZE_AIM_BYTES / 1e6),
        row("first paint", median("paint_s"), "s", PAINT_AIM_S),
        Row(f"{measure}, all pictures drawn", f"{median('usable_s'):.2f} s"),
        row("zoom", median("zoom_ms"), "ms", ACT_AIM_MS),
        row("hover", median("hover_ms"), "ms", ACT_AIM_MS),
        Row(f"{measure}, choose a phase", f"{median('choose_ms'):.0f} ms"),
    ]


def _aim(value_s: float, most_s: float | None) -> tuple[str, bool | None]:
    return ("", None) if most_s is None else (f"≤ {most_s:g} s", value_s <= most_s)


def _page_times(report: Path, repeats: int) -> list[PageTimes]:
    program = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if program is None:
        raise SystemExit("benchmark: the HTML report needs Chromium: scripts/setup.sh --tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            return [_look(browser.new_page(viewport={"width": 1400, "height": 900}), report) for _ in range(repeats)]
        finally:
            browser.close()


def _look(page: Page, report: Path) -> PageTimes:
    page.goto(report.resolve().as_uri())
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    usable_s = page.evaluate("Number(document.documentElement.dataset.ready) / 1000")
    paint_s = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    page.evaluate(WATCH)
    page.locator("#plot-timeline").evaluate("(place) => place.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(2 * SETTLED_MS)
    page.locator("#plot-timeline").focus()
    zoom = [_act(page, "+"), _act(page, "ArrowRight"), _act(page, "-")]
    hover = _hover(page)
    page.locator("#plot-timeline").focus()
    page.keyboard.press("ArrowDown")
    choose = _act(page, "Enter")
    page.close()
    return PageTimes(paint_s, usable_s, statistics.median(zoom), hover, choose)


def _act(page: Page, key: str) -> float:
    """Press a key; return the milliseconds until the last picture is painted that changes."""
    page.keyboard.press(key)
    page.wait_for_timeout(SETTLED_MS)
    took: float = page.evaluate("window.painted - window.acted")
    assert took > 0, f"{key} painted nothing"
    return took


def _hover(page: Page) -> float:
    """Move over marks; return the milliseconds of the slowest move, from the event to the next frame."""
    box = page.locator("#plot-timeline").bounding_box()
    assert box is not None
    page.evaluate(
        """() => { window.frames_ = []; addEventListener("pointermove", () => {
          const began = performance.now();
          requestAnimationFrame(() => setTimeout(() => window.frames_.push(performance.now() - began)));
        }, true); }"""
    )
    for step in range(12):
        page.mouse.move(box["x"] + 130 + 90 * step, box["y"] + 90 + 10 * (step % 5))
        page.wait_for_timeout(60)
    page.wait_for_timeout(SETTLED_MS)
    frames: list[float] = page.evaluate("window.frames_")
    assert frames
    return max(frames)
