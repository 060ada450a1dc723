"""The prior of one policy: against its neighbours, against simulation, and where a table says nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from alphamix.ensemble.statistics.beta_prior import fit_prior

counts = st.lists(st.integers(0, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1)


def likelihood(a: float, b: float, n_P, c_P) -> float:
    half = (np.log(a) + np.log(b)) / 2 - np.log(a + b)
    return float((betaln(a + c_P, b + n_P - c_P) - betaln(a, b)).sum()) + half


@settings(deadline=None)
@given(counts)
def test_no_neighbouring_prior_is_more_likely(cells):
    n_P, c_P = np.array(cells, np.float64).T
    a, b = fit_prior(n_P, c_P, np.ones(len(cells), np.int64))
    here = likelihood(a, b, n_P, c_P)
    for factor_a in (0.9, 1.0, 1.1):
        for factor_b in (0.9, 1.0, 1.1):
            if 1e-2 < a * factor_a + b * factor_b < 1e3:
                assert likelihood(a * factor_a, b * factor_b, n_P, c_P) <= here + 1e-5


def test_prior_is_found_again_and_counts_may_be_grouped():
    rng = np.random.default_rng(0)
    n_P = rng.integers(5, 60, 20_000)
    c_P = rng.binomial(n_P, rng.beta(0.3, 1.5, 20_000))
    one_by_one = fit_prior(n_P, c_P, np.ones(20_000, np.int64))
    assert one_by_one == pytest.approx((0.3, 1.5), rel=0.05)
    (n_U, c_U), count_U = np.unique([n_P, c_P], axis=1, return_counts=True)
    assert fit_prior(n_U, c_U, count_U) == pytest.approx(one_by_one, rel=1e-4)


def test_large_counts_lose_no_digits():
    n_P, c_P = np.full(4, 10**6), np.array([0, 3, 10**6 - 2, 10**6])
    a, b = fit_prior(n_P, c_P, np.ones(4, np.int64))
    assert 0.01 < a < 0.1
    assert 0.01 < b < 0.1


@pytest.mark.parametrize(("n", "c", "low", "high"), [(10, 0, 0.01, 0.1), (10, 10, 0.9, 0.99), (0, 0, 0.49, 0.51)])
def test_tables_without_spread_leave_doubt(n, c, low, high):
    a, b = fit_prior(np.full(6, n), np.full(6, c), np.ones(6, np.int64))
    assert low < a / (a + b) < high
    many_a, many_b = fit_prior(np.full(6, n), np.full(6, c), np.full(6, 10_000))
    assert n == 0 or abs(many_a / (many_a + many_b) - c / n) < 1e-4
