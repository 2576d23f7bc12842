#!/usr/bin/env python3
"""Takes the pictures of docs/img from the reports in docs/reports, in headless Chromium (scripts/setup.sh --tests)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"
WINDOW = {"light": (1400, 1560), "dark": (1400, 1560)}
PHONE = (390, 844)
COMPARED = (1400, 2060)
PAPER = (794, 1123)
"""A4 at 96 dots per inch."""


def main() -> None:
    """Take them all."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("pictures: no Chromium on PATH: scripts/setup.sh --tests installs it")
    (DOCS / "img").mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for colours, (width, height) in WINDOW.items():
            take(browser, "cold", f"report-{colours}", colours, width, height)
            take(browser, "mapped", f"reads-{colours}", colours, width, 900, "section:has(#plot-heat)")
        take(browser, "cold", "token-light", "light", 1400, 900, "section:has(#plot-timeline)", "#phase=decode&token=3")
        take(browser, "cold", "phone-dark", "dark", *PHONE)
        take(browser, "cold", "print", "light", *PAPER, media="print")
        take(browser, "comparison", "comparison-light", "light", *COMPARED)
        browser.close()


def take(
    browser: Browser,
    report: str,
    name: str,
    colours: str,
    width: int,
    height: int,
    part: str | None = None,
    fragment: str = "",
    media: Literal["print", "screen"] = "screen",
) -> None:
    """Take a picture of the window, or of one part of the page."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if colours == "dark" else "light"
    )
    page.goto((DOCS / "reports" / f"{report}.html").as_uri() + fragment)
    page.wait_for_selector("html[data-ready]")
    if media == "print":
        page.emulate_media(media=media)
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.wait_for_timeout(1500)
    target = DOCS / "img" / f"{name}.png"
    if part is None:
        page.wait_for_timeout(500)
        page.screenshot(path=target)
    else:
        page.locator(part).scroll_into_view_if_needed()
        page.wait_for_timeout(800)
        page.locator(part).screenshot(path=target)
    page.close()


if __name__ == "__main__":
    main()
