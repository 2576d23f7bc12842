"""The page of a bench in a real browser: every run is drawn, a state can be chosen, hostile names stay text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench_runs import bench, info, loads, run
from report_page import ReportPage

from cvtrace.analysis.bench.schema import Cell, Sweep
from cvtrace.analysis.report.html.bench import render

Open = Callable[..., ReportPage]
HOSTILE = "<img src=x onerror=window.hacked=1>{{ 7 * 7 }} $$x^2$$"
TIMES = {"cold": [3.0, 3.2, 3.4], "hot": [0.4, 0.4, 0.5]}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "bench.html"
    runs = [*loads(TIMES), run("cold", 3.4, traced=True), run("hot", 9.0, verified=False)]
    path.write_text(render(bench(info(states=["cold", "hot"]), runs)), encoding="utf-8")
    return path


def test_every_run_is_a_point_and_a_state_is_chosen_in_all_pictures(page: Path, open_report: Open) -> None:
    view = open_report(page)
    assert view.page.locator("h1").inner_text() == "How long does phi3-qa.py take to load?"
    for key in ("load", "phases", "first", "tokens", "total"):
        view.show(key)
        assert view.page.locator(f"#plot-{key} .bk-Figure").count() == 1
    # WHEN the box of the hot runs is clicked
    view.click("load", "load-boxes", phase=1, what="hot: half of the runs")
    # THEN the runs of that state stand out everywhere, and the address says so
    assert view.hash == "#phase=hot"
    assert len(view.selected("load")) == 3
    view.show("total")
    assert len(view.selected("total")) == 3
    # AND the table has the runs of that state, with the reason of the one that was left out
    assert len(view.rows("runs")) == 4
    assert "the client fetched 3 objects" in view.values("runs", "left out because")


def test_the_law_of_a_sweep_is_drawn_and_names_are_no_markup(tmp_path: Path, open_report: Open) -> None:
    values = (64e6, 128e6, 256e6)
    cells = [Cell(HOSTILE, value, ("/cvmfs/a",), 1, int(value), round(value / 8e6)) for value in values]
    runs = [run("cold", 0.2 + value * 2e-8, value=value, variant=HOSTILE) for value in values]
    about = info(states=["cold"], variants=[HOSTILE, "other"], sweep=Sweep("size", values, "B"), cells=cells)
    path = tmp_path / "bench.html"
    path.write_text(render(bench(about, runs)), encoding="utf-8")
    view = open_report(path)
    view.show("law")
    assert view.mark("law-predicted")["what"].startswith("cold: predicted")
    assert view.page.evaluate("window.hacked") is None
    assert HOSTILE in view.page.locator("#summary + .scroll table").inner_text()


@pytest.mark.parametrize("width", [1400, 390])
def test_no_value_beside_a_bar_or_a_box_is_cut(page: Path, open_report: Open, width: int) -> None:
    # GIVEN the page in a window / WHEN the end of each value is computed from the range of its picture
    view = open_report(page, viewport={"width": width, "height": 900})
    ends = """() => { const pen = document.createElement("canvas").getContext("2d");
      pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
      const all = [];
      for (const { model: plot } of Bokeh.index.roots) {
        const source = (plot.renderers ?? []).map((each) => each.data_source).find((each) => each?.name?.endsWith("-values"));
        if (!source || plot.x_range.start !== 0) continue;
        const get = (name) => Array.from(source.data[name] ?? source.data.get(name));
        const [x, text] = [get("x"), get("text")];
        text.forEach((each, row) => all.push((x[row] / plot.x_range.end * plot.inner_width + 10 + pen.measureText(each).width) / plot.inner_width));
      }
      return all; }"""
    for key in ("load", "phases", "first", "tokens", "total"):
        view.show(key)
    # THEN it lies within the picture
    shares = view.page.evaluate(ends)
    assert len(shares) >= 9
    assert max(shares) <= 1.0
