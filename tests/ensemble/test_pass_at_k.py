"""Estimators against exact rationals and full enumeration."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.pass_at_k import UndefinedError, coverage, miss, pass_at_k


def exact_miss(n: int, c: int, k: int) -> Fraction:
    return Fraction(comb(n - c, k), comb(n, k))


counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n)))


@given(counts)
def test_miss_and_pass_equal_exact_rationals(counts):
    n, c, k = counts
    exact = exact_miss(n, c, k)
    assert float(miss(n, c, k)) == pytest.approx(float(exact), rel=1e-11, abs=1e-300)
    assert float(pass_at_k(n, c, k)) == pytest.approx(float(1 - exact), rel=1e-11, abs=1e-300)


def test_tiny_chances_keep_their_digits():
    # One accepted sample in a million, ten drawn: exactly 1e-5.
    assert float(pass_at_k(10**6, 1, 10)) == pytest.approx(1e-5, rel=1e-12)


def test_coverage_is_unbiased_by_enumeration():
    """The mean of the estimate over all outcomes of independent policies is 1 - Π (1 - p_j)^k_j."""
    n, k, p = (4, 3), (2, 1), (Fraction(1, 3), Fraction(1, 4))
    mean = Fraction(0)
    for c in product(range(n[0] + 1), range(n[1] + 1)):
        chance = Fraction(1)
        for n_j, c_j, p_j in zip(n, c, p, strict=True):
            chance *= comb(n_j, c_j) * p_j**c_j * (1 - p_j) ** (n_j - c_j)
        estimate = coverage(np.array(n)[:, None], np.array(c)[:, None], k)[0]
        mean += chance * Fraction(float(estimate))
    truth = 1 - (1 - p[0]) ** k[0] * (1 - p[1]) ** k[1]
    assert float(mean) == pytest.approx(float(truth), rel=1e-12)


def test_coverage_by_one_policy_is_its_pass_at_k():
    n_MP, c_MP = np.array([[10, 12], [8, 8]]), np.array([[3, 0], [1, 8]])
    np.testing.assert_allclose(coverage(n_MP, c_MP, [5, 0]), pass_at_k(n_MP[0], c_MP[0], 5))


def test_more_samples_than_were_drawn_is_refused():
    with pytest.raises(UndefinedError, match=r"k = 9 needs at least 9 samples .* has 8"):
        pass_at_k([10, 8], [1, 1], 9)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, -1)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match="counts need"):
        miss(n, c, k)
