"""The bound: above every allocation whatever the solver does, tight where it does well, and equal to a peer's."""

from dataclasses import dataclass
from itertools import product

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from alphamix.ensemble.arrays import Bools, Floats
from alphamix.ensemble.mixture.optimiser import relaxation
from alphamix.ensemble.mixture.optimiser.relaxation import Region, interpolated_log_miss, relax
from alphamix.ensemble.statistics.posterior import Posterior


@dataclass
class Rates:
    """Known solve rates below 1."""

    rate_MP: Floats

    @property
    def weight_C(self) -> Floats:
        return np.full(self.rate_MP.shape[1], 1 / self.rate_MP.shape[1])

    def log_miss(self, k_M: ArrayLike) -> Floats:
        return np.asarray(k_M, np.float64).reshape(-1, 1) * np.log1p(-self.rate_MP)

    def log_miss_of_all(self, k_M: ArrayLike) -> Floats:
        return self.log_miss(k_M).sum(axis=0)

    def of_policies(self, member_M: Bools) -> "Rates":
        return Rates(self.rate_MP[member_M])

    def next_miss(self, k_M: ArrayLike) -> Floats:
        return 1 - self.rate_MP


def beliefs(seed: int, num_policies: int, num_problems: int) -> Posterior:
    rng = np.random.default_rng(seed)
    n_MP = rng.integers(0, 12, (num_policies, num_problems))
    return Posterior.of(n_MP, rng.binomial(n_MP, rng.beta(0.3, 1.0, n_MP.shape)))


def region(upper_M: ArrayLike, total: float, cost_M: ArrayLike | None = None) -> Region:
    upper = np.asarray(upper_M)
    return Region(np.zeros_like(upper), upper, np.ones(len(upper)) if cost_M is None else np.asarray(cost_M), total)


def most_covered(posterior: Posterior, where: Region) -> float:
    """The best of all allocations, listed."""
    k_NM = np.array(list(product(*(range(most + 1) for most in where.upper_M))))
    k_NM = k_NM[[where.left(k_M) >= 0 for k_M in k_NM]]
    log_miss_KMP = np.array([posterior.log_miss(k) for k in range(k_NM.max() + 1)])
    log_miss_NP = log_miss_KMP[k_NM, np.arange(k_NM.shape[1])].sum(axis=1)
    return 1 - float((np.exp(log_miss_NP) @ posterior.weight_C).min())


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6), st.data())
def test_no_allocation_exceeds_the_bound_wherever_it_is_taken(seed, num_policies, num_problems, data):
    posterior = beliefs(seed, num_policies, num_problems)
    whole = st.lists(st.integers(0, 4), min_size=num_policies, max_size=num_policies).map(np.array)
    costs = st.lists(st.sampled_from([0.5, 1, 1.7]), min_size=num_policies, max_size=num_policies).map(np.array)
    where = region(data.draw(whole), data.draw(st.integers(1, 8)), data.draw(costs))
    anywhere_M = data.draw(whole) + data.draw(st.sampled_from([0.0, 0.3, 0.5]))
    best = most_covered(posterior, where)
    assert relaxation._bounded(posterior, where, anywhere_M).upper_bound >= best - 1e-12
    assert relax(posterior, where).upper_bound >= best - 1e-12


def test_a_solver_that_fails_loosens_the_bound_and_no_more(monkeypatch):
    posterior, where = beliefs(1, 3, 9), region([6, 6, 6], 6.0)
    tight = relax(posterior, where).upper_bound
    monkeypatch.setattr(relaxation, "minimise", lambda model, price_V, *_: np.full(len(price_V), 0.9))
    assert relax(posterior, where).upper_bound > tight >= most_covered(posterior, where) - 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_is_reached_by_the_point_that_proves_it(seed):
    posterior = beliefs(seed, 6, 40)
    relaxed = relax(posterior, region([30] * 6, 30.0, [1, 1, 2, 2, 3, 0.7]))
    reached = 1 - np.exp(interpolated_log_miss(posterior, relaxed.k_M)) @ posterior.weight_C
    assert relaxed.upper_bound == pytest.approx(reached, abs=2e-9)


def test_interpolation_agrees_at_whole_numbers_and_lies_below_between_them():
    posterior = beliefs(3, 3, 9)
    for k_M in ([0.0, 2.0, 5.0], [0.5, 2.0, 4.25]):
        covered = 1 - np.exp(interpolated_log_miss(posterior, np.array(k_M))) @ posterior.weight_C
        if k_M[0]:
            assert covered < posterior.coverage(k_M)
        else:
            assert covered == pytest.approx(posterior.coverage(k_M), abs=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_at_known_rates_is_that_of_a_conic_solver(seed):
    rng = np.random.default_rng(seed)
    rates = Rates(rng.beta(0.2, 1.0, (5, 60)) * 0.99)
    cost_M = np.array([1, 1, 2, 0.5, 3])
    k = cvxpy.Variable(5, nonneg=True)
    failed = cvxpy.sum(cvxpy.exp(np.log1p(-rates.rate_MP).T @ k)) / 60
    problem = cvxpy.Problem(cvxpy.Minimize(failed), [cost_M @ k <= 20, k <= 15])
    problem.solve(solver=cvxpy.CLARABEL)
    bound = relax(rates, region([15] * 5, 20.0, cost_M)).upper_bound
    assert bound == pytest.approx(1 - problem.value, abs=1e-6)
    assert bound >= 1 - problem.value - 1e-6


def test_a_budget_that_buys_everything_needs_no_solver(monkeypatch):
    monkeypatch.setattr(relaxation, "minimise", None)
    posterior = beliefs(5, 3, 9)
    assert relax(posterior, region([2, 0, 1], 3.0)).upper_bound == pytest.approx(posterior.coverage([2, 0, 1]))


def test_region_is_empty_where_conditions_exclude_each_other():
    where = region([2, 2], 3.0, [1.0, 2.0])
    assert not where.is_empty
    assert Region(where.lower_M, where.upper_M, where.cost_M, 3.0, min_policies=3).is_empty
    assert not Region(where.lower_M, where.upper_M, where.cost_M, 3.0, min_policies=2).is_empty
    assert Region(where.lower_M, where.upper_M, where.cost_M, 2.5, min_policies=2).is_empty
    assert Region(where.lower_M, np.array([1, 1]), np.ones(2), 3.0, spend_all=True).is_empty
    assert Region(np.array([2, 0]), np.array([1, 1]), np.ones(2), 3.0).is_empty
