"""Ranking by posterior: intervals that hold on these problems, chances to be the best, and ties that are told."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from alphamix.ensemble.analysis.ranking import Ranking, rank_policies
from alphamix.ensemble.cli import main
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.report.ranking_text import ranking_sentence
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.rate_posterior import MeanRate, chances_first

TABLE = str(Path(__file__).parents[2] / "results/quickstart/outcomes.csv")


def outcomes(c_MP: list[list[int]], n: int | list[list[int]], names: str = "abcdefgh") -> Outcomes:
    correct_MP = np.array(c_MP)
    samples_MP = np.broadcast_to(n, correct_MP.shape).copy()
    problems = tuple(f"p{p}" for p in range(correct_MP.shape[1]))
    return Outcomes(problems, tuple(names[: len(c_MP)]), samples_MP, correct_MP, {}, {})


def ranked(table: Outcomes) -> Ranking:
    return rank_policies(table, Resampling())


@pytest.mark.parametrize("samples", [1, 2, 10, 50])
@pytest.mark.parametrize(
    "rates",
    [(1.0, 3.0), (0.3, 0.6), (2.0, 0.5), (0.1, 3.0), (300.0, 700.0)],
    ids=["flat", "u-shaped", "high", "rare", "all alike"],
)
def test_intervals_hold_the_mean_rate_of_these_problems(samples: int, rates: tuple[float, float]) -> None:
    """In 150 tables, 95 % with a standard error of 1.8; with one sample the interval is wide on purpose."""
    rng = np.random.default_rng(samples)
    held = 0
    for _ in range(150):
        p_P = rng.beta(*rates, 60)
        low, high = MeanRate.of(np.full(60, samples), rng.binomial(samples, p_P)).interval(0.95)
        held += low <= p_P.mean() <= high
    assert held >= 150 * 0.89
    assert samples == 1 or held < 150


def test_a_uniform_prior_on_every_problem_misses_where_this_one_holds() -> None:
    rng = np.random.default_rng(0)
    p_P = rng.beta(0.3, 1.0, 300)
    n_P, c_P = np.full(300, 10), rng.binomial(10, p_P)
    uniform = (c_P + 1) / 12
    spread = np.sqrt(((c_P + 1) * (11 - c_P) / (144 * 13)).sum()) / 300
    assert uniform.mean() - p_P.mean() > 4 * spread
    assert abs(MeanRate.of(n_P, c_P).mean - p_P.mean()) < 2.5 * MeanRate.of(n_P, c_P).stddev


def test_the_posterior_mean_is_that_of_a_fine_integration() -> None:
    """Jeffreys' prior of m is uniform in the arcsine of its root; log s is uniform between its ends."""
    n_P, c_P = np.array([4, 3, 2]), np.array([1, 3, 0])
    mean, size = np.meshgrid(np.sin(np.linspace(0.002, np.pi / 2 - 0.002, 600)) ** 2, np.geomspace(0.02, 1000, 300))
    each = [betabinom.pmf(c, n, size * mean, size * (1 - mean)) for n, c in zip(n_P, c_P, strict=True)]
    chance = np.array(each).prod(axis=0)
    rate = np.mean([(size * mean + c) / (size + n) for n, c in zip(n_P, c_P, strict=True)], 0)
    assert MeanRate.of(n_P, c_P).mean == pytest.approx((chance * rate).sum() / chance.sum(), abs=0.004)


def test_chances_to_be_first_are_those_of_draws_where_policies_differ() -> None:
    """A spread far above the errors leaves means where they are, so plain draws are the reference."""
    rates = [MeanRate(0.30, 0.002), MeanRate(0.301, 0.003), MeanRate(0.80, 0.001), MeanRate(0.799, 0.002)]
    rng = np.random.default_rng(0)
    draws_MB = np.array([rng.normal(rate.mean, rate.stddev, 200_000) for rate in rates])
    expected_M = np.bincount(draws_MB.argmax(axis=0), minlength=4) / 200_000
    assert chances_first(rates) == pytest.approx(expected_M, abs=0.01)


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_chances_are_right_as_often_as_they_say(gap: float) -> None:
    """Nine policies that are nearly tied, or are not: without pooling, the first would claim twice what is true."""
    rng = np.random.default_rng(1)
    claimed, right, held = np.mean([_judged_chances(rng, gap) for _ in range(60)], axis=0)
    assert claimed == pytest.approx(right, abs=0.1)
    assert held >= 0.93


def _judged_chances(rng: np.random.Generator, gap: float) -> tuple[float, bool, bool]:
    """Return the highest chance, whether that policy is truly best, and whether the 95 % likeliest hold the best."""
    p_MP = np.clip(rng.beta(0.5, 0.8, 60) + rng.normal(0, gap, (9, 1)) + rng.normal(0, 0.05, (9, 60)), 0, 1)
    chance_M = chances_first([MeanRate.of(np.full(60, 8), c_P) for c_P in rng.binomial(8, p_MP)])
    order_M = np.argsort(-chance_M)
    likeliest = order_M[: np.searchsorted(chance_M[order_M].cumsum(), 0.95) + 1]
    best = p_MP.mean(axis=1).argmax()
    return chance_M.max(), order_M[0] == best, best in likeliest


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=2, max_size=4), st.integers(0, 99))
def test_no_figure_depends_on_the_order_of_rows(c_MP: list[list[int]], seed: int) -> None:
    table = outcomes(c_MP, 5)
    rng = np.random.default_rng(seed)
    shuffled = table.select(policies=rng.permutation(len(c_MP)), problems=rng.permutation(6))
    assert ranked(table) == ranked(shuffled)


def test_ties_are_told_and_not_broken() -> None:
    ranking = ranked(outcomes([[1, 2, 3, 0], [3, 0, 1, 2], [0, 0, 1, 0]], 4))
    assert [policy.rank for policy in ranking.policies] == [1, 1, 3]
    assert ranking.policies[0].chance_first == pytest.approx(ranking.policies[1].chance_first, abs=1e-12)
    assert ranking.best[:2] == ("a", "b")
    assert "a and b are tied on these problems" in ranking_sentence(ranking)
    assert ranking.policies[1].difference.interval != (0, 0)  # other samples: never an interval of no width


def test_a_policy_with_few_samples_is_not_ranked_by_its_prior() -> None:
    """Under uniform priors, 2 samples of a poor policy would have beaten 100 of a better one."""
    rng = np.random.default_rng(3)
    n_MP = [[2] * 50, [100] * 50]
    c_MP = [rng.binomial(2, 0.05, 50).tolist(), rng.binomial(100, 0.15, 50).tolist()]
    assert (np.array(c_MP[0]) + 1).mean() / 4 > (np.array(c_MP[1]) + 1).mean() / 102
    assert ranked(outcomes(c_MP, n_MP)).policies[0].policy == "b"


@pytest.mark.parametrize("count", [0, 4])
def test_policies_that_solve_nothing_or_all_get_a_width(count: int) -> None:
    policy = ranked(outcomes([[count] * 20], 4)).policies[0]
    low, high = policy.interval
    assert 0 <= low < policy.mean < high <= 1
    assert high - low < 0.1


def test_one_policy_and_one_problem_are_said_plainly() -> None:
    assert ranking_sentence(ranked(outcomes([[1, 2]], 4))) == "There is nothing to rank: the table has a single policy."
    ranking = ranked(outcomes([[1], [4]], 4))
    assert ranking.policies[1].difference.interval is None
    assert "no policy is certain to be behind b" in ranking_sentence(ranking)


def test_stopped_draws_are_refused() -> None:
    table = outcomes([[1, 2]], 4)
    stopped = Outcomes(
        table.problems, table.policies, table.num_samples_MP, table.num_correct_MP, {}, {}, np.array([[True, False]])
    )
    with pytest.raises(OutcomesError, match="stopped early"):
        ranked(stopped)


def test_the_command_says_what_the_ranking_holds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["rank", "--outcomes", TABLE])
    text = " ".join(capsys.readouterr().out.split())
    assert "coverage@+1.25 is the best policy on these problems with a chance of 70.7 %" in text
    assert "high and coverage@+0.75 cannot be told from coverage@+1.25; all others are behind it." in text
    main(["rank", "--outcomes", TABLE, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["best"] == ["coverage@+1.25", "high", "coverage@+0.75"]
    assert sum(policy["chance_first"] for policy in report["policies"]) == pytest.approx(1)
    assert report["level"] == 0.95
