"""The page in a real browser: the answer without scrolling, explanations, search, evidence that can be seen, tables that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report_page import PLACE, ReportPage

from cvtrace.analysis.contract.classes import Class
from cvtrace.analysis.report.html.palette import PAINTS

Open = Callable[..., ReportPage]


def test_the_answer_is_visible_without_scrolling(report: Path, open_report: Open) -> None:
    page = open_report(report).page

    for part in ("h1", ".figures li:last-child .hot", ".pieces", "#findings, #detail"):
        box = page.locator(part).first.bounding_box()
        assert box is not None, part
        assert box["y"] + 20 < 900, part
    assert page.locator(".figures li").count() == 4


def test_hovering_a_class_shows_its_meaning_with_a_link_to_the_glossary(report: Path, open_report: Open) -> None:
    page = open_report(report, "#token=3").page
    tip = page.get_by_role("tooltip")

    page.locator('button.class[data-class="cache.fill"]').hover()
    tip.wait_for()
    assert "Unpacking" in tip.inner_text()
    tip.get_by_role("link", name="glossary").click()

    assert page.evaluate("document.activeElement.id") == "cache-fill"
    assert page.locator("#cache-fill + dd").inner_text().startswith("Unpacking")
    assert page.evaluate("location.hash") == "#token=3"


def test_focusing_a_class_by_keyboard_shows_its_meaning(report: Path, open_report: Open) -> None:
    page = open_report(report).page

    page.locator(".piece").first.focus()

    page.get_by_role("tooltip").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("tooltip").wait_for(state="hidden")


def test_hovering_a_mark_shows_the_meaning_of_its_class(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("phases")
    mark = view.mark("phases", phase=1)
    x, y = view.place("phases", mark)
    meaning = next(member.meaning for member in Class if mark["what"].endswith(member.label))

    view.page.mouse.move(x - 1, y)
    view.page.mouse.move(x, y)

    view.page.get_by_text(meaning).locator("visible=true").first.wait_for(timeout=5000)


def test_bars_are_labelled_with_their_values(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("phases")

    written = "Bokeh.documents[0].get_model_by_name('phases-labels').data.label"
    view.until(f"{written}.length > 0", True)

    walls = set(view.values("phases", "wall"))
    totals = view.page.evaluate(
        "Bokeh.documents[0].get_model_by_name('phases-values').data.text ?? Bokeh.documents[0].get_model_by_name('phases-values').data.get('text')"
    )
    assert set(totals) <= walls
    assert totals


def test_search_highlights_matches_and_steps_through_them(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("timeline")
    before = view.range("timeline")
    box = view.page.get_by_role("searchbox", name="Search all pictures and tables")

    box.fill("token 17")
    view.until("document.getElementById('matches').textContent.startsWith('1 in')", True)
    token = view.mark("timeline", token=17, what="token 17")
    view.until("Bokeh.documents[0].get_model_by_name('timeline').selected.indices.length", 1)
    assert view.selected("timeline") == {token["index"]}
    box.press("Enter")

    begin, end = view.range("timeline")
    assert begin <= token["left"] < token["right"] <= end
    assert end - begin < (before[1] - before[0]) / 3
    assert "1 of 1: token 17" in view.page.locator("#matches").inner_text()
    view.page.keyboard.press("Escape")
    view.until("Bokeh.documents[0].get_model_by_name('timeline').selected.indices.length", 0)
    assert box.input_value() == ""


def test_search_goes_through_tables_that_are_open_and_closed(report: Path, open_report: Open) -> None:
    view = open_report(report)
    box = view.page.get_by_role("searchbox", name="Search all pictures and tables")
    names = view.values("files", "file")
    name = min(names, key=len)

    box.fill(name.upper())
    view.until("document.getElementById('matches').textContent.includes('in tables')", True)

    expected = [each for each in names if name in each]
    assert view.values("files", "file") == expected
    assert len(expected) < len(names)
    assert set(view.values("waits", "file")) <= set(expected)  # it was closed when the text was typed
    assert (
        view.page.locator('details[data-table="files"] .matching')
        .inner_text()
        .startswith(f"{len(expected)} matching row")
    )
    view.page.keyboard.press("Escape")
    view.until("document.querySelectorAll('.matching').length", 0)
    assert view.values("files", "file") == names


ACTIVITY = """() => {
  const source = Bokeh.documents[0].get_model_by_name("activity");
  const [left, right] = ["left", "right"].map((key) => source.data[key] ?? source.data.get(key));
  return { widest: Math.max(...right.map((each, number) => each - left[number])), from: Math.min(...left), to: Math.max(...right) };
}"""


def test_throughput_gets_finer_bars_when_it_is_zoomed(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("activity")
    whole = view.page.evaluate(ACTIVITY)
    begin = view.range("activity")[0]
    middle = (whole["from"] + whole["to"]) / 2

    view.page.evaluate(
        "([start, end]) => Bokeh.documents[0].get_model_by_name('time-activity').setv({ start, end })",
        [middle, middle + (whole["to"] - whole["from"]) / 20],
    )

    view.until(f"({ACTIVITY})().widest < {whole['widest'] / 10}", True)
    zoomed = view.page.evaluate(ACTIVITY)
    assert middle <= zoomed["from"] + 1e-9
    assert begin < zoomed["from"] < zoomed["to"] < whole["to"]
    label = "[...Bokeh.documents[0].roots().find((each) => each.id === each.id && each.x_range?.name === 'time-activity').left[0].major_label_overrides.values()][0]"
    assert "≤" in view.page.evaluate(label) or "none" in view.page.evaluate(label)


def test_pictures_of_time_begin_at_the_same_place(report: Path, open_report: Open) -> None:
    view = open_report(report)

    lefts = set()
    for key in ("timeline", "activity", "waterfall", "heat"):
        view.show(key)
        start, _ = view.range(key)
        lefts.add(round(view.page.evaluate(PLACE, [key, start, 0])[0]))

    assert max(lefts) - min(lefts) <= 1


PIXEL = """([key, x, y, colour]) => {
  const place = document.getElementById(`plot-${key}`).getBoundingClientRect();
  const view = Bokeh.index.roots.find((each) => each.el.parentElement?.id === `plot-${key}` || document.getElementById(`plot-${key}`).contains(each.el));
  const { canvas } = view.export("png");
  const scale = canvas.width / place.width;
  const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const around = 12;
  const pixels = canvas.getContext("2d").getImageData(Math.round((x - place.left) * scale) - around, Math.round((y - place.top) * scale) - around, 2 * around, 2 * around).data;
  let count = 0;
  for (let at = 0; at < pixels.length; at += 4) if (wanted.every((value, part) => Math.abs(pixels[at + part] - value) < 8)) count += 1;
  return count / scale / scale;
}"""


EVIDENCE = """(key) => {
  const get = (source, name) => [...(source.data[name] ?? source.data.get(name))];
  for (const name of key === "timeline" ? ["evidence"] : [...Array(8).keys()].map((each) => `heat-evidence-${each}`)) {
    const source = Bokeh.documents[0].get_model_by_name(name);
    if (!source || !get(source, "what").length) continue;
    const [left, right, bottom, paint] = ["left", "right", "bottom", "paint"].map((each) => get(source, each));
    const lengths = left.map((value, index) => right[index] - value);
    const index = lengths.indexOf(Math.min(...lengths));
    return { name, left: left[index], right: right[index], bottom: bottom[index], top: bottom[index], paint: paint[index] };
  }
}"""


@pytest.mark.parametrize("key", ["timeline", "heat"])
def test_a_short_read_of_a_token_is_drawn_wide_enough_to_see(report: Path, open_report: Open, key: str) -> None:
    # GIVEN the shortest read of a token, which as a rectangle is a fraction of a pixel
    view = open_report(report)
    mark = view.page.evaluate(EVIDENCE, key)
    if key == "heat":
        view.page.locator("#heat-file").select_option(mark["name"].rpartition("-")[2])
    view.show(key)
    begin, end = view.range(key)
    assert (mark["right"] - mark["left"]) / (end - begin) * view.box(key)["width"] < 1
    # WHEN the whole run is shown
    x, y = view.place(key, {**mark, "right": mark["left"]})
    # THEN it takes at least 15 pixels of its colour
    assert view.page.evaluate(PIXEL, [key, x, y, PAINTS[mark["paint"]]]) >= 15


def test_the_first_token_has_a_bar(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("tokens")

    first = view.mark("tokens", token=0)

    assert first["top"] - first["bottom"] > 0
    assert first["what"].startswith("token 0")


@pytest.mark.parametrize("width", [1400, 1000, 390])
def test_no_table_is_cut_off(report: Path, open_report: Open, width: int) -> None:
    view = open_report(report, viewport={"width": width, "height": 900})
    keys = view.page.locator("details.table").evaluate_all("(all) => all.map((each) => each.dataset.table)")

    for key in keys:
        view.rows(key)
        view.frame()
        frame = view.page.locator(f'details[data-table="{key}"] .scroll')
        assert frame.evaluate("(place) => place.scrollWidth - place.clientWidth") <= 1, key
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_columns_can_be_shown(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.rows("phases")
    place = view.page.locator('details[data-table="phases"]')
    fewer = place.locator("th").count()

    place.get_by_role("button", name="All columns").click()

    assert place.locator("th").count() > fewer
    assert "hits CVMFS" in place.locator("th").all_inner_texts()
    place.get_by_role("button", name="Fewer columns").click()
    assert place.locator("th").count() == fewer


def test_folders_of_the_file_tree_open_by_click_and_by_key(many_files: Path, open_report: Open) -> None:
    page = open_report(many_files).page
    rows = page.locator("#tree tbody tr")
    page.locator("#tree").scroll_into_view_if_needed()
    before = rows.count()
    assert before > 40  # folders with one folder in them are open
    root = rows.first

    root.click()
    assert rows.count() == 1
    root.focus()
    page.keyboard.press("ArrowRight")
    assert rows.count() > 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.ariaLevel") == "2"


def test_throughput_follows_the_zoom_of_the_timeline(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("timeline")
    view.page.locator("#plot-timeline").focus()
    view.page.keyboard.press("+")
    zoomed = view.range("timeline")

    view.show("activity")

    assert view.range("activity") == pytest.approx(zoomed)
