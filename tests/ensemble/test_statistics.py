"""Intervals, arms and outcomes on tables small enough to check by eye."""

import numpy as np
import pandas as pd
import pytest

from ensemble.intervals import Resampling, mean_over_problems
from ensemble.mixture.arms import CrossFit, best_single, cross_fitted_best, equal_split
from ensemble.outcomes import Outcomes, OutcomesError


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


def test_the_equal_split_of_opposite_policies_covers_what_neither_does():
    arm = equal_split(OPPOSITES, OPPOSITES.policies, 4)
    assert arm.allocation == {"m0": 2, "m1": 2}
    assert arm.naive_P.tolist() == [1, 1, 1, 1]
    assert best_single(OPPOSITES, 4, CrossFit()).naive_P.mean() == 0.5


def test_the_winners_curse_shows_in_the_naive_figure_only():
    """Five identical policies: the best of them looks better than it is, unless it is scored elsewhere."""
    rng = np.random.default_rng(1)
    naive, honest, truth = [], [], []
    for _ in range(60):
        rate_P = rng.beta(0.2, 1.0, 60)
        five = outcomes_of(rng.binomial(20, rate_P, size=(5, 60)), n=20)
        arm = best_single(five, 10, CrossFit(folds=10, repeats=2))
        naive.append(arm.naive_P.mean())
        honest.append(arm.honest_P.mean())
        truth.append((1 - (1 - rate_P) ** 10).mean())
    optimism = np.mean(np.array(naive) - truth)
    error = np.array(honest) - truth
    assert optimism > 0.01
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error)) + 0.002


def test_cross_fitting_never_scores_a_problem_with_its_own_choice():
    # Row 0 wins by p0 alone; without p0, row 1 wins. So p0 must get row 1's value.
    values_MP = np.array([[1.0, 0.2, 0.2], [0.0, 0.3, 0.3]])
    assert cross_fitted_best(values_MP, CrossFit(folds=3, repeats=1))[0] == 0.0


def test_intervals_hold_the_mean_of_new_problems():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        estimate = mean_over_problems(rng.beta(0.5, 1.0, 60), Resampling(resamples=500, seed=seed))
        low, high = estimate.interval
        covered += low <= 1 / 3 <= high
    assert 180 <= covered <= 199


def test_rounding_errors_decide_no_sign():
    # Twenty divisions of a mean over one policy sum to almost, but not quite, what one gives.
    values_MP = np.array([[0.1, 0.7, 0.3, 1 / 3, 0.9]])
    difference_P = values_MP[0] - cross_fitted_best(values_MP, CrossFit(repeats=20))
    assert np.any(difference_P != 0)
    assert mean_over_problems(difference_P, Resampling()).sign == 0


@pytest.mark.parametrize(("values", "sign"), [([0.1, 0.2, 0.3], 1), ([-0.1, -0.2, -0.3], -1), ([-0.5, 0.5, 0.1], 0)])
def test_the_sign_is_that_of_the_whole_interval(values, sign):
    assert mean_over_problems(np.array(values), Resampling()).sign == sign


def test_one_problem_has_no_interval():
    estimate = mean_over_problems(np.array([0.5]), Resampling())
    assert (estimate.value, estimate.stderr, estimate.interval) == (0.5, None, None)


def table(*rows):
    return pd.DataFrame(rows, columns=["problem", "policy", "n", "c"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p", "a", 4, 5)], "more accepted than graded samples"),
        ([("p", "a", 4, -1)], "no counts"),
        ([("p", "a", 4, 1.5)], "no counts"),
        ([("p", "a", 0, 0)], "no graded sample"),
        ([("p", "a", 4, 1), ("p", "a", 4, 1)], "two rows"),
        ([("p", "a", 4, 1), ("q", "b", 4, 1)], "no row for policy 'a' on problem 'q'"),
        ([], "no rows"),
    ],
)
def test_tables_that_do_not_hold_are_refused(rows, message):
    with pytest.raises(OutcomesError, match=message):
        Outcomes.from_table(table(*rows), "the table")


def test_outcomes_survive_a_file(tmp_path):
    outcomes = outcomes_of([[1, 2], [3, 4]], failures={"format": np.array([[3, 2], [1, 0]])})
    outcomes.to_csv(tmp_path / "o.csv")
    again = Outcomes.read_csv(tmp_path / "o.csv")
    assert again.policies == outcomes.policies
    np.testing.assert_array_equal(again.num_correct_MP, outcomes.num_correct_MP)
    np.testing.assert_array_equal(again.num_failures_MP["format"], outcomes.num_failures_MP["format"])
