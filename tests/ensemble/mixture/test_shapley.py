"""What each policy adds: against cases that can be reckoned by hand, and the axioms of the Shapley value."""

import numpy as np
import pytest

from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.mixture.shapley import contributions, shapley_values
from alphamix.ensemble.statistics.posterior import Posterior

CERTAIN = 1e7


def beliefs(rate_MP) -> Posterior:
    """Beliefs so sure that they are rates."""
    rate_MP = np.clip(np.array(rate_MP, float), 1e-12, 1 - 1e-12)
    num_problems = rate_MP.shape[1]
    weight_P = np.full(num_problems, 1 / num_problems)
    return Posterior(rate_MP * CERTAIN, (1 - rate_MP) * CERTAIN, weight_P)


def test_twins_are_each_dispensable_and_share_what_they_do():
    twins = contributions(beliefs([[1, 0, 0], [1, 0, 0], [0, 1, 0]]), Budget.of_samples(2, 3))
    assert [one.marginal for one in twins] == pytest.approx([0, 0, 1 / 3], abs=1e-5)
    assert [one.shapley for one in twins] == pytest.approx([1 / 6, 1 / 6, 1 / 3], abs=1e-5)
    assert [one.shapley_stderr for one in twins] == [0, 0, 0]


def test_a_policy_that_solves_nothing_contributes_nothing():
    useless = contributions(beliefs([[0.5, 0.2], [0, 0]]), Budget.of_samples(3, 2))[1]
    assert (useless.marginal, useless.shapley) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize("num_policies", [3, 9])
def test_shapley_values_sum_to_what_all_cover_whether_all_sets_are_solved_or_some(num_policies):
    rng = np.random.default_rng(0)
    posterior = beliefs(rng.beta(0.3, 1.0, (num_policies, 12)))
    budget = Budget.of_samples(5, num_policies)
    shares = contributions(posterior, budget)
    whole = best_allocation(posterior, budget).certificate.objective
    assert sum(one.shapley for one in shares) == pytest.approx(whole, abs=1e-9)
    assert all((one.shapley_stderr > 0) == (num_policies > 8) for one in shares)


@pytest.mark.parametrize("num_strong", [0, 3])
def test_the_error_told_is_that_made_and_less_than_a_point(num_strong):
    """Members solve each problem independently, so the Shapley value is an integral; 30 orders gave ± 2 to 4 points.

    No policy is credited with strong ones that happened to join with it, which made errors of 1.4 points.
    """
    rng = np.random.default_rng(0)
    chance_MP = np.concatenate([rng.beta(4.0, 2.0, (num_strong, 40)), rng.beta(0.2, 1.5, (15 - num_strong, 40))])
    values_M, stderr = shapley_values(lambda member_M: 1 - np.prod(1 - chance_MP[member_M], axis=0).mean(), 15)
    point_Q, weight_Q = np.polynomial.legendre.leggauss(12)
    failed_QMP = 1 - (point_Q[:, None, None] + 1) / 2 * chance_MP
    others_QMP = failed_QMP.prod(axis=1, keepdims=True) / failed_QMP
    exact_M = np.einsum("q,qmp,mp->m", weight_Q / 2, others_QMP, chance_MP) / 40
    assert np.sqrt(np.mean((values_M - exact_M) ** 2)) < min(2 * stderr, 0.008)
    assert 0 < stderr < 0.01


def test_a_budget_that_pays_for_the_cheap_policy_only():
    budget = Budget(10.0, np.array([10.0, 30.0]), "tokens")
    cheap, dear = contributions(beliefs([[0.5], [1.0]]), budget)
    assert (cheap.shapley, dear.shapley) == pytest.approx((0.5, 0.0), abs=1e-5)
