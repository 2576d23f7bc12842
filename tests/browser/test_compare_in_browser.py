"""A comparison in a real browser: what a user sees, points at, chooses and prints; and that it keeps to itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import NAMES
from scene import MOUNT, WORKER, Scene
from test_report import cold_run, hot_run, portable_run
from watched import Watched

from benchmarks.big_trace import big_trace
from cvtrace.analysis.comparison.compare import compare
from cvtrace.analysis.report.html.comparison import Studied, render
from cvtrace.analysis.report.names import UNSEEN, printable
from cvtrace.analysis.summary.assemble import full_analysis
from cvtrace.probes.events import Opcode

PICTURES = ("phases", "tokens", "flame")
TABLES = ("phases", "tokens", "frames", "figures", "words")
Open = Callable[..., Watched]
MARKUP = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=2</script>",
    "</script><script>window.hacked=3</script>",
    "'\"><svg onload=window.hacked=4>",
    "{{ 7 * 7 }} $$x^2$$ \\[x\\] @{what}{safe}",
)


def write(path: Path, a: Studied, b: Studied, of: tuple[str, str] = ("cold", "warm")) -> Path:
    found = compare(Path(of[0]), [a[2]], Path(of[1]), [b[2]])
    path.write_text(render(found, a, b), encoding="utf-8", errors="strict")
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the comparison of two made-up runs: 40 tokens in A, 50 in B, which has fewer requests."""
    a, b = (
        full_analysis(big_trace(3000, tokens=40, files=4)),
        full_analysis(big_trace(2000, tokens=50, files=5, seed=2)),
    )
    return write(tmp_path_factory.mktemp("compared") / "comparison.html", a, b)


def test_every_picture_is_there_with_its_table(report: Path, opened: Open) -> None:
    watched = opened(report)

    assert watched.page.locator("h1").inner_text() == "What changed from A to B"
    assert watched.page.locator(".verdict strong").all_inner_texts() == ["YES", "YES"]
    for key in PICTURES:
        watched.show(key)
        assert watched.page.locator(f"#plot-{key} .bk-Figure").count() == 1
        assert watched.page.locator(f"section:has(#plot-{key}) details.table").count() == 1
    for table in TABLES:
        assert watched.rows(table), table


@pytest.mark.parametrize("made", [hot_run, portable_run, Scene])
def test_comparisons_of_little_open_too(made: Callable[[], Scene], opened: Open, tmp_path: Path) -> None:
    watched = opened(
        write(tmp_path / "c.html", full_analysis(made().trace()), full_analysis(Scene().trace())), "#phase=load"
    )

    for key in watched.page.locator(".plot").evaluate_all("(all) => all.map((each) => each.dataset.key)"):
        watched.show(key)
        watched.page.locator(f"#plot-{key}").focus()
        watched.page.keyboard.press("ArrowDown")
    watched.page.keyboard.press("Escape")
    assert watched.hash == ""
    assert watched.rows("figures")


@pytest.mark.parametrize("key, source", [("phases", "phases"), ("tokens", "tokens-b"), ("flame", "flame-b")])
def test_pointing_at_a_mark_tells_both_times(report: Path, opened: Open, key: str, source: str) -> None:
    watched = opened(report)
    watched.show(key)
    mark = watched.mark(source, **({"token": 7} if key == "tokens" else {}))

    x, y = watched.place(key, mark)
    watched.page.mouse.move(x - 1, y)
    watched.page.mouse.move(x, y)

    watched.page.get_by_text(mark["what"]).first.wait_for(timeout=5000)


def test_a_token_that_is_chosen_stands_out_in_both_runs_and_the_table(report: Path, opened: Open) -> None:
    watched = opened(report)

    watched.click("tokens", "tokens-b", token=7)

    assert watched.hash == "#token=7"
    for source in ("tokens-a", "tokens-b"):
        assert watched.selected(source) == {watched.mark(source, token=7)["index"]}
    watched.rows("tokens")
    chosen = watched.page.locator('details[data-table="tokens"] tr[aria-selected="true"] td').first
    assert chosen.inner_text() == "7"
    watched.page.keyboard.press("Escape")
    assert watched.selected("tokens-a") == set()


def test_the_flame_graph_has_the_widths_of_either_run(report: Path, opened: Open) -> None:
    watched = opened(report)
    watched.show("flame")
    visible = "(name) => Bokeh.documents[0].get_model_by_name(name) && Bokeh.documents[0].roots().flatMap((r) => r.renderers).find((r) => r.data_source?.name === name).visible"
    assert [watched.page.evaluate(visible, f"flame-{side}") for side in "ab"] == [False, True]

    watched.page.get_by_label("time of A").check()
    watched.frame()

    assert [watched.page.evaluate(visible, f"flame-{side}") for side in "ab"] == [True, False]
    mark = watched.click("flame", "flame-a", what="load")
    flame = watched.page.evaluate(
        "(() => { const { start, end } = Bokeh.documents[0].get_model_by_id(Bokeh.documents[0].roots().find((r) => r.renderers.some((e) => e.data_source?.name === 'flame-a')).id).x_range; return [start, end]; })()"
    )
    assert flame == pytest.approx([mark["left"], mark["right"]])
    assert watched.hash == "#phase=load"
    assert set(watched.values("frames", "phase")) == {"load"}


def test_the_table_of_figures_has_units_row_by_row_and_signs(report: Path, opened: Open) -> None:
    watched = opened(report)

    rows = {(row[0], row[1]): row for row in watched.rows("figures")}

    assert rows["run", "duration"][4].startswith("-")
    assert rows["run", "duration"][4].endswith("s")
    assert rows["generation", "read"][2].endswith("MB")
    assert rows["tokens", "times"][2:5] == ["40", "50", "+10"]


def test_dark_light_and_paper(report: Path, opened: Open, tmp_path: Path) -> None:
    watched = opened(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert watched.page.evaluate(ground) == "rgb(21, 24, 29)"

    watched.page.locator("#theme").click()

    assert watched.page.evaluate(ground) == "rgb(255, 255, 255)"
    pdf = watched.page.pdf(format="A4", path=tmp_path / "c.pdf")
    assert pdf.count(b"/Type /Page\n") >= 2 or pdf.count(b"/Type /Page") >= 2


def test_it_works_by_keyboard(report: Path, opened: Open) -> None:
    watched = opened(report)
    for key in PICTURES:
        watched.show(key)
        watched.page.locator(f"#plot-{key}").focus()
        for _ in range(3):
            watched.page.keyboard.press("ArrowDown")
        assert watched.page.locator(f"#detail-{key}").inner_text()
    watched.page.keyboard.press("Enter")
    assert watched.hash
    watched.page.keyboard.press("Escape")
    assert watched.hash == ""


@pytest.mark.parametrize("width", [390, 1000, 1920])
def test_nothing_sticks_out_at_the_side(report: Path, opened: Open, width: int) -> None:
    watched = opened(report, viewport={"width": width, "height": 800})

    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width


def hostile_run(number: int) -> Scene:
    """Return a run in which phases, files, arguments, host and what is missing have hostile names, some of them in one run only."""
    made = cold_run()
    for place, name in enumerate((*MARKUP, *NAMES)):
        told = name.encode("utf-8", "replace").decode()
        if place % 5 == 4 - number:
            continue
        at, node = 700_000 + 1000 * place, 50 + place
        made.named(told[:200], at, at + 900)
        made.opened(at + 10, at + 90, 20 + place, f"{MOUNT}/{told}")
        made.request(Opcode.OPEN, at + 30, at + 60, at + 70, sent=at + 20, node=node)
        made.off(at + 200, at + 400, at + 400, by=WORKER, state=2)
        made.request(Opcode.READ, at + 210, at + 390, at + 410, sent=at + 199, node=node)
    made.meta = {
        "target": {"argv": ["sh", "-c", *MARKUP, *NAMES], "pid": 100, "cwd": "/", "exit_code": 1 + number},
        "host": MARKUP[number],
        "missing": [MARKUP[0], NAMES[1]],
    }
    return made


def test_every_name_is_text(opened: Open, tmp_path: Path) -> None:
    # GIVEN two runs full of hostile names, in folders with such names, and reports that differ
    a, b = (full_analysis(hostile_run(number).trace()) for number in range(2))
    watched = opened(write(tmp_path / "c.html", a, b, of=(f"runs/{MARKUP[0]}", f"runs/{NAMES[1]}")))
    # WHEN everything is opened, chosen and pointed at
    files = set(watched.values("frames", "file"))
    assert {MARKUP[0], printable(NAMES[1].encode("utf-8", "replace").decode())} <= files
    for table in TABLES:
        watched.rows(table)
    for key in PICTURES:
        watched.show(key)
        watched.page.locator(f"#plot-{key}").focus()
        for _ in range(8):
            watched.page.keyboard.press("ArrowDown")
        box = watched.page.locator(f"#plot-{key}").bounding_box()
        assert box is not None
        for step in range(12):
            watched.page.mouse.move(box["x"] + 120 + 90 * step, box["y"] + 20 + 9 * step)
    for number in range(0, len(files), 3):
        watched.page.locator('details[data-table="frames"] tbody tr').nth(number).click()
        watched.page.keyboard.press("Escape")
        watched.rows("frames")
    # THEN none of it was more than text (and, on leaving the test, no request was made and no error seen)
    assert watched.page.evaluate("window.hacked") is None
    assert watched.page.locator("img, iframe, object, embed, svg[onload]").count() == 0
    shown = watched.page.locator("body").inner_text()
    assert not [each for each in UNSEEN.findall(shown) if each not in "\n\t"]
