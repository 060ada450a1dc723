"""Pairs, unique solves and cell intervals: by eye, by enumeration of all outcomes, by simulation."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

from alphamix.ensemble.analysis.complementarity import (
    cross_fitted_wins,
    pairs,
    solved_by_extrapolation,
    solved_by_one,
)
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, mean_over_problems
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, miss

QUICK = Resampling(resamples=2, method="percentile")
LCB = Path(__file__).parents[2].parent / "shared/data/lcb_outcomes.csv"


def outcomes_of(c_MP, n=4) -> Outcomes:
    c_MP = np.array(c_MP)
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(c_MP.shape[1])),
        policies=tuple(f"m{m}" for m in range(c_MP.shape[0])),
        num_samples_MP=np.broadcast_to(n, c_MP.shape),
        num_correct_MP=c_MP,
        num_failures_MP={},
        costs_MP={},
    )


# Policy m0 solves the first two problems, m1 the last two; nobody needs more than one sample.
OPPOSITES = outcomes_of([[4, 4, 0, 0], [0, 0, 4, 4]])


def test_shares_that_are_0_everywhere_are_bounded_from_above_only():
    """Wilson's interval of 0 of 3."""
    pair = pairs(outcomes_of([[4, 4, 4], [4, 4, 4]]), 1, QUICK)[0]
    reach = norm.ppf(0.975) ** 2
    bound = reach / (3 + reach)
    for share in (pair.second_saves, pair.first_saves, pair.co_failure, pair.disagreement):
        assert share.value == 0
        assert share.interval == (0.0, pytest.approx(bound))
    assert pair.gain.interval == pytest.approx((-bound, bound))  # two policies that agreed so far


def test_opposite_policies_complement_each_other():
    there, back = pairs(OPPOSITES, 2, Resampling())
    assert (there.first, there.second, back.first, back.second) == ("m0", "m1", "m1", "m0")
    assert (there.second_saves.value, there.first_saves.value, there.gain.value) == (0.5, 0.0, 0.5)
    assert (there.co_failure.value, there.disagreement.value) == (0.0, 1.0)
    # Of the 12 ordered pairs of different problems, 4 are unsolved by m0 and by m1.
    assert there.independent.value == pytest.approx(1 / 3)
    assert there.dependence.value == pytest.approx(-1 / 3)
    assert there.gain.value == back.gain.value


def test_every_number_of_a_pair_is_unbiased():
    """All counts of two policies on two problems, which are drawn from a population of two kinds; n = 3, k = 1."""
    kinds, n = [(0.2, 0.7), (0.6, 0.1)], 3
    names = ["second_saves", "first_saves", "gain", "co_failure", "independent", "dependence", "disagreement"]
    mean = dict.fromkeys(names, 0.0)
    naive = 0.0
    for first_kind, second_kind in product(kinds, repeat=2):
        rates = np.array([first_kind, second_kind]).T
        for counts in product(range(n + 1), repeat=4):
            c_MP = np.array(counts).reshape(2, 2)
            chance = binom.pmf(c_MP, n, rates).prod() / 4
            pair = pairs(outcomes_of(c_MP, n), 1, QUICK)[0]
            for name in names:
                mean[name] += chance * getattr(pair, name).value
            naive += chance * np.prod(miss(n, c_MP, 1).mean(axis=1))
    p, q = np.array(kinds).T
    both, apart = np.mean((1 - p) * (1 - q)), np.mean(1 - p) * np.mean(1 - q)
    expected = [
        np.mean((1 - p) * q),
        np.mean((1 - p) * p),
        np.mean((1 - p) * (q - p)),
        both,
        apart,
        both - apart,
        np.mean(p * (1 - q) + q * (1 - p)),
    ]
    np.testing.assert_allclose(list(mean.values()), expected, atol=1e-10)
    assert abs(naive - apart) > 0.01  # the product of the two means shares problems


def test_a_pair_of_many_has_the_interval_of_its_differences():
    rng = np.random.default_rng(0)
    outcomes = outcomes_of(rng.binomial(12, rng.beta(0.5, 0.5, (4, 150))), 12)
    found = {(pair.first, pair.second): pair for pair in pairs(outcomes, 6, Resampling(resamples=4000))}
    assert len(found) == 12
    c_MP = outcomes.num_correct_MP
    gain_P = miss(12, c_MP[2], 12) - miss(12, c_MP[2], 6) * miss(12, c_MP[1], 6)
    alone = mean_over_problems(gain_P, Resampling(resamples=4000))
    together = found["m2", "m1"].gain
    assert together.value == pytest.approx(alone.value, abs=1e-11)
    assert together.stderr == pytest.approx(alone.stderr, rel=0.05)
    np.testing.assert_allclose(together.interval, alone.interval, atol=0.15 * alone.stderr)


def test_the_interval_of_the_dependence_holds_it():
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        easy_P = rng.random(80) < 0.5
        rate_MP = np.where(easy_P, [[0.8], [0.6]], [[0.1], [0.3]])
        outcomes = outcomes_of(rng.binomial(4, rate_MP), 4)
        low, high = pairs(outcomes, 1, Resampling(resamples=400, seed=seed))[0].dependence.interval
        held += low <= 0.7 / 2 * 0.3 / 2 <= high
    assert 178 <= held <= 199


def test_equal_policies_add_nothing_to_each_other():
    rng = np.random.default_rng(0)
    twins = outcomes_of(rng.binomial(16, rng.beta(0.3, 1.0, 4000), size=(2, 4000)), 16)
    gain = pairs(twins, 4, Resampling(resamples=200))[0].gain
    assert abs(gain.value) < 0.01
    assert abs(gain.value) < 4 * gain.stderr


def test_one_problem_has_no_intervals_and_too_few_samples_are_refused():
    pair = pairs(outcomes_of([[1], [3]]), 2, Resampling())[0]
    assert pair.gain.interval is None
    assert pair.dependence is None
    assert pair.gain.value == pytest.approx(miss(4, 1, 4) - miss(4, 1, 2) * miss(4, 3, 2))
    with pytest.raises(UndefinedError, match="k = 6"):
        pairs(OPPOSITES, 3, Resampling())
    assert pairs(outcomes_of([[1, 2]]), 2, Resampling()) == []


def test_unique_solves_say_how_many_samples_stand_behind_the_zeros():
    assert {name: [solve.problem for solve in solves] for name, solves in solved_by_one(OPPOSITES).items()} == {
        "m0": ["p0", "p1"],
        "m1": ["p2", "p3"],
    }
    c_MP, n_MP = [[0, 2, 4], [3, 1, 1], [0, 0, 0]], [[4, 4, 4], [5, 5, 5], [6, 7, 8]]
    (only,) = solved_by_one(outcomes_of(c_MP, n_MP))["m1"]
    assert (only.problem, only.solvers, only.num_correct, only.num_samples, only.others_samples) == (
        "p0",
        ("m1",),
        3,
        5,
        10,
    )
    assert 0 < only.luck < 1


def test_extrapolated_policies_are_held_against_those_between_the_ends():
    outcomes = outcomes_of([[0, 4, 0], [0, 0, 0], [1, 1, 2], [3, 0, 0], [0, 0, 1]])
    alphas = {"m0": 0.0, "m1": 1.0, "m2": 1.5, "m3": -0.5, "m4": None}
    found = solved_by_extrapolation(outcomes, alphas)
    assert [(solve.problem, solve.solvers, solve.others_samples) for solve in found] == [
        ("p0", ("m2", "m3"), 8),
        ("p2", ("m2",), 8),
    ]
    assert solved_by_extrapolation(outcomes, dict.fromkeys(alphas)) == []


def test_luck_foretells_how_often_the_others_solve_it_next_time():
    rng = np.random.default_rng(4)
    foretold, came = [], []
    for _ in range(20):
        rate_MP = rng.beta([[0.3], [0.3], [0.5]], [[2.0], [3.0], [4.0]], (3, 300))
        outcomes = outcomes_of(rng.binomial(6, rate_MP), 6)
        again_MP = rng.binomial(6, rate_MP)
        for solve in solved_by_extrapolation(outcomes, {"m0": 1.5, "m1": 0.0, "m2": 1.0}):
            foretold.append(solve.luck)
            came.append(again_MP[1:, outcomes.problems.index(solve.problem)].any())
    assert len(came) > 500
    assert np.mean(foretold) == pytest.approx(np.mean(came), abs=3.5 * np.std(came) / np.sqrt(len(came)))


def test_wins_are_the_lead_times_the_chance_to_see_it():
    n, rates, num_problems = 7, np.array([[0.5], [0.4]]), 40_000
    n_2P = np.full((2, num_problems), n)
    wins = cross_fitted_wins(n_2P, np.random.default_rng(6).binomial(n_2P, rates), 0)
    chance = binom.pmf(np.arange(4), n // 2, rates)
    ahead = np.tril(np.outer(*chance), -1).sum(), np.triu(np.outer(*chance), 1).sum()
    for won_P, sign, seen in zip(wins, (1, -1), ahead, strict=True):
        assert won_P.mean() == pytest.approx(sign * 0.1 * seen, abs=4 * won_P.std() / np.sqrt(num_problems))


def test_a_policy_that_is_nowhere_ahead_wins_nothing():
    """Naively, twins seem ahead of each other on many problems."""
    rng = np.random.default_rng(5)
    rate_P = rng.beta(0.5, 0.5, 400)
    n_2P = np.full((2, 400), 10)
    twins_2P = rng.binomial(n_2P, rate_P)
    assert np.maximum(twins_2P[0] - twins_2P[1], 0).mean() / 10 > 0.03
    for wins_P in cross_fitted_wins(n_2P, twins_2P, 0):
        assert mean_over_problems(wins_P, Resampling()).sign == 0
    better_P = np.minimum(rate_P + 0.2, 1)
    won_P, lost_P = cross_fitted_wins(n_2P, rng.binomial(n_2P, [better_P, rate_P]), 0)
    assert mean_over_problems(won_P, Resampling()).sign == 1
    assert lost_P.mean() < 0


@pytest.mark.skipif(not LCB.exists(), reason="real outcomes are not here")
def test_models_of_the_leaderboard_fail_on_the_same_problems():
    outcomes = read_outcomes(LCB, "drop-problems")
    found = pairs(outcomes, 5, Resampling(resamples=500))
    assert len(found) == 16 * 15
    assert all(pair.dependence.sign == 1 for pair in found)
    signs = {pair.gain.sign for pair in found}
    assert signs == {-1, 0, 1}
