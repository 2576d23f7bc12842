"""The report in a browser: what is shown, hovered, selected and printed, without network requests."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from report_page import ReportPage
from runs import hot_run, portable_run
from scene import Scene

from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import full_analysis

PICTURES = ("phases", "timeline", "activity", "tokens", "flame", "waterfall", "heat")
Open = Callable[..., ReportPage]


def test_each_chart_of_the_report_is_drawn_and_has_its_table(report: Path, open_report: Open) -> None:
    view = open_report(report)

    assert view.page.locator("h1").inner_text() == "Does generation hit CVMFS? YES"
    for key in PICTURES:
        view.show(key)
        drawn = view.page.evaluate(
            """(key) => { const canvas = document.getElementById(`plot-${key}`).querySelector("*").shadowRoot
            ? [...document.querySelectorAll(`#plot-${key} *`)].flatMap((e) => [...(e.shadowRoot?.querySelectorAll("*") ?? [])])
                .flatMap((e) => e.tagName === "CANVAS" ? [e] : [...(e.shadowRoot?.querySelectorAll("canvas") ?? [])]) : [];
            return canvas.some((each) => { const pixels = each.getContext("2d").getImageData(0, 0, each.width, each.height).data;
              const colours = new Set(); for (let i = 0; i < pixels.length; i += 64) colours.add(pixels.slice(i, i + 3).join()); return colours.size > 2; }); }""",
            key,
        )
        assert drawn, key
        assert view.page.locator(f"section:has(#plot-{key}) details.table").count() == 1
    for table in ("phases", "tokens", "files", "fetches", "waits", "stacks"):
        assert view.rows(table), table


@pytest.mark.parametrize("made", [hot_run, portable_run, Scene])
def test_reports_of_runs_with_few_events_open(made: Callable[[], Scene], open_report: Open, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(html.render(*full_analysis(made().trace())), encoding="utf-8")

    view = open_report(report, "#phase=load")

    for key in view.page.locator(".plot").evaluate_all("(all) => all.map((each) => each.dataset.key)"):
        view.show(key)
        view.page.locator(f"#plot-{key}").focus()
        view.page.keyboard.press("ArrowDown")
    assert view.rows("phases")
    view.page.keyboard.press("Escape")
    assert view.hash == ""


class _Knocks(http.server.BaseHTTPRequestHandler):
    knocked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.knocked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    _Knocks.knocked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Knocks) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_the_page_makes_no_network_request(report: Path, server: str, open_report: Open) -> None:
    # GIVEN a server that would be reached from a page without a policy
    view = open_report(report)
    view.page.context.request.get(f"{server}/reachable")
    assert _Knocks.knocked == ["/reachable"]
    # WHEN the page tries what a hostile name might make it try
    view.page.evaluate(
        """async (url) => {
          await fetch(url + "/fetch").catch(() => {});
          new Image().src = url + "/image";
          document.body.append(Object.assign(document.createElement("script"), { src: url + "/script" }));
          document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hacked = 1" }));
          document.body.append(Object.assign(document.createElement("iframe"), { src: url + "/frame" }));
          document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: url + "/style" }));
          navigator.sendBeacon(url + "/beacon");
          await new Promise((done) => setTimeout(done, 500));
        }""",
        server,
    )
    # THEN nothing comes of it
    assert _Knocks.knocked == ["/reachable"]
    assert view.page.evaluate("window.hacked") is None
    assert all("Content Security Policy" in each or each.startswith(server) for each in view.troubles)
    view.troubles.clear()


def test_hovering_a_mark_shows_its_name_and_time(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("tokens")
    mark = view.mark("tokens", token=7)

    x, y = view.place("tokens", mark)
    view.page.mouse.move(x - 1, y)
    view.page.mouse.move(x, y)

    view.page.get_by_text(mark["what"]).first.wait_for(timeout=5000)


def test_dragging_zooms_all_pictures_of_time(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("timeline")
    before = view.range("timeline")
    box = view.box("timeline")

    view.page.mouse.move(box["x"] + 400, box["y"] + 60)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + 500, box["y"] + 70, steps=4)
    view.page.mouse.up()
    view.page.wait_for_timeout(300)
    after = view.range("timeline")

    assert after[1] - after[0] < (before[1] - before[0]) / 5
    for key in ("waterfall", "heat"):
        view.show(key)
        assert view.range(key) == pytest.approx(after)


def test_the_wheel_scrolls_the_page_and_zooms_with_ctrl_only(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("timeline")
    before = view.range("timeline")
    box = view.box("timeline")
    view.page.mouse.move(box["x"] + 400, box["y"] + 60)

    view.page.mouse.wheel(0, -60)
    view.page.wait_for_timeout(300)
    assert view.range("timeline") == before

    view.show("timeline")
    box = view.box("timeline")
    view.page.mouse.move(box["x"] + 400, box["y"] + 60)
    view.page.keyboard.down("Control")
    view.page.mouse.wheel(0, -240)
    view.page.keyboard.up("Control")
    view.page.wait_for_timeout(300)
    zoomed = view.range("timeline")
    assert zoomed[1] - zoomed[0] < before[1] - before[0]


def test_a_selected_phase_is_highlighted_in_all_charts_and_tables(report: Path, open_report: Open) -> None:
    # GIVEN a report, with its tables open
    view = open_report(report)
    assert set(view.values("waits", "phase")) == {"load", "decode"}
    # WHEN the bar of decode is clicked
    decode = view.click("phases", "phases", phase=4)["phase"]
    # THEN the address, the tables, the pictures and the axis of time show decode
    assert view.hash == "#phase=decode"
    assert view.page.locator("#chosen .chip").all_inner_texts() == ["phase: decode ✕"]
    assert set(view.values("waits", "phase")) == {"decode"}
    assert set(view.values("stacks", "phase")) == {"decode"}
    view.show("timeline")
    chosen = view.selected("timeline")
    assert chosen
    phases = view.page.evaluate(
        "(name) => [...(Bokeh.documents[0].get_model_by_name(name).data.phase ?? Bokeh.documents[0].get_model_by_name(name).data.get('phase'))]",
        "timeline",
    )
    assert chosen == {index for index, phase in enumerate(phases) if phase == decode}
    begin, end = view.range("timeline")
    assert begin > 0.1 * end
    # AND Escape shows all again
    view.page.keyboard.press("Escape")
    assert view.hash == ""
    assert view.selected("timeline") == set()
    assert set(view.values("waits", "phase")) == {"load", "decode"}


def test_a_token_a_fetch_and_a_file_can_be_selected(report: Path, open_report: Open) -> None:
    view = open_report(report)

    token = view.click("tokens", "tokens", token=11)
    assert view.hash == "#token=11"
    view.show("timeline")
    assert view.selected("timeline")
    assert set(view.values("waits", "token")) == {"11"}

    view.page.keyboard.press("Escape")
    view.rows("fetches")
    view.click("waterfall", "waterfall", fetch=3)
    assert view.hash == "#fetch=3"
    chosen = view.page.locator('details[data-table="fetches"] tr[aria-selected="true"] td').first.inner_text()
    assert chosen == "3"
    view.page.keyboard.press("Escape")

    path = view.rows("files")[-1][0]
    view.page.locator('details[data-table="files"] tbody tr').last.click()
    assert view.hash == f"#file={path}"
    assert path in view.page.locator("#heat-file option:checked").inner_text()
    assert token["token"] == 11


def test_the_selection_is_read_from_and_written_to_the_link(report: Path, open_report: Open) -> None:
    view = open_report(report, "#phase=decode&token=17")

    assert view.page.locator("#chosen .chip").all_inner_texts() == ["phase: decode ✕", "token: 17 ✕"]
    view.show("timeline")
    begin, end = view.range("timeline")
    token = view.mark("timeline", token=17)
    assert begin <= token["left"] < token["right"] <= end
    assert end - begin < 3 * (token["right"] - token["left"])

    view.page.evaluate("location.hash = '#token=3&token=nonsense&phase=nowhere&fetch=99999&x=<b>'")
    view.page.wait_for_timeout(200)
    assert view.page.locator("#chosen .chip").all_inner_texts() == ["token: 3 ✕"]


def test_classes_can_be_hidden(report: Path, open_report: Open) -> None:
    view = open_report(report)
    button = view.page.locator('button.class[data-name="compute.cpu"]')

    button.click()

    assert button.get_attribute("aria-pressed") == "false"
    view.show("phases")
    left_in = view.selected("phases")
    compute = view.mark("phases", what="load: compute.cpu")["index"]
    assert left_in
    assert compute not in left_in


def test_tables_sort_and_filter(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.rows("tokens")
    place = view.page.locator('details[data-table="tokens"]')

    place.get_by_role("button", name="wall", exact=True).click()
    downward = [row[2] for row in view.rows("tokens")]
    place.get_by_role("button", name="wall", exact=True).click()
    upward = [row[2] for row in view.rows("tokens")]

    assert len(upward) == 40
    assert [_seconds(each) for each in upward] == sorted(map(_seconds, upward))
    assert [_seconds(each) for each in downward] == sorted(map(_seconds, upward), reverse=True)
    assert place.locator('th[aria-sort="ascending"]').inner_text() == "wall"
    view.rows("files")
    place = view.page.locator('details[data-table="files"]')
    place.get_by_role("searchbox").fill("part-002")
    assert [row[0] for row in view.rows("files")] == ["models/big/part-002.onnx.data"]


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]


def test_the_flame_graph_shows_waiting_or_computing_and_zooms(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("flame")
    view.page.locator('#flame-mode input[value="computing"]').check()
    view.frame()
    shown = view.page.evaluate("Bokeh.documents[0].get_model_by_name('flame-labels').data.label")
    assert "compute.cpu" in "".join(shown)
    view.page.locator('#flame-mode input[value="all"]').check()
    view.frame()

    frame = view.click("flame", "flame-all", what="decode")

    assert view.hash == "#phase=decode"
    start = view.page.evaluate(
        "Bokeh.index.roots.map((each) => each.model.x_range).find((range) => range.start > 0.3 && range.end <= 1)?.start"
    )
    assert start == pytest.approx(frame["left"])


def test_dark_and_light(report: Path, open_report: Open) -> None:
    view = open_report(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "Bokeh.index.roots[0].model.below[0].major_label_text_color"
    assert view.page.evaluate(ground) == "rgb(21, 24, 29)"
    assert view.page.evaluate(ink) == "#e8eaee"

    view.page.get_by_role("button", name="Light").click()

    assert view.page.evaluate(ground) == "rgb(255, 255, 255)"
    assert view.page.evaluate(ink) == "#1b1e24"
    view.page.emulate_media(color_scheme="light")
    view.frame()
    view.page.emulate_media(color_scheme="dark")
    view.until(ground, "rgb(21, 24, 29)")


def test_the_report_works_by_keyboard(report: Path, open_report: Open) -> None:
    view = open_report(report)
    focused = "document.activeElement.id"
    for _ in range(60):
        view.page.keyboard.press("Tab")
        if view.page.evaluate(focused) == "plot-timeline":
            break
    assert view.page.evaluate(focused) == "plot-timeline"
    assert view.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = view.range("timeline")

    view.page.keyboard.press("+")
    zoomed = view.range("timeline")
    view.page.keyboard.press("ArrowRight")
    moved = view.range("timeline")
    assert zoomed[1] - zoomed[0] == pytest.approx((before[1] - before[0]) / 2)
    assert moved[0] > zoomed[0]

    view.page.keyboard.press("ArrowDown")
    first = view.page.locator("#detail-timeline").inner_text()
    view.page.keyboard.press("ArrowDown")
    second = view.page.locator("#detail-timeline").inner_text()
    assert first
    assert second != first
    view.page.keyboard.press("Enter")
    assert view.hash.startswith("#phase=")

    view.rows("tokens")
    view.page.keyboard.press("Escape")
    view.page.locator('details[data-table="tokens"] tbody tr').first.focus()
    view.page.keyboard.press("ArrowDown")
    view.page.keyboard.press("Enter")
    assert view.hash == "#token=1"


def test_the_report_prints_on_a4_with_its_tables(report: Path, open_report: Open, tmp_path: Path) -> None:
    view = open_report(report, color_scheme="dark")

    view.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)

    printed = (tmp_path / "report.pdf").read_bytes()
    boxes = {
        (round(float(width)), round(float(height)))
        for width, height in re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", printed)
    }
    assert boxes == {(595, 842)}
    assert view.page.locator("details.table:not([open])").count() == 0
    copies = """() => { dispatchEvent(new Event("beforeprint"));
      const widths = [...document.querySelectorAll("canvas.paper")].map((each) => each.width / devicePixelRatio);
      dispatchEvent(new Event("afterprint")); return widths; }"""
    widths = view.page.evaluate("Bokeh.index.roots.map((each) => each.model.outer_width).filter((each) => each)")
    assert sorted(view.page.evaluate(copies)) == pytest.approx(sorted(widths), abs=1)
    assert view.page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(report: Path, open_report: Open, width: int) -> None:
    view = open_report(report, viewport={"width": width, "height": 900})

    for table in ("fetches", "waits"):
        view.rows(table)

    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
