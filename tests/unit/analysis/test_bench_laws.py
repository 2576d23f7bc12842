"""Laws: coefficients that were put into the loads come out, with intervals that hold them, and predict what was held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from bench_runs import bench, info, run

from cvtrace.analysis.bench.laws import fitted, laws
from cvtrace.analysis.bench.schema import Cell, Law, Sweep

A_S, B_S, C_S = 0.2, 0.02, 2e-8


def cell(size: float, objects: int, variant: str = "", value: float | None = None) -> Cell:
    return Cell(variant, value, ("/cvmfs/a",), 1, int(size), objects)


def noisy(cells: Sequence[Cell], state: str = "cold", per_request_s: float = B_S) -> list:
    random = np.random.default_rng(3)
    return [
        run(state, load * random.normal(1.0, 0.02), value=each.sweep_value, variant=each.variant, round_=number)
        for each in cells
        for load in [A_S + per_request_s * (each.objects or 0) + C_S * each.bytes]
        for number in range(8)
    ]


def of_variants(cells: Sequence[Cell], state: str = "cold", **values: float) -> tuple[Law, ...]:
    about = info(states=[state], variants=[each.variant for each in cells], cells=cells)
    return laws(about, noisy(cells, state, **values))


def values_of(law: Law) -> dict[str, float]:
    return {each.name: each.value for each in law.coefficients}


def test_requests_and_bytes_that_do_not_grow_together_get_a_coefficient_each() -> None:
    # GIVEN models whose chunks differ, so that the larger one has not always more requests
    cells = [
        cell(64e6, 10, "a"),
        cell(64e6, 60, "b"),
        cell(256e6, 30, "c"),
        cell(256e6, 200, "d"),
        cell(128e6, 16, "e"),
    ]
    # WHEN the law of cold loads is fitted
    (law,) = of_variants(cells)
    # THEN what was put in comes out, and lies in the intervals
    assert values_of(law) == pytest.approx({"a": A_S, "b": B_S, "c": C_S}, rel=0.15)
    for each, real in zip(law.coefficients, (A_S, B_S, C_S), strict=True):
        assert each.interval[0] <= real <= each.interval[1]
    assert law.formula == "load = a + b·requests + c·bytes"
    # and the largest, held out, is predicted
    assert law.held_out is not None
    assert abs(law.held_out.error) < 0.1


def test_requests_that_grow_in_step_with_bytes_are_not_told_apart() -> None:
    sizes = (32e6, 64e6, 128e6, 256e6)
    cells = [cell(size, 4 + round(size / 8.4e6), value=size) for size in sizes]
    about = info(states=["cold"], sweep=Sweep("size", sizes, "B"), cells=cells)
    (law,) = laws(about, noisy(cells))
    assert "in step" in law.note
    assert values_of(law)["c"] == pytest.approx(C_S + B_S / 8.4e6, rel=0.1)


def test_the_chosen_value_is_held_out() -> None:
    values = (64e6, 128e6, 256e6)
    cells = [cell(size, round(size / 8e6), value=size) for size in values]
    about = info(states=["cold"], sweep=Sweep("size", values, "B"), cells=cells)
    (law,) = laws(about, noisy(cells), held_out=128e6)
    assert law.held_out is not None
    assert law.held_out.sweep_value == 128e6
    assert abs(law.held_out.error) < 0.1


def test_what_is_not_cold_has_no_term_for_requests() -> None:
    cells = [cell(size, 5, value=size) for size in (64e6, 128e6, 256e6)]
    about = info(states=["hot"], sweep=Sweep("size", (64e6, 128e6, 256e6), "B"), cells=cells)
    (law,) = laws(about, noisy(cells, "hot", per_request_s=0.0))
    assert values_of(law) == pytest.approx({"a": A_S, "c": C_S}, rel=0.15)


@pytest.mark.parametrize(
    "axis, values, load, name, expected",
    [
        ("delay", (0.0, 0.02, 0.1), lambda x: 0.5 + 36 * x, "b", 36.0),
        ("bandwidth", (10e6, 20e6, 80e6), lambda x: 0.5 + 64e6 / x, "c", 64e6),
    ],
)
def test_along_another_axis_the_coefficient_is_what_the_axis_multiplies(
    axis: str, values: tuple[float, ...], load: object, name: str, expected: float
) -> None:
    assert callable(load)
    cells = [replace(cell(64e6, 36), sweep_value=value) for value in values]
    about = info(states=["cold"], sweep=Sweep(axis, values), cells=cells)
    (law,) = laws(about, [run("cold", load(value), value=value) for value in values])
    assert values_of(law)[name] == pytest.approx(expected, rel=0.01)
    assert fitted(axis, law, cells) == pytest.approx([load(value) for value in values], rel=0.02)


def test_what_the_server_does_has_no_law_where_nothing_is_fetched() -> None:
    values = (0.0, 0.02, 0.1)
    cells = [replace(cell(64e6, 36), sweep_value=value) for value in values]
    runs = [run(state, 1.0, value=value) for state in ("cold", "hot") for value in values for _ in range(3)]
    made = laws(info(states=["cold", "hot"], sweep=Sweep("delay", values), cells=cells), runs)
    assert [law.state for law in made] == ["cold"]


def test_too_few_runs_for_an_interval_are_said() -> None:
    cells = [cell(size, 5, value=size) for size in (64e6, 128e6)]
    about = info(states=["hot"], sweep=Sweep("size", (64e6, 128e6), "B"), cells=cells)
    (law,) = laws(about, [run("hot", 1.0, value=each.sweep_value) for each in cells])
    assert "too narrow" in law.note


def test_no_law_where_there_is_nothing_to_fit() -> None:
    assert bench(info(), [run()]).laws == ()
    values = (1.0, 2.0)
    assert laws(info(sweep=Sweep("threads", values)), [run(value=value) for value in values]) == ()
