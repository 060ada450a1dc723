"""Intervals against scipy's bootstrap, and how often they hold the truth, by simulation with fixed seeds.

The cases here are those that docs/statistics.md names: where 95 % intervals hold between 93 % and 97 %, and where not.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import betaln
from scipy.stats import bootstrap, norm
from scipy.stats import t as student

from alphamix.ensemble.statistics import intervals
from alphamix.ensemble.statistics.intervals import (
    Estimate,
    Resampling,
    coverage_on_fixed_benchmark,
    draw_weights,
    from_draws,
    grouping_inflation,
    mean_over_problems,
    means_over_problems,
    student_interval,
)
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, pass_at_k

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be."""
METHODS = ("percentile", "bca")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_intervals_are_those_of_scipy(method, level):
    values_P = np.random.default_rng(3).beta(0.3, 1.0, 40)
    found = mean_over_problems(values_P, Resampling(level, 999, 7, method))
    scipy = bootstrap(
        (values_P,),
        np.mean,
        n_resamples=999,
        confidence_level=level,
        method={"percentile": "percentile", "bca": "BCa"}[method],
        rng=np.random.default_rng(7),
    )
    assert found.interval == pytest.approx(tuple(scipy.confidence_interval), abs=1e-11)
    assert found.value == pytest.approx(values_P.mean(), abs=1e-12)
    assert found.stderr == pytest.approx(values_P.std(ddof=1) / np.sqrt(40), abs=1e-12)
    assert found.kind == "new problems"


def test_rows_share_their_draws_however_they_are_cut(monkeypatch):
    values_RP = np.random.default_rng(4).random((3, 17))
    together = means_over_problems(values_RP, Resampling(resamples=200))
    monkeypatch.setattr(intervals, "_CELLS", 17 * 7)
    draw_weights.cache_clear()
    assert np.allclose(draw_weights(17, Resampling(resamples=200)).sum(axis=1), 1)
    for one, values_P in zip(together, values_RP, strict=True):
        alone = mean_over_problems(values_P, Resampling(resamples=200))
        assert (one.value, one.stderr) == (alone.value, alone.stderr)
        assert one.interval == pytest.approx(alone.interval, abs=2e-12)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_of_other_statistics_are_those_of_scipy(method):
    """A product of two means, whose influence is the derivative of a product."""
    rng = np.random.default_rng(5)
    a_P, b_P = rng.beta(0.3, 1.0, 80), rng.beta(1.0, 0.5, 80)
    resampling = Resampling(0.9, 2000, 7, method)
    weights_BP = draw_weights(80, resampling)
    influence_P = (a_P - a_P.mean()) * b_P.mean() + a_P.mean() * (b_P - b_P.mean())
    value_R, draws_RB = np.array([a_P.mean() * b_P.mean()]), ((weights_BP @ a_P) * (weights_BP @ b_P))[None]
    (found,) = from_draws(value_R, draws_RB, influence_P[None], resampling)
    scipy = bootstrap(
        (a_P, b_P),
        lambda a, b, axis: a.mean(axis) * b.mean(axis),
        n_resamples=2000,
        paired=True,
        vectorized=True,
        confidence_level=0.9,
        method={"percentile": "percentile", "bca": "BCa"}[method],
        rng=np.random.default_rng(7),
    )
    assert found.interval == pytest.approx(tuple(scipy.confidence_interval), abs=0.02 * found.stderr)
    assert found.stderr == pytest.approx(scipy.standard_error, rel=0.05)


def test_a_draw_shares_out_all_problems_and_a_seed_repeats_it():
    weights_BP = draw_weights(7, Resampling(resamples=50, seed=3))
    np.testing.assert_allclose(weights_BP.sum(axis=1), 1)
    draw_weights.cache_clear()
    np.testing.assert_array_equal(weights_BP, draw_weights(7, Resampling(resamples=50, seed=3)))
    assert np.any(weights_BP != draw_weights(7, Resampling(resamples=50, seed=4)))


@busy
@given(
    arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 12)), elements=st.floats(-1, 1)),
    st.sampled_from(METHODS),
)
def test_intervals_lie_among_the_values(values_RP, method):
    for values_P, estimate in zip(
        values_RP, means_over_problems(values_RP, Resampling(0.9, 100, 0, method)), strict=True
    ):
        low, high = estimate.interval
        alike = estimate.stderr == 0
        assert alike or values_P.min() - 1e-11 <= low <= high <= values_P.max() + 1e-11
        assert -1 <= low <= estimate.value + 1e-11
        assert estimate.value - 1e-11 <= high <= 1


@pytest.mark.parametrize("method", [*METHODS, "score"])
@pytest.mark.parametrize(("value", "lowest"), [(1.0, 0), (0.0, 0), (0.25, 0), (0.25, -1), (0.0, -1)])
def test_equal_values_are_no_certainty(method, value, lowest):
    """A mean m is compatible with n equal values v where n (m - v)^2 <= z^2 (m - v) (bound - m)."""

    def bounds(reach):
        return tuple((5 * value + reach**2 * bound) / (5 + reach**2) for bound in (lowest, 1))

    estimate = mean_over_problems(np.full(5, value), Resampling(method=method), lowest)
    assert (estimate.value, estimate.stderr) == (value, 0)
    assert estimate.interval == pytest.approx(bounds(norm.ppf(0.975)), abs=1e-6)
    honest = student_interval(np.full(5, value), np.full(50, value), Resampling(), lowest)
    assert honest.interval == pytest.approx(bounds(student.ppf(0.975, 4)), abs=1e-6)


@pytest.mark.parametrize("method", [*METHODS, "score"])
def test_equal_values_without_bounds_say_nothing(method):
    estimate = mean_over_problems(np.full(5, 3.0), Resampling(method=method), -np.inf)
    assert (estimate.value, estimate.stderr, estimate.interval) == (3, 0, None)


def test_draws_that_are_all_alike_make_no_interval_narrower():
    """Wilson's interval of one of two, with the quantile of Student's t at one degree of freedom."""
    t = student.ppf(0.975, 1)
    reach = t / (2 + t**2) * np.sqrt(2 * 0.25 + t**2 / 4)
    found = student_interval(np.array([0.0, 1.0]), np.full(50, 0.9), Resampling(), 0).interval
    assert found == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)


@pytest.mark.parametrize("method", [*METHODS, "score"])
@pytest.mark.parametrize(("values", "sign"), [([0.1, 0.2, 0.3], 1), ([-0.1, -0.2, -0.3], -1), ([-0.5, 0.5, 0.1], 0)])
def test_the_sign_is_that_of_the_whole_interval(method, values, sign):
    assert mean_over_problems(np.repeat(values, 20), Resampling(method=method)).sign == sign


def test_three_problems_are_too_few_for_a_sign():
    assert mean_over_problems(np.array([0.1, 0.2, 0.3]), Resampling()).sign == 0


def test_rounding_errors_decide_no_sign():
    difference_P = np.array([0.1 + 0.2 - 0.3, 0.0, 0.0])
    assert np.any(difference_P != 0)
    assert mean_over_problems(difference_P, Resampling()).sign == 0


def test_one_problem_has_no_interval():
    estimate = mean_over_problems(np.array([0.5]), Resampling())
    assert (estimate.value, estimate.stderr, estimate.interval) == (0.5, None, None)


def test_groups_are_drawn_instead_of_problems():
    """25 groups of 20 equal problems tell as much as 25 problems; the variance of groups is estimated, hence t."""
    values_P = np.random.default_rng(8).binomial(8, 0.3, 25) / 8
    groups = np.repeat(np.arange(25), 20)
    for method in ("score", "bca"):
        once = mean_over_problems(values_P, Resampling(method=method), lowest=0)
        grouped = Resampling(method=method).with_groups([f"g{g:02}" for g in groups])
        copied = mean_over_problems(np.repeat(values_P, 20), grouped, lowest=0)
        assert copied.value == pytest.approx(once.value)
        assert copied.stderr == pytest.approx(once.stderr, rel=0.002)  # 499/500, as problems are counted
        assert copied.interval == pytest.approx(once.interval, abs=0.015)
    cluster = np.repeat(values_P - values_P.mean(), 20).reshape(25, 20).sum(axis=1)
    plain = 20 * ((values_P - values_P.mean()) ** 2).sum()
    grouped = Resampling().with_groups(groups.astype(str))
    assert grouping_inflation(np.repeat(values_P, 20), grouped) == pytest.approx(cluster @ cluster / plain * 25 / 24)


def test_groups_that_tell_nothing_make_no_interval_narrower():
    values_P = np.random.default_rng(9).permutation(np.repeat([0.0, 1.0], 30))
    balanced = np.argsort(np.argsort(values_P, kind="stable")) % 30  # each group has one solved and one failed problem
    assert grouping_inflation(values_P, Resampling().with_groups(balanced.astype(str))) == 1.0
    one = mean_over_problems(values_P, Resampling().with_groups(["all"] * 60))
    assert (one.value, one.stderr, one.interval) == (0.5, None, None)
    assert grouping_inflation(np.zeros(60), Resampling().with_groups(balanced.astype(str))) == 2.0


def test_a_draw_takes_whole_groups():
    groups = ["a", "b", "a", "c", "c", "c"]
    weights_BP = draw_weights(6, Resampling(resamples=50).with_groups(groups))
    np.testing.assert_allclose(weights_BP.sum(axis=1), 1)
    for members in ([0, 2], [3, 4, 5]):
        assert np.all(np.ptp(weights_BP[:, members], axis=1) == 0)


def test_no_problems_are_refused():
    with pytest.raises(ValueError, match="grade at least one"):
        mean_over_problems(np.empty(0), Resampling())
    with pytest.raises(ValueError, match="grade at least one"):
        coverage_on_fixed_benchmark(np.empty((1, 0), int), np.empty((1, 0), int), [1])


def share_held(estimates: list[Estimate], truth: float) -> float:
    bounds = np.array([estimate.interval for estimate in estimates])
    return float(np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])))


def simulated_new_problems(shapes, num_problems, n, k, method, simulations=2000) -> float:
    """How often the interval of pass@k holds its mean over all problems, whose rates are Beta distributed."""
    rng = np.random.default_rng(5)
    c_RP = rng.binomial(n, rng.beta(*shapes, (simulations, num_problems)))
    a, b = shapes
    truth = -np.expm1(betaln(a, b + k) - betaln(a, b))
    estimates = means_over_problems(pass_at_k(n, c_RP, k), Resampling(seed=1, method=method), lowest=0)
    return share_held(estimates, truth)


@pytest.mark.parametrize(
    ("method", "shapes", "num_problems", "k"),
    [
        ("percentile", (0.5, 1), 100, 1),  # mean pass@k 0.33
        ("percentile", (0.2, 1), 100, 1),  # 0.17
        ("percentile", (0.2, 1), 100, 10),  # 0.43
        ("percentile", (0.1, 3), 200, 1),  # 0.03
        ("bca", (0.5, 1), 30, 1),  # 0.33
        ("bca", (0.5, 1), 30, 10),  # 0.73
        ("bca", (0.2, 1), 30, 1),  # 0.17
        ("bca", (0.1, 3), 100, 1),  # 0.03
        ("bca", (0.02, 2), 100, 10),  # 0.04
    ],
)
def test_intervals_for_new_problems_hold_as_often_as_they_say(method, shapes, num_problems, k):
    assert 0.93 <= simulated_new_problems(shapes, num_problems, 20, k, method) <= 0.97


@pytest.mark.parametrize(("method", "least"), [("percentile", 0.85), ("bca", 0.96)])
def test_where_a_third_of_the_samples_see_no_solve(method, least):
    """Mean pass@1 of 0.01 on 20 problems: the bootstrap alone would hold it in less than 0.7 of the samples."""
    assert simulated_new_problems((0.02, 2), 20, 20, 1, method) > least


def test_paired_differences_for_new_problems():
    """Two policies with related rates; the interval of the difference, not the difference of intervals."""
    rng = np.random.default_rng(6)
    rate_RP = rng.beta(0.4, 1.0, (2000, 100))
    other_RP = np.minimum(rate_RP * 1.3, 1)  # E[min(1.3 p, 1)] - E[p] has no closed form: a large sample serves
    many = rng.beta(0.4, 1.0, 4_000_000)
    truth = float((np.minimum(many * 1.3, 1) - many).mean())
    difference_RP = (rng.binomial(20, other_RP) - rng.binomial(20, rate_RP)) / 20
    estimates = means_over_problems(difference_RP, Resampling(seed=1))
    assert 0.93 <= share_held(estimates, truth) <= 0.97


def simulated_fixed_benchmark(shapes, num_problems, n, k, simulations=1000) -> float:
    """How often the interval holds mean pass@k of the same problems, over new samples."""
    rng = np.random.default_rng(7)
    rate_P = rng.beta(*shapes, num_problems)
    n_MP = np.full((1, num_problems), n)
    estimates = [coverage_on_fixed_benchmark(n_MP, rng.binomial(n, rate_P)[None], [k]) for _ in range(simulations)]
    return share_held([one for one in estimates if one.interval], float((1 - (1 - rate_P) ** k).mean()))


@pytest.mark.parametrize(
    ("shapes", "num_problems", "n", "k"),
    [((0.5, 1), 100, 20, 10), ((0.2, 1), 100, 10, 1), ((0.1, 3), 100, 250, 100), ((0.5, 1), 20, 50, 10)],
)
def test_intervals_of_a_fixed_benchmark_hold_as_often_as_they_say(shapes, num_problems, n, k):
    assert 0.93 <= simulated_fixed_benchmark(shapes, num_problems, n, k) <= 0.97


def test_few_problems_at_half_the_samples_are_beyond_the_normal_interval():
    assert simulated_fixed_benchmark((0.5, 1), 10, 20, 10) < 0.85


def test_a_fixed_benchmark_says_less_than_new_problems():
    n_MP, c_MP = np.full((1, 50), 10), np.random.default_rng(9).integers(0, 11, (1, 50))
    fixed = coverage_on_fixed_benchmark(n_MP, c_MP, [2])
    new = mean_over_problems(pass_at_k(n_MP[0], c_MP[0], 2), Resampling())
    assert fixed.value == pytest.approx(new.value)
    assert fixed.stderr < new.stderr
    assert (fixed.kind, new.kind) == ("fixed benchmark", "new problems")


@pytest.mark.parametrize("c", [0, 10])
def test_no_variance_seen_is_no_interval(c):
    """All samples failed, or none: that does not say that the next will."""
    estimate = coverage_on_fixed_benchmark(np.full((1, 5), 10), np.full((1, 5), c), [2])
    assert (estimate.value, estimate.stderr, estimate.interval) == (c / 10, None, None)


def test_more_than_half_the_samples_have_no_sampling_variance():
    n_MP, c_MP = np.full((1, 5), 10), np.full((1, 5), 3)
    with pytest.raises(UndefinedError, match="k = 12 needs at least 12 samples"):
        coverage_on_fixed_benchmark(n_MP, c_MP, [6])
