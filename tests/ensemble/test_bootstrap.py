"""Many intervals from one set of draws are those that each would get alone."""

import numpy as np
import pytest

from ensemble.bootstrap import from_draws
from ensemble.intervals import Resampling, draw_weights, mean_over_problems, means_over_problems


def test_a_draw_shares_out_all_problems_and_a_seed_repeats_it():
    weights_RP = draw_weights(7, Resampling(resamples=50, seed=3))
    np.testing.assert_allclose(weights_RP.sum(axis=1), 1)
    np.testing.assert_array_equal(weights_RP, draw_weights(7, Resampling(resamples=50, seed=3)))
    assert weights_RP.mean() == pytest.approx(1 / 7)


def test_means_of_many_rows_are_those_of_each():
    values_VP = np.random.default_rng(0).beta(0.5, 0.5, (5, 120))
    resampling = Resampling(resamples=8000)
    for together, values_P in zip(means_over_problems(values_VP, resampling), values_VP, strict=True):
        alone = mean_over_problems(values_P, resampling)
        assert (together.value, together.stderr) == pytest.approx((alone.value, alone.stderr), abs=1e-11)
        np.testing.assert_allclose(together.interval, alone.interval, atol=0.1 * alone.stderr)


def test_noise_of_floating_point_decides_no_sign():
    third = np.array([[1 / 3, -1 / 3 + 1e-16, 0.1 + 0.2 - 0.3]])
    (estimate,) = means_over_problems(np.abs(third) - np.array([[1 / 3, 1 / 3, 0.0]]), Resampling(resamples=100))
    assert estimate.sign == 0


def test_one_problem_has_no_interval():
    (estimate,) = means_over_problems(np.array([[0.5]]), Resampling())
    assert (estimate.value, estimate.stderr, estimate.interval) == (0.5, None, None)


def test_without_standard_errors_the_draws_give_them():
    draws_RV = np.random.default_rng(1).normal(2.0, 0.5, (20_000, 1))
    (estimate,) = from_draws(np.array([2.0]), draws_RV, 0.9)
    assert estimate.stderr == pytest.approx(0.5, rel=0.02)
    assert estimate.interval == pytest.approx((2 - 0.822, 2 + 0.822), abs=0.03)
