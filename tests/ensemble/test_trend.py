"""Page's test against scipy and against every permutation; the slope against least squares."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, page_trend_test, rankdata

from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.trend_test import TrendLine, page_test, trend


def test_without_ties_it_is_what_scipy_computes():
    values_AP = np.random.default_rng(0).normal(size=(5, 40)) + 0.1 * np.arange(5)[:, None]
    page_l, z, _ = page_test(values_AP, np.arange(1, 6))
    expected = page_trend_test(values_AP.T, method="asymptotic")
    assert page_l == expected.statistic
    assert norm.sf(z) == pytest.approx(expected.pvalue, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, (3, 2), elements=st.integers(0, 2)), st.permutations([0.0, 0.25, 3.0]))
def test_mean_and_variance_are_those_over_all_orders_within_problems(values_AP, scores):
    """6 × 6 orders of two problems: with any ties, and any scores."""
    score_A = np.array(scores)
    orders = [
        page_test(np.stack([values_AP[list(first), 0], values_AP[list(second), 1]], axis=1), score_A)[0]
        for first, second in product(permutations(range(3)), repeat=2)
    ]
    page_l, z, part_P = page_test(values_AP, score_A)
    assert part_P.sum() == pytest.approx(page_l - np.mean(orders), abs=1e-9)
    spread = np.std(orders)
    assert z == pytest.approx((page_l - np.mean(orders)) / spread if spread > 1e-9 else 0.0, abs=1e-9)


def test_rates_without_a_trend_are_seldom_taken_for_one():
    """Eight samples per cell: most problems have ties."""
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(1000):
        rate_P = rng.beta(0.4, 0.6, 30)
        _, z, _ = page_test(rng.binomial(8, rate_P, (5, 30)) / 8, np.arange(5.0))
        rejected += 2 * norm.sf(abs(z)) < 0.05
    assert 30 <= rejected <= 70


def test_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(2)
    alpha_A = np.array([-0.5, 0.0, 1.0, 1.25])
    rate_AP = rng.uniform(size=(4, 30)) + alpha_A[:, None]
    found = trend(rate_AP, alpha_A, Resampling())
    assert found.slope.value == pytest.approx(np.polyfit(alpha_A, rate_AP.mean(axis=1), 1)[0])
    assert found.slope.sign == 1
    assert found.p_value < 1e-6
    assert found.page_l == page_test(rate_AP, rankdata(alpha_A))[0]


def test_copies_in_groups_are_no_more_evidence():
    rng = np.random.default_rng(3)
    rate_AP = rng.uniform(size=(4, 12)) + 0.3 * np.arange(4)[:, None]
    once = trend(rate_AP, np.arange(4.0), Resampling())
    groups = [f"g{p:02}" for p in np.repeat(np.arange(12), 30)]
    copied = trend(np.repeat(rate_AP, 30, axis=1), np.arange(4.0), Resampling().with_groups(groups))
    assert copied.slope.value == pytest.approx(once.slope.value)
    assert copied.slope.stderr == pytest.approx(once.slope.stderr)
    assert 0.7 < copied.z / once.z < 2  # without groups, √30 = 5.5


def test_equal_rates_show_no_trend():
    found = trend(np.full((3, 4), 0.1) * 3, np.array([0.0, 0.5, 1.0]), Resampling(resamples=100))
    assert (found.z, found.p_value, found.slope.sign) == (0.0, 1.0, 0)


def test_policies_with_the_same_alpha_are_one_point_of_the_line():
    n_MP = np.full((4, 2), 4)
    outcomes = Outcomes(("p", "q"), ("low", "coverage@+0.00", "high", "other"), n_MP, n_MP, {}, {})
    line = TrendLine.of(outcomes, {"low": 0.0, "coverage@+0.00": 0.0, "high": 1.0, "other": None})
    assert line.alpha_A.tolist() == [0.0, 1.0]
    assert line.rates(np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 1.0], [9.0, 9.0]])).tolist() == [[0.5, 0.0], [0.5, 1.0]]
