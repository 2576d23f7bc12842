"""The page of a comparison in a browser: what is shown, hovered, selected and printed, without network requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import NAMES
from report_page import ReportPage
from scene import MOUNT, WORKER, Scene
from test_report import cold_run, hot_run, portable_run

from benchmarks.big_trace import big_trace
from cvtrace.analysis.comparison.compare import compare
from cvtrace.analysis.report.html.comparison import Studied, render
from cvtrace.analysis.report.names import UNSEEN, printable
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.probes.events import Opcode

PICTURES = ("phases", "tokens", "flame")
TABLES = ("phases", "tokens", "frames", "figures", "words")
Open = Callable[..., ReportPage]
MARKUP = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=2</script>",
    "</script><script>window.hacked=3</script>",
    "'\"><svg onload=window.hacked=4>",
    "{{ 7 * 7 }} $$x^2$$ \\[x\\] @{what}{safe}",
)


def write(path: Path, a: Studied, b: Studied, of: tuple[str, str] = ("cold", "warm")) -> Path:
    comparison = compare(Path(of[0]), [a[2]], Path(of[1]), [b[2]])
    path.write_text(render(comparison, a, b), encoding="utf-8", errors="strict")
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the comparison of two made-up runs: 40 tokens in A, 50 in B, which has fewer requests."""
    a, b = (
        full_analysis(big_trace(3000, tokens=40, files=4)),
        full_analysis(big_trace(2000, tokens=50, files=5, seed=2)),
    )
    return write(tmp_path_factory.mktemp("compared") / "comparison.html", a, b)


def test_each_chart_has_its_table(report: Path, open_report: Open) -> None:
    view = open_report(report)

    assert view.page.locator("h1").inner_text() == "What changed from A to B"
    assert view.page.locator(".verdict strong").all_inner_texts() == ["YES", "YES"]
    for key in PICTURES:
        view.show(key)
        assert view.page.locator(f"#plot-{key} .bk-Figure").count() == 1
        assert view.page.locator(f"section:has(#plot-{key}) details.table").count() == 1
    for table in TABLES:
        assert view.rows(table), table


@pytest.mark.parametrize("run_scene", [hot_run, portable_run, Scene])
def test_comparisons_of_runs_with_few_events_open(
    run_scene: Callable[[], Scene], open_report: Open, tmp_path: Path
) -> None:
    view = open_report(
        write(tmp_path / "c.html", full_analysis(run_scene().trace()), full_analysis(Scene().trace())), "#phase=load"
    )

    for key in view.page.locator(".plot").evaluate_all("(all) => all.map((each) => each.dataset.key)"):
        view.show(key)
        view.page.locator(f"#plot-{key}").focus()
        view.page.keyboard.press("ArrowDown")
    view.page.keyboard.press("Escape")
    assert view.hash == ""
    assert view.rows("figures")


@pytest.mark.parametrize("key, source", [("phases", "phases"), ("tokens", "tokens-b"), ("flame", "flame-b")])
def test_hovering_a_mark_shows_the_times_of_both_runs(report: Path, open_report: Open, key: str, source: str) -> None:
    view = open_report(report)
    view.show(key)
    mark = view.mark(source, **({"token": 7} if key == "tokens" else {}))

    x, y = view.place(key, mark)
    view.page.mouse.move(x - 1, y)
    view.page.mouse.move(x, y)

    view.page.get_by_text(mark["what"]).first.wait_for(timeout=5000)


def test_a_selected_token_is_highlighted_in_both_runs_and_the_table(report: Path, open_report: Open) -> None:
    view = open_report(report)

    view.click("tokens", "tokens-b", token=7)

    assert view.hash == "#token=7"
    for source in ("tokens-a", "tokens-b"):
        assert view.selected(source) == {view.mark(source, token=7)["index"]}
    view.rows("tokens")
    chosen = view.page.locator('details[data-table="tokens"] tr[aria-selected="true"] td').first
    assert chosen.inner_text() == "7"
    view.page.keyboard.press("Escape")
    assert view.selected("tokens-a") == set()


def test_the_flame_graph_shows_the_widths_of_the_selected_run(report: Path, open_report: Open) -> None:
    view = open_report(report)
    view.show("flame")
    visible = "(name) => Bokeh.documents[0].get_model_by_name(name) && Bokeh.documents[0].roots().flatMap((r) => r.renderers).find((r) => r.data_source?.name === name).visible"
    assert [view.page.evaluate(visible, f"flame-{side}") for side in "ab"] == [False, True]

    view.page.get_by_label("time of A").check()
    view.frame()

    assert [view.page.evaluate(visible, f"flame-{side}") for side in "ab"] == [True, False]
    mark = view.click("flame", "flame-a", what="load")
    flame = view.page.evaluate(
        "(() => { const { start, end } = Bokeh.documents[0].get_model_by_id(Bokeh.documents[0].roots().find((r) => r.renderers.some((e) => e.data_source?.name === 'flame-a')).id).x_range; return [start, end]; })()"
    )
    assert flame == pytest.approx([mark["left"], mark["right"]])
    assert view.hash == "#phase=load"
    assert set(view.values("frames", "phase")) == {"load"}


def test_the_table_of_figures_has_units_row_by_row_and_signs(report: Path, open_report: Open) -> None:
    view = open_report(report)

    rows = {(row[0], row[1]): row for row in view.rows("figures")}

    assert rows["run", "duration"][4].startswith("-")
    assert rows["run", "duration"][4].endswith("s")
    assert rows["generation", "read"][2].endswith("MB")
    assert rows["tokens", "times"][2:5] == ["40", "50", "+10"]


def test_dark_light_and_paper(report: Path, open_report: Open, tmp_path: Path) -> None:
    view = open_report(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert view.page.evaluate(ground) == "rgb(21, 24, 29)"

    view.page.locator("#theme").click()

    assert view.page.evaluate(ground) == "rgb(255, 255, 255)"
    pdf = view.page.pdf(format="A4", path=tmp_path / "c.pdf")
    assert pdf.count(b"/Type /Page\n") >= 2 or pdf.count(b"/Type /Page") >= 2


def test_the_comparison_works_by_keyboard(report: Path, open_report: Open) -> None:
    view = open_report(report)
    for key in PICTURES:
        view.show(key)
        view.page.locator(f"#plot-{key}").focus()
        for _ in range(3):
            view.page.keyboard.press("ArrowDown")
        assert view.page.locator(f"#detail-{key}").inner_text()
    view.page.keyboard.press("Enter")
    assert view.hash
    view.page.keyboard.press("Escape")
    assert view.hash == ""


@pytest.mark.parametrize("width", [390, 1000, 1920])
def test_nothing_is_wider_than_the_window(report: Path, open_report: Open, width: int) -> None:
    view = open_report(report, viewport={"width": width, "height": 800})

    assert view.page.evaluate("document.documentElement.scrollWidth") <= width


def hostile_run(number: int) -> Scene:
    """Return a run in which phases, files, arguments, host and what is missing have hostile names, some of them in one run only."""
    run_scene = cold_run()
    for place, name in enumerate((*MARKUP, *NAMES)):
        shown_name = name.encode("utf-8", "replace").decode()
        if place % 5 == 4 - number:
            continue
        at, node = 700_000 + 1000 * place, 50 + place
        run_scene.named(shown_name[:200], at, at + 900)
        run_scene.opened(at + 10, at + 90, 20 + place, f"{MOUNT}/{shown_name}")
        run_scene.request(Opcode.OPEN, at + 30, at + 60, at + 70, sent=at + 20, node=node)
        run_scene.off(at + 200, at + 400, at + 400, by=WORKER, state=2)
        run_scene.request(Opcode.READ, at + 210, at + 390, at + 410, sent=at + 199, node=node)
    run_scene.meta = {
        "target": {"argv": ["sh", "-c", *MARKUP, *NAMES], "pid": 100, "cwd": "/", "exit_code": 1 + number},
        "host": MARKUP[number],
        "missing": [MARKUP[0], NAMES[1]],
    }
    return run_scene


def test_hostile_names_are_shown_as_text_in_a_comparison(open_report: Open, tmp_path: Path) -> None:
    # GIVEN two runs full of hostile names, in folders with such names, and reports that differ
    a, b = (full_analysis(hostile_run(number).trace()) for number in range(2))
    view = open_report(write(tmp_path / "c.html", a, b, of=(f"runs/{MARKUP[0]}", f"runs/{NAMES[1]}")))
    # WHEN everything is open_report, chosen and pointed at
    files = set(view.values("frames", "file"))
    assert {MARKUP[0], printable(NAMES[1].encode("utf-8", "replace").decode())} <= files
    for table in TABLES:
        view.rows(table)
    for key in PICTURES:
        view.show(key)
        view.page.locator(f"#plot-{key}").focus()
        for _ in range(8):
            view.page.keyboard.press("ArrowDown")
        box = view.page.locator(f"#plot-{key}").bounding_box()
        assert box is not None
        for step in range(12):
            view.page.mouse.move(box["x"] + 120 + 90 * step, box["y"] + 20 + 9 * step)
    for number in range(0, len(files), 3):
        view.page.locator('details[data-table="frames"] tbody tr').nth(number).click()
        view.page.keyboard.press("Escape")
        view.rows("frames")
    # THEN none of it was more than text (and, on leaving the test, no request was made and no error seen)
    assert view.page.evaluate("window.hacked") is None
    assert view.page.locator("img, iframe, object, embed, svg[onload]").count() == 0
    shown = view.page.locator("body").inner_text()
    assert not [each for each in UNSEEN.findall(shown) if each not in "\n\t"]
