"""The table and the page of a bench."""

from __future__ import annotations

import re

from bench_runs import bench, info, loads, run

from cvtrace.analysis.bench.schema import Cell, Sweep
from cvtrace.analysis.report.bench import render
from cvtrace.analysis.report.html.bench import render as page

TIMES = {
    "cold": [3.0, 3.2, 3.4],
    "warm-disk": [1.0, 1.1, 1.2],
    "warm-memory": [0.9, 0.9, 0.9],
    "hot": [0.4, 0.4, 0.5],
    "local": [0.4, 0.4, 0.4],
}


def test_the_table_has_a_row_for_each_state_with_ratio_spread_and_interval() -> None:
    made = bench(info(), [*loads(TIMES), run("cold", 3.4, traced=True), run("hot", 9.0, verified=False)])
    lines = render(made, 120).splitlines()
    cold = next(line for line in lines if line.startswith("cold"))
    assert re.fullmatch(r"cold +3 +3.20 s +3.10–3.30 s +3.00–3.40 s +8.00 +100 ms +50.0 +4.20 s", cold)
    # why: the classes of the traced run
    assert any(re.match(r"cold +1.00 s +250 ms +500 ms +250 ms +– +10 +4 ", line) for line in lines)
    assert "cold 1.06" in render(made)
    assert "1 hot run: the client fetched 3 objects" in render(made)
    assert max(map(len, lines)) <= 120


def test_a_table_fits_80_columns_with_one_line_for_each_state() -> None:
    # GIVEN a bench with a traced run in each state
    traced = [run(state, 1.0, traced=True) for state in TIMES]
    # WHEN it is printed in 80 columns
    lines = render(bench(info(), [*loads(TIMES), *traced]), 80).splitlines()
    # THEN no line is longer, and each of the two tables has one line for each state
    assert max(map(len, lines)) <= 80
    for state in TIMES:
        assert sum(line.split()[:1] == [state] for line in lines) == 2


def test_a_state_without_a_run_has_a_row() -> None:
    lines = render(bench(info(), loads({"cold": [1.0]})), 120).splitlines()
    assert any(re.match(r"hot +0 +– +–", line) for line in lines)


def test_a_script_without_a_load_is_shown_by_its_whole_run() -> None:
    text = render(bench(info(states=["cold"]), [run(load_s=None)]))
    assert "total" in text.splitlines()[0]
    assert "load" not in text.splitlines()[0]


def test_names_from_outside_cannot_steer_the_terminal_or_the_page() -> None:
    made = bench(info(states=["cold"], variants=["a\x1b[31m<script>", "b"]), [run(variant="a\x1b[31m<script>")])
    assert "\x1b" not in render(made)
    text = page(made)
    assert "\x1b" not in text
    assert '<td class="text" data-label="variant">a' in text
    assert "31m<script>" not in text


def test_the_page_shows_the_figures_and_loads_nothing() -> None:
    text = page(bench(info(), [*loads(TIMES), run("cold", 3.4, traced=True)]))
    assert "3.10–3.30 s" in text
    assert "Where the time of the load went" in text
    assert "default-src &#39;none&#39;" in text


def test_the_page_of_a_sweep_has_the_law() -> None:
    values = (64e6, 128e6, 256e6)
    cells = [Cell("", value, ("/cvmfs/a",), 1, int(value), round(value / 8e6)) for value in values]
    runs = [run("cold", 0.2 + value * 2e-8, value=value) for value in values]
    text = page(bench(info(states=["cold"], sweep=Sweep("size", values, "B"), cells=cells), runs))
    assert "Load and size" in text
    assert "20 s per GB" in text


def test_a_bench_without_a_run_has_a_page() -> None:
    assert "No run was in the state" in page(bench(info(), []))
