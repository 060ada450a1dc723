"""Means over problems and their intervals, on tables small enough to check by eye."""

import numpy as np
import pytest

from ensemble.intervals import Resampling, mean_over_problems
from ensemble.outcomes import Outcomes


def outcomes_of(c_MP, n=4, failures=None) -> Outcomes:
    c_MP = np.array(c_MP)
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(c_MP.shape[1])),
        policies=tuple(f"m{m}" for m in range(c_MP.shape[0])),
        num_samples_MP=np.full(c_MP.shape, n),
        num_correct_MP=c_MP,
        num_failures_MP=failures or {},
        costs_MP={},
    )


# Policy m0 solves the first two problems, m1 the last two; nobody needs more than one sample.
OPPOSITES = outcomes_of([[4, 4, 0, 0], [0, 0, 4, 4]])


def test_intervals_hold_the_mean_of_new_problems():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        estimate = mean_over_problems(rng.beta(0.5, 1.0, 60), Resampling(resamples=500, seed=seed))
        low, high = estimate.interval
        covered += low <= 1 / 3 <= high
    assert 180 <= covered <= 199


def test_rounding_errors_decide_no_sign():
    difference_P = np.array([0.1 + 0.2 - 0.3, 0.0, 0.0])
    assert np.any(difference_P != 0)
    assert mean_over_problems(difference_P, Resampling()).sign == 0


@pytest.mark.parametrize(("values", "sign"), [([0.1, 0.2, 0.3], 1), ([-0.1, -0.2, -0.3], -1), ([-0.5, 0.5, 0.1], 0)])
def test_the_sign_is_that_of_the_whole_interval(values, sign):
    assert mean_over_problems(np.array(values), Resampling()).sign == sign


def test_one_problem_has_no_interval():
    estimate = mean_over_problems(np.array([0.5]), Resampling())
    assert (estimate.value, estimate.stderr, estimate.interval) == (0.5, None, None)
