"""Estimators against exact rationals and full enumeration."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from math import comb, prod

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamix.ensemble.statistics.pass_at_k import (
    UndefinedError,
    coverage,
    log_miss,
    miss,
    pass_at_k,
    pass_at_ks,
    sampling_variance,
)

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be."""
TINY = 2.3e-308
"""Below this, floats have no digits left."""

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n)))


def exact_miss(n: int, c: int, k: int) -> Fraction:
    few, many = min(c, k), max(c, k)  # they may change places, and the shorter binomials are quicker
    return Fraction(comb(n - many, few), comb(n, few))


def relative_error(found: float, exact: Fraction) -> float:
    return 0.0 if exact < TINY and found == 0 else abs(float(Fraction(found) / exact - 1))


@busy
@given(st.lists(counts, min_size=1, max_size=20))
def test_miss_and_pass_at_k_equal_exact_rationals(cells):
    n, c, k = np.array(cells).T
    missed, passed = miss(n, c, k), pass_at_k(n, c, k)
    for i, (n_i, c_i, k_i) in enumerate(cells):
        exact = exact_miss(n_i, c_i, k_i)
        assert relative_error(missed[i], exact) <= 1e-13
        assert relative_error(passed[i], 1 - exact) <= 1e-13


def test_a_million_samples_cost_no_digits():
    """The hard corners: tiny rates, long products, chances near the end of the floats, and beyond it."""
    n = 10**6
    corners = [(1, 10), (3, n - 10), (700, 700), (5000, 5000), (26_000, 26_000), (1000, n // 2), (20_000, 30_000)]
    rng = np.random.default_rng(0)
    few = np.exp(rng.uniform(0, np.log(20_000), 40)).astype(int)
    many = (few + rng.random(40) * (np.minimum(n, 700 * n // few) - few)).astype(int)
    pairs = [*corners, *zip(few.tolist(), many.tolist(), strict=True)]
    c, k = np.array([*pairs, *(pair[::-1] for pair in pairs)]).T
    missed, passed = miss(n, c, k), pass_at_k(n, c, k)
    for i, (c_i, k_i) in enumerate(zip(c.tolist(), k.tolist(), strict=True)):
        exact = exact_miss(n, c_i, k_i)
        assert relative_error(missed[i], exact) <= 1e-12, (c_i, k_i)
        assert relative_error(passed[i], 1 - exact) <= 1e-12, (c_i, k_i)


def test_chances_beyond_the_floats_are_zero():
    half = 3 * 10**5
    assert float(miss(10**6, half, half)) == 0.0
    assert float(pass_at_k(10**6, half, half)) == pytest.approx(1, abs=1e-12)
    assert float(miss(10**6, 10**6 - half, half + 1)) == 0.0
    assert float(pass_at_k(10**6, 10**6 - half, half + 1)) == 1.0


def test_logarithms_keep_the_digits_of_both_ends():
    found = log_miss([10**6, 10**6, 10, 7], [1, 10**6 - 5, 0, 7], [10, 5, 3, 1])
    exact = float(exact_miss(10**6, 10**6 - 5, 5))
    np.testing.assert_allclose(found, [np.log1p(-1e-5), np.log(exact), 0, -np.inf], rtol=1e-14)


def test_many_ks_in_one_pass_equal_one_at_a_time():
    rng = np.random.default_rng(1)
    n = rng.integers(60, 5000, (3, 2000))
    c = (n * rng.beta(0.3, 1.0, n.shape)).astype(int)
    ks = [60, 1, 7, 1, 0, 33]
    pass_KMP = pass_at_ks(n, c, ks)
    assert pass_KMP.shape == (6, 3, 2000)
    np.testing.assert_allclose(pass_KMP, [pass_at_k(n, c, k) for k in ks], rtol=1e-13, atol=0)


def test_no_k_and_no_cell_give_empty_arrays():
    assert pass_at_ks([5, 6], [1, 2], []).shape == (0, 2)
    assert pass_at_ks([], [], [3]).shape == (1, 0)


# Three policies with unequal numbers of samples, and true solve rates.
N = (4, 3, 5)
RATES = (Fraction(1, 3), Fraction(1, 4), Fraction(3, 5))


def all_counts(n: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """Every outcome of independent policies with its chance."""
    for c in product(*(range(n_j + 1) for n_j in n)):
        yield (
            c,
            prod(
                (comb(n_j, c_j) * p**c_j * (1 - p) ** (n_j - c_j) for n_j, c_j, p in zip(n, c, RATES, strict=False)),
                start=Fraction(1),
            ),
        )


def mean_of(estimate: Callable[[np.ndarray, np.ndarray], np.ndarray], n: tuple[int, ...] = N) -> float:
    """Exact expectation of an estimate, over all outcomes at once as if each were a problem."""
    c_by_outcome, chances = zip(*all_counts(n), strict=True)
    c_MP = np.array(c_by_outcome).T
    estimates = estimate(np.broadcast_to(np.array(n)[:, None], c_MP.shape), c_MP)
    return float(sum(chance * Fraction(float(one)) for chance, one in zip(chances, estimates, strict=True)))


def truth(allocation: tuple[int, ...]) -> Fraction:
    return prod(((1 - p) ** k for p, k in zip(RATES, allocation, strict=True)), start=Fraction(1))


@pytest.mark.parametrize("k", range(5))
def test_pass_at_k_is_unbiased(k):
    p = RATES[0]
    assert mean_of(lambda n, c: pass_at_k(n[0], c[0], k), N[:1]) == pytest.approx(float(1 - (1 - p) ** k), rel=1e-13)


@pytest.mark.parametrize("allocation", [(2, 1, 0), (4, 3, 5), (0, 0, 1)])
def test_coverage_is_unbiased(allocation):
    assert mean_of(lambda n, c: coverage(n, c, allocation)) == pytest.approx(float(1 - truth(allocation)), rel=1e-13)


@pytest.mark.parametrize("allocation", [(2, 1, 0), (1, 0, 1), (0, 1, 2), (2, 1, 2), (0, 0, 0)])
def test_sampling_variance_is_unbiased(allocation):
    """Against the variance of the estimate over all outcomes."""
    mean_square = mean_of(lambda n, c: coverage(n, c, allocation) ** 2)
    square_of_mean = float((1 - truth(allocation)) ** 2)
    found = mean_of(lambda n, c: sampling_variance(n, c, allocation))
    assert found == pytest.approx(mean_square - square_of_mean, abs=1e-14)


@busy
@given(counts, counts)
def test_coverage_is_monotone_symmetric_and_at_least_each_part(one, other):
    n_MP, c_MP = np.array([one[:1], other[:1]]), np.array([one[1:2], other[1:2]])
    k = [one[2], other[2]]
    both = coverage(n_MP, c_MP, k)[0]
    assert both == pytest.approx(coverage(n_MP[::-1], c_MP[::-1], k[::-1])[0], rel=1e-13)
    for j in range(2):
        alone = float(pass_at_k(n_MP[j, 0], c_MP[j, 0], k[j]))
        assert both >= alone * (1 - 1e-13)
        if k[j] > 0:
            assert alone >= pass_at_k(n_MP[j, 0], c_MP[j, 0], k[j] - 1) * (1 - 1e-13)
    assert 0 <= both <= 1


def test_coverage_by_one_policy_is_its_pass_at_k():
    n_MP, c_MP = np.array([[10, 12], [8, 8]]), np.array([[3, 0], [1, 8]])
    np.testing.assert_allclose(coverage(n_MP, c_MP, [5, 0]), pass_at_k(n_MP[0], c_MP[0], 5))


@pytest.mark.parametrize(
    "ask",
    [
        lambda n, c: pass_at_k(n, c, 9),
        lambda n, c: pass_at_ks(n, c, [1, 9]),
        lambda n, c: coverage(n, c, [9]),
    ],
)
def test_more_samples_than_were_drawn_are_refused(ask):
    with pytest.raises(UndefinedError, match=r"k = 9 needs at least 9 samples .* has 8: draw more"):
        ask(np.array([[10, 8]]), np.array([[1, 1]]))


def test_the_sampling_variance_needs_twice_the_samples():
    with pytest.raises(UndefinedError, match="k = 10 needs at least 10 samples"):
        sampling_variance(np.array([[8]]), np.array([[1]]), [5])


@pytest.mark.parametrize(
    ("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, -1), (5, 1.5, 1), (5, 1, 0.5), (float("nan"), 1, 1)]
)
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match="impossible counts"):
        miss(n, c, k)
