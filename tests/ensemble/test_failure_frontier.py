"""Failure rates, who dominates whom, and where answers fall apart: by hand and against brute force."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alphamix.ensemble.analysis.failure_frontier import frontier, moderate_range, pareto, trends
from alphamix.ensemble.outcomes.files import outcomes_from_table
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, mean_over_problems

LADDER = Path(__file__).parents[2].parent / "shared/data/ladder_outcomes.csv"
QUICK = Resampling(resamples=200)


def outcomes_of(n=20, **failures) -> Outcomes:
    """Outcomes `[M, P]` by failure class; the other samples are accepted."""
    failures_MP = {name: np.array(failed_MP) for name, failed_MP in failures.items()}
    failed_MP = sum(failures_MP.values())
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(failed_MP.shape[1])),
        policies=tuple(f"m{m}" for m in range(failed_MP.shape[0])),
        num_samples_MP=np.full(failed_MP.shape, n),
        num_correct_MP=n - failed_MP,
        num_failures_MP=failures_MP,
        costs_MP={},
    )


def along(*alphas):
    return {f"m{m}": alpha for m, alpha in enumerate(alphas)}


def test_rates_are_means_over_problems():
    outcomes = outcomes_of(optimisation=[[14, 10], [5, 0]], correctness=[[0, 1], [3, 4]])
    rates = frontier(outcomes, QUICK)
    assert rates["m0"]["optimisation"].value == 0.6
    assert rates["m1"]["correctness"].value == 0.175
    expected = mean_over_problems(np.array([0.7, 0.5]), QUICK, lowest=0)
    assert rates["m0"]["optimisation"].interval == pytest.approx(expected.interval)


def test_a_dominated_policy_is_told_by_whom():
    outcomes = outcomes_of(optimisation=[[8, 8], [4, 4], [9, 9]], correctness=[[2, 2], [6, 6], [2, 3]])
    points = pareto(outcomes, QUICK)
    assert points["m2"].dominated_by == ("m0",)
    assert points["m2"].share_on_front == 0.0
    assert points["m0"].dominated_by == points["m1"].dominated_by == ()
    assert points["m0"].share_on_front == 1.0


def test_a_policy_that_answers_nothing_dominates_nobody():
    outcomes = outcomes_of(optimisation=[[8, 8], [0, 0]], correctness=[[2, 2], [0, 0]], format=[[0, 0], [20, 20]])
    assert pareto(outcomes, QUICK)["m0"].dominated_by == ()


def test_twins_do_not_dominate_each_other():
    points = pareto(outcomes_of(optimisation=[[3, 1], [3, 1]], correctness=[[1, 2], [1, 2]]), QUICK)
    assert all(point.dominated_by == () and point.share_on_front == 1.0 for point in points.values())


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, (3, 4, 2), elements=st.integers(0, 3)))
def test_the_front_is_that_of_brute_force(failed_LMP):
    optimisation_MP, correctness_MP, format_MP = failed_LMP
    outcomes = outcomes_of(optimisation=optimisation_MP, correctness=correctness_MP, format=format_MP)
    losses_M = [
        (correctness_MP[m].sum(), optimisation_MP[m].sum(), failed_LMP[:, m].sum()) for m in range(len(optimisation_MP))
    ]
    for m, point in enumerate(pareto(outcomes, Resampling(resamples=2)).values()):
        better = [
            other
            for other in range(4)
            if losses_M[other] != losses_M[m] and all(a <= b for a, b in zip(losses_M[other], losses_M[m], strict=True))
        ]
        assert point.dominated_by == tuple(f"m{other}" for other in better)


def test_a_point_that_few_problems_decide_is_sometimes_on_the_front():
    """m1 is dominated only for its failure on one of ten problems, which a draw leaves out with chance 0.9^10."""
    correctness_MP = np.zeros((2, 10), int)
    correctness_MP[1, 3] = 5
    outcomes = outcomes_of(optimisation=np.ones((2, 10), int), correctness=correctness_MP)
    point = pareto(outcomes, Resampling(resamples=4000))["m1"]
    assert point.dominated_by == ("m0",)
    assert point.share_on_front == pytest.approx(0.9**10, abs=0.03)


def test_the_moderate_range_ends_where_format_takes_over():
    # Excess of format over other failures, in samples: 12 at -1, -8 at 0, -8 at 1, -4 at 1.5, 12 at 2.
    tried, fell_apart = [[0], [8], [8], [4], [0]], [[12], [0], [0], [0], [12]]
    outcomes = outcomes_of(correctness=np.repeat(tried, 3, axis=1), format=np.repeat(fell_apart, 3, axis=1))
    moderate = moderate_range(outcomes, along(-1.0, 0.0, 1.0, 1.5, 2.0), QUICK)
    assert moderate.below.alpha == pytest.approx(-8 / 20)
    assert moderate.above.alpha == pytest.approx(1.5 + 0.5 * 4 / 16)
    assert moderate.above.interval == pytest.approx((1.625, 1.625))
    assert (moderate.below.share, moderate.above.share) == (1.0, 1.0)
    assert [moderate.holds(alpha) for alpha in (-0.5, -0.3, 0.5, 1.6, 1.7)] == [False, True, True, True, False]


def test_a_range_without_end_is_none():
    outcomes = outcomes_of(optimisation=[[3, 3], [3, 3]], exhausted=[[1, 2], [3, 3]])
    moderate = moderate_range(outcomes, along(0.0, 1.5), QUICK)
    assert (moderate.above.alpha, moderate.above.interval, moderate.above.share) == (None, (None, None), 0.0)
    assert moderate.holds(-9.0)
    assert moderate_range(outcomes, along(None, None), QUICK) is None
    assert moderate_range(outcomes_of(format=[[0, 0]]), {}, QUICK) is None


def test_an_end_that_some_draws_do_not_reach_has_an_open_interval():
    """At α = 2 format failures are as many as others on the mean of problems, and one more on one of them."""
    rng = np.random.default_rng(0)
    format_P = rng.integers(0, 21, 40)
    outcomes = outcomes_of(correctness=[[5] * 40, [0] * 40, 20 - format_P], format=[[0] * 40, [0] * 40, format_P])
    above = moderate_range(outcomes, along(0.0, 1.0, 2.0), Resampling(resamples=1000)).above
    assert 0.05 < above.share < 0.95
    assert above.interval[1] is None
    assert above.interval[0] >= 1.0


def test_classes_have_trends_along_alpha():
    outcomes = outcomes_of(optimisation=[[9, 8], [5, 6], [1, 2]], correctness=[[1, 1], [2, 2], [3, 4]])
    found = trends(outcomes, along(0.0, 0.5, 1.0), QUICK)
    assert found["optimisation"].slope.value == pytest.approx(-7 / 20)
    assert found["correctness"].z > 0 > found["optimisation"].z
    assert found["solved"].slope.sign == 1
    assert trends(outcomes, along(0.0, None, None), QUICK) == {}


@pytest.mark.skipif(not LADDER.exists(), reason="real outcomes are not here")
def test_the_ladder_trades_one_failure_for_the_other():
    table = pd.read_csv(LADDER)
    table["format"] += table["syntax"]  # what does not compile is a format failure
    outcomes = outcomes_from_table(table, LADDER.name)
    alphas = {name: float(name.split("@")[1]) for name in outcomes.policies}
    found = trends(outcomes, alphas, QUICK)
    assert found["optimisation"].slope.sign == -1
    assert found["correctness"].slope.sign == 1
    moderate = moderate_range(outcomes, alphas, QUICK)
    assert 1.5 < moderate.above.alpha < 3.0
    assert moderate.below.alpha is None
