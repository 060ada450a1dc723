"""How much policies share is estimated: in worlds where they share nothing, everything, and something."""

import numpy as np
import pytest
from scipy.special import expit

from alphamix.ensemble.statistics.posterior import Posterior
from alphamix.ensemble.statistics.shared_difficulty import fit

NUM_POLICIES, NUM_PROBLEMS, PILOT = 4, 300, 4


def world(kind: str, seed: int = 0) -> np.ndarray:
    """Return solve rates of policies that are independent, have related rates, or have the same, `[M, P]`."""
    rng = np.random.default_rng(seed)
    if kind == "independent":
        return rng.beta(0.4, 0.8, (NUM_POLICIES, NUM_PROBLEMS))
    rate_P = rng.beta(0.4, 0.8, NUM_PROBLEMS)
    if kind == "identical":
        return np.tile(rate_P, (NUM_POLICIES, 1))
    return expit(rng.normal(-1, 2, NUM_PROBLEMS) + rng.normal(0, 0.7, (NUM_POLICIES, NUM_PROBLEMS)))


def pilot(rate_MP: np.ndarray, n: int = PILOT, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    n_MP = np.full(rate_MP.shape, n)
    return n_MP, np.random.default_rng(seed).binomial(n_MP, rate_MP)


@pytest.mark.parametrize("kind", ["independent", "related", "identical"])
@pytest.mark.parametrize("k_M", [[10, 0, 0, 0], [1, 1, 1, 1], [10, 10, 10, 10]])
def test_what_a_pilot_forecasts_is_what_more_samples_show(kind, k_M):
    """A belief that shares nothing is wrong by 10 to 20 points where rates are identical, and k is large."""
    errors = []
    for seed in range(3):
        rate_MP = world(kind, seed)
        expected = Posterior.of(*pilot(rate_MP)).coverage(k_M)
        errors.append(expected - (1 - np.prod((1 - rate_MP).T ** np.array(k_M), axis=1)).mean())
    assert abs(np.mean(errors)) < 0.05


def test_the_share_that_is_explained_follows_the_world():
    none, some, all_M = (fit(*pilot(world(kind), 20)).sharing_M for kind in ("independent", "related", "identical"))
    assert none.max() < 0.5 < some.min() < all_M.min()
    assert all_M.min() > 0.9


def test_the_order_of_problems_and_of_policies_does_not_matter():
    n_MP, c_MP = pilot(world("related"))
    prior = fit(n_MP, c_MP)
    rng = np.random.default_rng(2)
    order_M, order_P = rng.permutation(NUM_POLICIES), rng.permutation(NUM_PROBLEMS)
    again = fit(n_MP[:, order_P], c_MP[:, order_P])
    np.testing.assert_array_equal(again.a_MG, prior.a_MG)
    swapped = fit(n_MP[order_M], c_MP[order_M])
    k_M = np.array([5, 0, 1, 2])
    assert Posterior.of(n_MP[order_M], c_MP[order_M], swapped).coverage(k_M[order_M]) == pytest.approx(
        Posterior.of(n_MP, c_MP, prior).coverage(k_M), abs=1e-6
    )


@pytest.mark.parametrize(("n", "c"), [(0, 0), (1, 0), (1, 1), (6, 0), (6, 6), (10**4, 0), (10**4, 10**4)])
def test_tables_without_spread_give_beliefs_that_are_chances(n, c):
    n_MP = np.full((3, 5), n)
    posterior = Posterior.of(n_MP, np.full((3, 5), c))
    for k in (0, 1, 1000):
        covered_P = posterior.covered(np.full((1, 3), k))[0]
        assert np.all((covered_P >= -1e-8) & (covered_P <= 1 + 1e-8))
        assert np.ptp(covered_P) < 1e-12
    assert n == 0 or abs(posterior.coverage([1, 0, 0]) - c / n) < 0.25


def test_one_problem_and_one_policy_are_enough():
    assert 0.2 < Posterior.of(np.array([[4]]), np.array([[2]])).coverage([1]) < 0.8
