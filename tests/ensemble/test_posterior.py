"""Beliefs: against sums over nodes by hand, and against simulation."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from alphamix.ensemble.statistics import posterior as posteriors
from alphamix.ensemble.statistics.posterior import Posterior
from alphamix.ensemble.statistics.shared_difficulty import SharedDifficulty

# Two policies and two nodes: at the first both are likely to solve, at the second neither is.
PRIOR = SharedDifficulty(
    a_MG=np.array([[4.0, 0.5], [3.0, 0.4]]),
    b_MG=np.array([[1.0, 5.0], [2.0, 9.0]]),
    weight_G=np.array([0.3, 0.7]),
    contrast_M=np.zeros(2),
)
N_MP, C_MP = np.array([[4, 3, 0], [2, 5, 0]]), np.array([[1, 3, 0], [0, 4, 0]])
K_M = np.array([3, 2])


def nodes_by_hand() -> np.ndarray:
    """Bayes' theorem with beta-binomial chances, `[P, G]`."""
    chance_PG = np.array(
        [
            [
                PRIOR.weight_G[g]
                * np.prod([betabinom.pmf(C_MP[m, p], N_MP[m, p], PRIOR.a_MG[m, g], PRIOR.b_MG[m, g]) for m in range(2)])
                for g in range(2)
            ]
            for p in range(3)
        ]
    )
    return chance_PG / chance_PG.sum(axis=1, keepdims=True)


def covered_by_hand() -> np.ndarray:
    """Chance that some of the samples to come is accepted: one minus that of c = 0 under the updated shapes."""
    covered_P = []
    for p, node_G in enumerate(nodes_by_hand()):
        missed_G = [
            np.prod(
                [
                    betabinom.pmf(0, K_M[m], PRIOR.a_MG[m, g] + C_MP[m, p], PRIOR.b_MG[m, g] + N_MP[m, p] - C_MP[m, p])
                    for m in range(2)
                ]
            )
            for g in range(2)
        ]
        covered_P.append(1 - node_G @ missed_G)
    return np.array(covered_P)


def test_beliefs_are_those_of_bayes_theorem(monkeypatch):
    monkeypatch.setattr(posteriors, "_NEGLIGIBLE", 0.0)
    np.testing.assert_allclose(PRIOR.nodes_of(N_MP, C_MP), nodes_by_hand(), atol=1e-12)
    posterior = Posterior.of(N_MP, C_MP, PRIOR)
    np.testing.assert_allclose(posterior.covered(np.array([K_M]))[0], covered_by_hand(), atol=1e-12)
    assert posterior.coverage(K_M) == pytest.approx(covered_by_hand().mean(), abs=1e-12)


def test_a_cell_without_samples_says_nothing():
    """What is believed of the problem without samples is the prior."""
    np.testing.assert_allclose(nodes_by_hand()[2], PRIOR.weight_G)
    np.testing.assert_allclose(PRIOR.nodes_of(N_MP, C_MP)[2], PRIOR.weight_G)


def test_what_one_policy_fails_makes_another_less_likely_to_solve():
    n_MP, c_MP = np.array([[10, 10], [0, 0]]), np.array([[0, 8], [0, 0]])
    hard, easy = Posterior.of(n_MP, c_MP, PRIOR).covered(np.array([[0, 1]]))[0]
    assert hard < 0.1 < 0.5 < easy


def test_every_problem_weighs_the_same_whatever_its_columns():
    rng = np.random.default_rng(0)
    n_MP = rng.integers(0, 9, (3, 30))
    posterior = Posterior.of(n_MP, rng.binomial(n_MP, rng.beta(0.3, 1.0, 30)))
    np.testing.assert_allclose(np.bincount(posterior.problem_C, posterior.weight_C), 1 / 30)
    assert posterior.covered(np.array([[2, 1, 0]])).mean() == pytest.approx(posterior.coverage([2, 1, 0]))


@pytest.mark.parametrize("num_problems", [150, 200, 250, 500, 713, 1000])
def test_fewer_columns_say_nearly_the_same(num_problems):
    """Also where the columns that are kept fall at the same place of every problem."""
    rng = np.random.default_rng(1)
    n_MP = np.full((3, num_problems), 6)
    posterior = Posterior.of(n_MP, rng.binomial(n_MP, rng.beta(0.3, 1.0, num_problems)))
    thinned = posterior.thinned(500)
    assert len(thinned.weight_C) == 500 < len(posterior.weight_C)
    assert thinned.weight_C.sum() == pytest.approx(1)
    for k_M in ([4, 0, 0], [1, 2, 3], [20, 20, 20]):
        assert thinned.coverage(k_M) == pytest.approx(posterior.coverage(k_M), abs=0.02)
    assert posterior.thinned(10**6) is posterior


@pytest.mark.parametrize(("num_problems", "period"), [(400, 7), (348, 3), (348, 6), (360, 3)])
def test_fewer_columns_stand_for_all_where_hard_and_easy_problems_take_turns(num_problems, period):
    """As the tasks of a contest do."""
    n_MP = np.full((2, num_problems), 6)
    task_P = np.arange(num_problems) % period
    posterior = Posterior.of(n_MP, np.tile(np.choose(task_P.clip(0, 2), [6, 0, 2]), (2, 1)))
    assert posterior.thinned(300).coverage([3, 2]) == pytest.approx(posterior.coverage([3, 2]), abs=0.003)


def test_misses_are_moments_of_the_beliefs():
    posterior = Posterior(np.array([[0.5, 2.0], [3.0, 3.0]]), np.array([[1.0, 7.0], [0.2, 0.2]]), np.array([0.5, 0.5]))
    rng = np.random.default_rng(0)
    p_SMP = rng.beta(posterior.a_MC, posterior.b_MC, (400_000, 2, 2))
    simulated_MP = ((1 - p_SMP) ** np.array([[3], [2]])).mean(axis=0)
    np.testing.assert_allclose(np.exp(posterior.log_miss([3, 2])), simulated_MP, atol=3e-3)
    both = ((1 - p_SMP) ** np.array([[3], [2]])).prod(axis=1).mean()
    assert posterior.coverage([3, 2]) == pytest.approx(1 - both, abs=3e-3)


@settings(deadline=None)
@given(st.floats(0.01, 300), st.floats(0.01, 300), st.integers(0, 40))
def test_log_miss_is_the_sum_of_next_misses_and_convex(a, b, k):
    posterior = Posterior(np.array([[a]]), np.array([[b]]), np.ones(1))
    steps = [log(posterior.next_miss(t)[0, 0]) for t in range(k + 1)]
    assert posterior.log_miss(k)[0, 0] == pytest.approx(sum(steps[:k]), rel=1e-9, abs=1e-12)
    assert steps == sorted(steps)
