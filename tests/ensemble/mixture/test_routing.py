"""Random routing: its value against the multinomial sum, its gap against other weights, and against the fixed split."""

from itertools import product
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.mixture.random_routing import best_routing, last_miss
from alphamix.ensemble.statistics.posterior import Posterior


def beliefs(seed: int, num_policies: int = 3, num_problems: int = 7) -> Posterior:
    rng = np.random.default_rng(seed)
    n_MP = rng.integers(1, 12, (num_policies, num_problems))
    return Posterior.of(n_MP, rng.binomial(n_MP, rng.beta(0.3, 1.0, n_MP.shape)))


def by_enumeration(posterior: Posterior, weights_M, num_samples: int) -> float:
    """Σ over k of the multinomial chance of k times its coverage."""
    total = 0.0
    for k_M in product(range(num_samples + 1), repeat=len(weights_M)):
        if sum(k_M) == num_samples:
            ways = factorial(num_samples) / prod(factorial(k) for k in k_M)
            total += ways * prod(w**k for w, k in zip(weights_M, k_M, strict=True)) * posterior.coverage(k_M)
    return total


def value(posterior: Posterior, weights_M, num_samples: int) -> float:
    return 1 - float(weights_M @ last_miss(posterior, weights_M, num_samples) @ posterior.weight_C)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any))
def test_value_is_the_average_over_multinomial_allocations(seed, num_samples, shares):
    posterior, weights_M = beliefs(seed), np.array(shares) / sum(shares)
    assert value(posterior, weights_M, num_samples) == pytest.approx(
        by_enumeration(posterior, weights_M, num_samples), abs=1e-11
    )


def test_value_at_a_large_budget_agrees_with_simulation():
    posterior, weights_M = beliefs(0, 4, 5), np.array([0.5, 0.3, 0.2, 0.0])
    k_NM = np.random.default_rng(0).multinomial(300, weights_M, 4000)
    simulated = np.mean([posterior.coverage(k_M) for k_M in k_NM])
    assert value(posterior, weights_M, 300) == pytest.approx(simulated, abs=3e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_no_weights_exceed_value_and_gap_and_the_fixed_split_is_never_worse(seed, num_samples):
    posterior = beliefs(seed)
    routing = best_routing(posterior, num_samples)
    assert routing.weights_M.sum() == pytest.approx(1)
    assert routing.gap < 1e-3
    others = [*np.eye(3), *np.random.default_rng(seed).dirichlet(np.ones(3), 10)]
    assert max(value(posterior, w_M, num_samples) for w_M in others) <= routing.coverage + routing.gap + 1e-12
    best = best_allocation(posterior, Budget.of_samples(num_samples, 3))
    assert best.certificate.upper_bound >= routing.coverage - 1e-12


def test_two_specialists_by_hand():
    solves = np.array([[1.0, 0.0], [0.0, 1.0]])
    posterior = Posterior(1e6 * solves + 1e-6, 1e6 * (1 - solves) + 1e-6, np.array([0.5, 0.5]))
    routing = best_routing(posterior, 2)
    # Two draws at random miss a given specialist one time in four; one draw of each never does.
    assert routing.weights_M == pytest.approx([0.5, 0.5], abs=1e-3)
    assert routing.coverage == pytest.approx(3 / 4, abs=1e-5)
    assert best_allocation(posterior, Budget.of_samples(2, 2)).certificate.objective == pytest.approx(1, abs=1e-5)


def test_one_policy_and_one_sample():
    posterior = beliefs(3, 1, 6)
    assert best_routing(posterior, 5).coverage == pytest.approx(posterior.coverage([5]))
    posterior = beliefs(3, 4, 6)
    single = max(posterior.coverage(k_M) for k_M in np.eye(4))
    assert best_routing(posterior, 1).coverage == pytest.approx(single, abs=1e-9)


@pytest.mark.parametrize("accepted", [0, 10])
def test_nobody_or_everybody_solves(accepted):
    posterior = Posterior.of(np.full((3, 5), 10), np.full((3, 5), accepted))
    routing = best_routing(posterior, 50)
    assert routing.gap < 1e-3
    assert 0 <= routing.coverage <= 1


@pytest.mark.parametrize("num_samples", [100, 1000])
def test_where_all_is_solved_for_sure_alike_policies_weigh_the_same_and_nothing_warns(num_samples):
    """The chance that all samples fail is then below what numbers can tell from 0, and its logarithm was taken."""
    sure = Posterior(np.full((4, 3), 1e7), np.full((4, 3), 1e-9), np.full(3, 1 / 3))
    drawn = Posterior.of(np.full((4, 20), num_samples), np.full((4, 20), num_samples))
    for posterior in (sure, drawn):
        routing = best_routing(posterior, num_samples)
        assert routing.weights_M == pytest.approx([1 / 4] * 4, abs=1e-6)
        assert (routing.coverage, routing.gap) == (1, pytest.approx(0, abs=1e-9))
