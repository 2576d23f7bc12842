"""Medians, spread, intervals and ratios of the runs of a bench."""

from __future__ import annotations

import numpy as np
import pytest
from bench_runs import info, loads, run

from cvtrace.analysis.bench.statistics import statistic, summarise, tracing_cost


def test_a_row_has_the_median_the_quartiles_and_the_ratio_to_the_local_copy() -> None:
    rows = {row.state: row for row in summarise(info(), loads({"cold": [3.0, 5.0, 4.0], "local": [2.0, 1.0, 3.0]}))}
    cold = rows["cold"].load_s
    assert cold is not None
    assert (cold.n, cold.median, cold.quartiles, cold.ratio_to_local) == (3, 4.0, (3.5, 4.5), 2.0)
    assert rows["local"].load_s is not None
    assert rows["local"].load_s.ratio_to_local == 1.0
    # a state without a run has a row, and no figure
    assert (rows["hot"].n, rows["hot"].load_s) == (0, None)


def test_runs_that_are_not_verified_or_traced_are_in_no_figure() -> None:
    runs = [run(load_s=1.0), run(load_s=9.0, verified=False), run(load_s=2.0, traced=True)]
    (row,) = summarise(info(states=["cold"]), runs)
    assert row.load_s is not None
    assert (row.n, row.left_out, row.load_s.median) == (1, 1, 1.0)


def test_the_interval_holds_the_true_median_about_as_often_as_it_claims() -> None:
    # GIVEN samples of twelve of a skewed distribution, as load times are
    random = np.random.default_rng(1)
    samples = random.lognormal(0.0, 0.4, (300, 12))
    # WHEN each gets its interval
    intervals = [each.interval for sample in samples if (each := statistic(sample)) is not None]
    # THEN 95 % of them, give or take what 300 samples tell, hold the median, which is 1
    share = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.90 <= share <= 0.99


def test_the_same_runs_give_the_same_interval() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    assert statistic(values) == statistic(values)


def test_the_interval_of_a_ratio_is_wider_than_that_of_its_upper_half_alone() -> None:
    above, below = np.array([3.0, 4.0, 5.0, 6.0]), np.array([1.0, 1.5, 2.0, 3.0])
    wide, narrow = statistic(above, below), statistic(above, np.array([1.75]))
    assert wide is not None
    assert narrow is not None
    assert wide.ratio_interval is not None
    assert narrow.ratio_interval is not None
    assert wide.ratio_interval[1] - wide.ratio_interval[0] > narrow.ratio_interval[1] - narrow.ratio_interval[0]


def test_the_cost_of_tracing_is_the_ratio_of_both_kinds_of_run() -> None:
    runs = [*loads({"cold": [1.0, 1.2, 1.4], "hot": [1.0]}), run("cold", 1.5, traced=True)]
    (row,) = tracing_cost(info(states=["cold", "hot"]), runs)
    assert (row.state, row.traced, row.untraced) == ("cold", 1, 3)
    assert row.load_ratio == pytest.approx(1.25)
    assert row.total_ratio == pytest.approx(2.5 / 2.2)
