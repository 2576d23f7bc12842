"""The report in a real browser: what a user sees, points at, chooses and prints; and that it keeps to itself."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from runs import hot_run, portable_run
from scene import Scene
from watched import Watched

from benchmarks.big_trace import big_trace
from cvtrace.analysis.report import html
from cvtrace.analysis.summary.assemble import full_analysis

PICTURES = ("phases", "timeline", "tokens", "flame", "waterfall", "heat")
Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report on a made-up run of 3,000 requests: a load, then 40 tokens, with 30 fetches."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html.render(*full_analysis(big_trace(3000, tokens=40, files=4))), encoding="utf-8")
    return path


def test_every_picture_is_drawn_and_has_its_table(report: Path, opened: Open) -> None:
    watched = opened(report)

    assert watched.page.locator("h1").inner_text() == "Does generation hit CVMFS? YES"
    for key in PICTURES:
        watched.show(key)
        drawn = watched.page.evaluate(
            """(key) => { const canvas = document.getElementById(`plot-${key}`).querySelector("*").shadowRoot
            ? [...document.querySelectorAll(`#plot-${key} *`)].flatMap((e) => [...(e.shadowRoot?.querySelectorAll("*") ?? [])])
                .flatMap((e) => e.tagName === "CANVAS" ? [e] : [...(e.shadowRoot?.querySelectorAll("canvas") ?? [])]) : [];
            return canvas.some((each) => { const pixels = each.getContext("2d").getImageData(0, 0, each.width, each.height).data;
              const colours = new Set(); for (let i = 0; i < pixels.length; i += 64) colours.add(pixels.slice(i, i + 3).join()); return colours.size > 2; }); }""",
            key,
        )
        assert drawn, key
        assert watched.page.locator(f"section:has(#plot-{key}) details.table").count() == 1
    for table in ("phases", "tokens", "files", "fetches", "waits", "stacks"):
        assert watched.rows(table), table


@pytest.mark.parametrize("made", [hot_run, portable_run, Scene])
def test_reports_of_little_open_too(made: Callable[[], Scene], opened: Open, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(html.render(*full_analysis(made().trace())), encoding="utf-8")

    watched = opened(report, "#phase=load")

    for key in watched.page.locator(".plot").evaluate_all("(all) => all.map((each) => each.dataset.key)"):
        watched.show(key)
        watched.page.locator(f"#plot-{key}").focus()
        watched.page.keyboard.press("ArrowDown")
    assert watched.rows("phases")
    watched.page.keyboard.press("Escape")
    assert watched.hash == ""


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


def test_nothing_can_leave_the_page(report: Path, server: str, opened: Open) -> None:
    # GIVEN a server that would be reached from a page without a policy
    watched = opened(report)
    watched.page.context.request.get(f"{server}/reachable")
    assert _Knocks.knocked == ["/reachable"]
    # WHEN the page tries what a hostile name might make it try
    watched.page.evaluate(
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
    assert watched.page.evaluate("window.hacked") is None
    assert all("Content Security Policy" in each or each.startswith(server) for each in watched.troubles)
    watched.troubles.clear()


def test_pointing_at_a_mark_tells_what_it_is(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.show("tokens")
    mark = watched.mark("tokens", token=7)

    x, y = watched.place("tokens", mark)
    watched.page.mouse.move(x - 1, y)
    watched.page.mouse.move(x, y)

    watched.page.get_by_text(mark["what"]).first.wait_for(timeout=5000)


def test_dragging_zooms_all_pictures_of_time(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.show("timeline")
    before = watched.range("timeline")
    box = watched.box("timeline")

    watched.page.mouse.move(box["x"] + 400, box["y"] + 60)
    watched.page.mouse.down()
    watched.page.mouse.move(box["x"] + 500, box["y"] + 70, steps=4)
    watched.page.mouse.up()
    watched.page.wait_for_timeout(300)
    after = watched.range("timeline")

    assert after[1] - after[0] < (before[1] - before[0]) / 5
    for key in ("waterfall", "heat"):
        watched.show(key)
        assert watched.range(key) == pytest.approx(after)


def test_the_wheel_scrolls_the_page_and_zooms_with_ctrl_only(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.show("timeline")
    before = watched.range("timeline")
    box = watched.box("timeline")
    watched.page.mouse.move(box["x"] + 400, box["y"] + 60)

    watched.page.mouse.wheel(0, -60)
    watched.page.wait_for_timeout(300)
    assert watched.range("timeline") == before

    watched.show("timeline")
    box = watched.box("timeline")
    watched.page.mouse.move(box["x"] + 400, box["y"] + 60)
    watched.page.keyboard.down("Control")
    watched.page.mouse.wheel(0, -240)
    watched.page.keyboard.up("Control")
    watched.page.wait_for_timeout(300)
    zoomed = watched.range("timeline")
    assert zoomed[1] - zoomed[0] < before[1] - before[0]


def test_a_phase_that_is_chosen_is_followed_everywhere(report: Path, opened: Open) -> None:
    # GIVEN a report, with its tables open
    watched = opened(report)
    assert set(watched.values("waits", "phase")) == {"load", "decode"}
    # WHEN the bar of decode is clicked
    decode = watched.click("phases", "phases", phase=4)["phase"]
    # THEN the address, the tables, the pictures and the axis of time show decode
    assert watched.hash == "#phase=decode"
    assert watched.page.locator("#chosen .chip").all_inner_texts() == ["phase: decode ✕"]
    assert set(watched.values("waits", "phase")) == {"decode"}
    assert set(watched.values("stacks", "phase")) == {"decode"}
    watched.show("timeline")
    chosen = watched.selected("timeline")
    assert chosen
    phases = watched.page.evaluate(
        "(name) => [...(Bokeh.documents[0].get_model_by_name(name).data.phase ?? Bokeh.documents[0].get_model_by_name(name).data.get('phase'))]",
        "timeline",
    )
    assert chosen == {index for index, phase in enumerate(phases) if phase == decode}
    begin, end = watched.range("timeline")
    assert begin > 0.1 * end
    # AND Escape shows all again
    watched.page.keyboard.press("Escape")
    assert watched.hash == ""
    assert watched.selected("timeline") == set()
    assert set(watched.values("waits", "phase")) == {"load", "decode"}


def test_a_token_a_fetch_and_a_file_can_be_chosen(report: Path, opened: Open) -> None:
    watched = opened(report)

    token = watched.click("tokens", "tokens", token=11)
    assert watched.hash == "#token=11"
    watched.show("timeline")
    assert watched.selected("timeline")
    assert set(watched.values("waits", "token")) == {"11"}

    watched.page.keyboard.press("Escape")
    watched.rows("fetches")
    watched.click("waterfall", "waterfall", fetch=3)
    assert watched.hash == "#fetch=3"
    chosen = watched.page.locator('details[data-table="fetches"] tr[aria-selected="true"] td').first.inner_text()
    assert chosen == "3"
    watched.page.keyboard.press("Escape")

    path = watched.rows("files")[-1][0]
    watched.page.locator('details[data-table="files"] tbody tr').last.click()
    assert watched.hash == f"#file={path}"
    assert path in watched.page.locator("#heat-file option:checked").inner_text()
    assert token["token"] == 11


def test_a_deep_link_is_read_and_followed(report: Path, opened: Open) -> None:
    watched = opened(report, "#phase=decode&token=17")

    assert watched.page.locator("#chosen .chip").all_inner_texts() == ["phase: decode ✕", "token: 17 ✕"]
    watched.show("timeline")
    begin, end = watched.range("timeline")
    token = watched.mark("timeline", token=17)
    assert begin <= token["left"] < token["right"] <= end
    assert end - begin < 3 * (token["right"] - token["left"])

    watched.page.evaluate("location.hash = '#token=3&token=nonsense&phase=nowhere&fetch=99999&x=<b>'")
    watched.page.wait_for_timeout(200)
    assert watched.page.locator("#chosen .chip").all_inner_texts() == ["token: 3 ✕"]


def test_classes_can_be_left_out(report: Path, opened: Open) -> None:
    watched = opened(report)
    button = watched.page.locator('button.class[data-name="compute.cpu"]')

    button.click()

    assert button.get_attribute("aria-pressed") == "false"
    watched.show("phases")
    left_in = watched.selected("phases")
    compute = watched.mark("phases", what="load: compute.cpu")["index"]
    assert left_in
    assert compute not in left_in


def test_tables_sort_and_filter(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.rows("tokens")
    place = watched.page.locator('details[data-table="tokens"]')

    place.get_by_role("button", name="wall", exact=True).click()
    downward = [row[2] for row in watched.rows("tokens")]
    place.get_by_role("button", name="wall", exact=True).click()
    upward = [row[2] for row in watched.rows("tokens")]

    assert len(upward) == 40
    assert [_seconds(each) for each in upward] == sorted(map(_seconds, upward))
    assert [_seconds(each) for each in downward] == sorted(map(_seconds, upward), reverse=True)
    assert place.locator('th[aria-sort="ascending"]').inner_text() == "wall"
    watched.rows("files")
    place = watched.page.locator('details[data-table="files"]')
    place.get_by_role("searchbox").fill("part-002")
    assert [row[0] for row in watched.rows("files")] == ["models/big/part-002.onnx.data"]


def _seconds(told: str) -> float:
    number, unit = told.split()
    return float(number) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]


def test_the_flame_graph_shows_waiting_or_computing_and_zooms(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.show("flame")
    watched.page.locator('#flame-mode input[value="computing"]').check()
    watched.frame()
    shown = watched.page.evaluate("Bokeh.documents[0].get_model_by_name('flame-labels').data.label")
    assert "compute.cpu" in "".join(shown)
    watched.page.locator('#flame-mode input[value="all"]').check()
    watched.frame()

    frame = watched.click("flame", "flame-all", what="decode")

    assert watched.hash == "#phase=decode"
    start = watched.page.evaluate(
        "Bokeh.index.roots.map((each) => each.model.x_range).find((range) => range.start > 0.3 && range.end <= 1)?.start"
    )
    assert start == pytest.approx(frame["left"])


def test_dark_and_light(report: Path, opened: Open) -> None:
    watched = opened(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "Bokeh.index.roots[0].model.below[0].major_label_text_color"
    assert watched.page.evaluate(ground) == "rgb(21, 24, 29)"
    assert watched.page.evaluate(ink) == "#e8eaee"

    watched.page.get_by_role("button", name="Light").click()

    assert watched.page.evaluate(ground) == "rgb(255, 255, 255)"
    assert watched.page.evaluate(ink) == "#1b1e24"
    watched.page.emulate_media(color_scheme="light")
    watched.frame()
    watched.page.emulate_media(color_scheme="dark")
    watched.until(ground, "rgb(21, 24, 29)")


def test_all_of_it_works_by_keyboard(report: Path, opened: Open) -> None:
    watched = opened(report)
    focused = "document.activeElement.id"
    for _ in range(60):
        watched.page.keyboard.press("Tab")
        if watched.page.evaluate(focused) == "plot-timeline":
            break
    assert watched.page.evaluate(focused) == "plot-timeline"
    assert watched.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = watched.range("timeline")

    watched.page.keyboard.press("+")
    zoomed = watched.range("timeline")
    watched.page.keyboard.press("ArrowRight")
    moved = watched.range("timeline")
    assert zoomed[1] - zoomed[0] == pytest.approx((before[1] - before[0]) / 2)
    assert moved[0] > zoomed[0]

    watched.page.keyboard.press("ArrowDown")
    first = watched.page.locator("#detail-timeline").inner_text()
    watched.page.keyboard.press("ArrowDown")
    second = watched.page.locator("#detail-timeline").inner_text()
    assert first
    assert second != first
    watched.page.keyboard.press("Enter")
    assert watched.hash.startswith("#phase=")

    watched.rows("tokens")
    watched.page.keyboard.press("Escape")
    watched.page.locator('details[data-table="tokens"] tbody tr').first.focus()
    watched.page.keyboard.press("ArrowDown")
    watched.page.keyboard.press("Enter")
    assert watched.hash == "#token=1"


def test_it_prints_on_a4_with_its_tables(report: Path, opened: Open, tmp_path: Path) -> None:
    watched = opened(report, color_scheme="dark")

    watched.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)

    printed = (tmp_path / "report.pdf").read_bytes()
    boxes = {
        (round(float(width)), round(float(height)))
        for width, height in re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", printed)
    }
    assert boxes == {(595, 842)}
    assert watched.page.locator("details.table:not([open])").count() == 0
    copies = """() => { dispatchEvent(new Event("beforeprint"));
      const widths = [...document.querySelectorAll("canvas.paper")].map((each) => each.width / devicePixelRatio);
      dispatchEvent(new Event("afterprint")); return widths; }"""
    widths = watched.page.evaluate("Bokeh.index.roots.map((each) => each.model.outer_width).filter((each) => each)")
    assert sorted(watched.page.evaluate(copies)) == pytest.approx(sorted(widths), abs=1)
    assert watched.page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_sticks_out_at_the_side(report: Path, opened: Open, width: int) -> None:
    watched = opened(report, viewport={"width": width, "height": 900})

    for table in ("fetches", "waits"):
        watched.rows(table)

    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
