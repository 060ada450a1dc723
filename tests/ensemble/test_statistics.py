"""Intervals, complementarity, frontier and claims on tables small enough to check by eye."""

import numpy as np
import pytest

from ensemble.claims import examine
from ensemble.complementarity import only_solver, pairwise_gain
from ensemble.frontier import frontier
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


def test_opposite_policies_complement_each_other():
    assert pairwise_gain(OPPOSITES, 4).tolist() == [[0, 0.5], [0.5, 0]]
    assert only_solver(OPPOSITES) == {"m0": ["p0", "p1"], "m1": ["p2", "p3"]}


def test_equal_policies_add_nothing_to_each_other():
    rng = np.random.default_rng(0)
    rate_P = rng.beta(0.3, 1.0, 4000)
    twins = outcomes_of(rng.binomial(16, rate_P, size=(2, 4000)), n=16)
    gain = pairwise_gain(twins, 8)[0, 1]
    assert abs(gain) < 0.01


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


def test_frontier_and_claims_read_the_failure_classes():
    optimisation_MP = np.array([[4, 3, 4, 3], [1, 0, 1, 0]])
    correctness_MP = np.array([[0, 1, 0, 1], [3, 4, 2, 3]])
    failures = {"optimisation": optimisation_MP, "correctness": correctness_MP}
    outcomes = outcomes_of(4 - optimisation_MP - correctness_MP, failures=failures)
    rates = frontier(outcomes, Resampling())
    assert rates["m0"]["optimisation"].value == 14 / 16
    claims = examine(outcomes, {"m0": 0.0, "m1": 1.0}, {}, Resampling())
    verdicts = {claim.difference: claim.verdict for claim in claims}
    assert verdicts["optimisation failures at α = 0 - at α = 1"] == "supported"
    assert verdicts["correctness failures at α = 1 - at α = 0"] == "supported"
