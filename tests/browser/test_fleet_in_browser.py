"""The page of a fleet in a real browser: pictures are drawn, tables sort and filter, and nothing is asked of any network."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleets import change_meta, small_fleet
from playwright.sync_api import Browser, Page

from cvtrace.analysis.fleet.fleet import fleet_of
from cvtrace.analysis.report.fleet.page import render

PICTURES = (
    "heat",
    "bars",
    "spread-work-s",
    "spread-load-s",
    "spread-first-token-s",
    "spread-tokens-per-s",
    "queue",
    "begun",
    "bytes",
)
MARKUP = "<img src=x onerror=window.hacked=1></script><script>window.hacked=2</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    small_fleet(folder / "traces", nodes=5, events=1_500)
    change_meta(folder / "traces" / "node-00003", host=MARKUP)
    path = folder / "fleet.html"
    path.write_text(render(fleet_of([folder / "traces"], workers=1), folder, None), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, report: Path) -> Page:
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            troubles.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None
        ),
    )
    page.goto(report.as_uri())
    page.wait_for_function("document.documentElement.dataset.ready")
    yield page  # type: ignore[misc]
    assert troubles == []
    assert page.evaluate("window.hacked") is None
    page.close()


def test_every_picture_is_drawn(page: Page) -> None:
    for key in PICTURES:
        assert page.locator(f"#plot-{key} canvas, #plot-{key} .bk-Figure").count() > 0, key


def test_the_table_of_nodes_sorts_and_filters(page: Page) -> None:
    rows = page.locator("section[aria-labelledby=table-nodes] tbody tr")
    assert rows.count() == 5

    page.locator("section[aria-labelledby=table-nodes] th button", has_text="node").first.click()
    names = [rows.nth(number).locator("td").first.inner_text() for number in range(5)]
    assert names == sorted(names, reverse=True)

    page.locator("section[aria-labelledby=table-nodes] input").fill("node-00002")
    assert [rows.nth(number).is_visible() for number in range(5)].count(True) == 1


def test_dark_and_light(page: Page) -> None:
    before = page.evaluate("document.documentElement.dataset.theme")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") != before


def test_a_class_in_the_legend_leads_to_its_meaning_in_the_page(page: Page) -> None:
    # GIVEN a page whose glossary is folded away
    link = page.locator(".swatches a", has_text="cache.fill")
    meaning = page.locator("#cache-fill + dd")
    assert not meaning.is_visible()
    # WHEN a class is chosen / THEN its meaning is visible, and it was the text that hovering shows
    link.click()
    assert meaning.is_visible()
    assert meaning.inner_text() == link.get_attribute("title")


def test_the_pictures_and_the_glossary_are_printed(page: Page) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("canvas.paper").count() == len(PICTURES)
    assert page.locator("#glossary-terms").get_attribute("open") is not None
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("canvas.paper").count() == 0


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_of_a_fleet_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = (
        """[...document.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > each.clientWidth + 1).length"""
    )
    assert page.evaluate(cut) == 0
