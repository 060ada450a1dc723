"""Unbiased estimators of what k samples solve, from n graded samples of which c were accepted.

Pure functions on arrays; axes `M` policies, `P` problems, `K` values of k. No files, no choosing, no intervals.
Everything rests on

    miss(n, c, k) = C(n - c, k) / C(n, k),

the chance that k of the n samples, drawn without replacement, all fail (Chen et al. 2021, arXiv 2107.03374, eq. 1).
It is computed as a product of min(c, k) ratios of whole numbers, and pass@k = 1 - miss as a sum of positive terms, so
that neither loses digits: relative errors stay below 1e-12 up to n = 10⁶. Chances below 2.2e-308, where floats end,
come out as 0.
"""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.errors import EnsembleError

_CELLS = 4096
"""Cells that are worked on at once, so that they stay in a core's cache."""
_MIXED_PROBLEMS = 128
"""Problems whose mixtures are convolved at once, for the same reason."""
_SMALLEST = float(np.finfo(np.float64).tiny)
_NEGLIGIBLE = 1e-150
"""Products of two chances below this are denormal, a hundred times slower, and change no coverage."""


class UndefinedError(EnsembleError):
    """More samples are asked about than were drawn: no unbiased estimator exists."""


def miss(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Chance that k samples, drawn without replacement, all fail.

    Args:
        num_samples: n, of any shape.
        num_correct: c, 0 ≤ c ≤ n.
        k: 0 ≤ k ≤ n; all three are broadcast.

    Returns:
        Array of the broadcast shape.

    Raises:
        UndefinedError: k > n somewhere.
        ValueError: counts that no experiment gives.
    """
    return _chances(num_samples, num_correct, k)[0]


def log_miss(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Logarithm of `miss`, to be summed over policies; -inf where `miss` is 0. Arguments and errors as `miss`."""
    missed, passed = _chances(num_samples, num_correct, k)
    with np.errstate(divide="ignore"):
        return np.where(passed < 0.5, np.log1p(-passed), np.log(missed))


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Chance that at least one of k samples is accepted. Arguments and errors as `miss`."""
    return _chances(num_samples, num_correct, k)[1]


def pass_hat_k(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Chance that all of k samples are accepted, C(c, k) / C(n, k): pass^k of Yao et al. 2024, arXiv 2406.12045.

    Unbiased for p^k. Arguments and errors as `miss`.
    """
    n = np.asarray(num_samples)
    return miss(n, n - np.asarray(num_correct), k)


def pass_at_ks(num_samples: ArrayLike, num_correct: ArrayLike, ks: Sequence[int]) -> Floats:
    """pass@k for many k in one pass, in time proportional to the largest.

    Returns:
        `[K, …]`, one row per k, in the order of `ks`.

    Raises:
        UndefinedError, ValueError: as `miss`.
    """
    n, c, _ = _counts(num_samples, num_correct, max(ks, default=0))
    rows: dict[int, list[int]] = {}
    for row, k in enumerate(ks):
        rows.setdefault(k, []).append(row)
    pass_KN = np.empty((len(ks), n.size))
    for block in _blocks(n.size):
        for k, (_, passed) in enumerate(_one_by_one(n.ravel()[block], c.ravel()[block], max(ks, default=0))):
            for row in rows.get(k, ()):
                np.minimum(passed, 1.0, out=pass_KN[row, block])
    return pass_KN.reshape(len(ks), *n.shape)


def miss_table(num_samples: ArrayLike, num_correct: ArrayLike, largest_k: int) -> Floats:
    """`[…, largest_k + 1]` miss for every k from 0 on, in one pass. Errors as `miss`."""
    n, c, _ = _counts(num_samples, num_correct, largest_k)
    miss_KN = np.empty((largest_k + 1, n.size))
    for block in _blocks(n.size):
        for k, (missed, _) in enumerate(_one_by_one(n.ravel()[block], c.ravel()[block], largest_k)):
            miss_KN[k, block] = missed
    return np.moveaxis(_flushed(miss_KN, _SMALLEST).reshape(-1, *n.shape), 0, -1)


def coverage(num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike) -> Floats:
    """Chance per problem that an allocation solves it: 1 - Π_j miss(n_j, c_j, k_j).

    Unbiased, since policies are sampled independently, and of least variance (Lehmann–Scheffé). Pooling the samples
    of all policies and using pass@k on the pool would be biased.

    Args:
        num_samples_MP: `[M, P]` graded samples.
        num_correct_MP: `[M, P]` accepted samples.
        allocation_M: `[M]` samples given to each policy.

    Returns:
        `[P]` coverage of each problem.

    Raises:
        UndefinedError: some k_j > n_j.
    """
    return _chances_of(num_samples_MP, num_correct_MP, allocation_M)[1]


def sampling_covariance(
    num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike, other_M: ArrayLike
) -> Floats:
    """Covariance, over new samples of the same problem, of the coverage estimates of two allocations a and b.

    Both estimates use the same samples. Unbiased: Π_j miss(a_j)·miss(b_j) - Π_j miss(a_j + b_j), of which the second
    term estimates the product of the expectations Π_j (1 - p_j)^(a_j + b_j). With a = b it is the sampling variance.
    On one problem it can be negative; only the mean over problems is of use.

    Returns:
        `[P]` covariance of each problem.

    Raises:
        UndefinedError: some a_j + b_j > n_j, for which no unbiased estimator exists.
    """
    a_M, b_M = np.asarray(allocation_M), np.asarray(other_M)
    together_P, _ = _chances_of(num_samples_MP, num_correct_MP, a_M + b_M)
    a_P, _ = _chances_of(num_samples_MP, num_correct_MP, a_M)
    b_P, _ = _chances_of(num_samples_MP, num_correct_MP, b_M)
    return a_P * b_P - together_P


def random_mixture_coverage(num_samples_MP: Ints, num_correct_MP: Ints, weights_M: ArrayLike, budget: int) -> Floats:
    """Chance per problem that `budget` samples solve it, each from a policy drawn at random with these weights.

    Unbiased for 1 - (1 - Σ_j w_j p_j)^budget: the mean of `coverage` over k ~ Multinomial(budget, w), by convolution.

    Args:
        num_samples_MP: `[M, P]` graded samples.
        num_correct_MP: `[M, P]` accepted samples.
        weights_M: `[M]`, not negative; scaled to sum 1.
        budget: samples per problem.

    Returns:
        `[P]` coverage of each problem.

    Raises:
        UndefinedError: a policy with a positive weight, which might be drawn every time, has n_j < budget.
        ValueError: weights that are no distribution.
    """
    weights_M = _shares(weights_M)
    used_M = weights_M > 0
    miss_MPK = miss_table(num_samples_MP[used_M], num_correct_MP[used_M], budget)
    return 1.0 - random_mixture_miss(miss_MPK, weights_M[used_M])


def random_mixture_miss(miss_MPK: Floats, weights_M: ArrayLike) -> Floats:
    """Mean of Π_j miss_j(k_j) over k ~ Multinomial(K - 1, w), for any table of misses: unbiased ones, or a posterior's.

    The counts of a multinomial are independent Poisson counts with means (K - 1)·w_j, given that they sum to K - 1. So
    each policy's row is weighted with its Poisson chances, the rows are convolved, and the entry for K - 1 is divided
    by the chance of that sum, which is what a problem that nobody solves gets. All terms are positive, so no digits
    are lost; what is below 1e-150 counts as 0.

    Args:
        miss_MPK: `[M, P, K]` chance that k samples of a policy all fail on a problem, k = 0 … K - 1.
        weights_M: `[M]`, not negative; scaled to sum 1.

    Returns:
        `[P]` chance that all K - 1 samples fail.
    """
    weights_M = _shares(weights_M)
    num_policies, num_problems, num_ks = miss_MPK.shape
    if len(weights_M) != num_policies:
        raise ValueError(f"{len(weights_M)} weights for {num_policies} policies: give one per policy")
    k_K, mean_M1 = np.arange(num_ks), (num_ks - 1) * weights_M[:, None]
    poisson_MK = np.exp(xlogy(k_K, mean_M1) - gammaln(k_K + 1) - mean_M1)
    missed_P = np.empty(num_problems)
    for block in _blocks(num_problems, _MIXED_PROBLEMS):
        unsolved_1K = np.ones((1, num_ks))
        first_KP, *others_MKP = (
            _flushed(poisson_K[:, None] * np.concatenate([miss_PK[block], unsolved_1K]).T, _NEGLIGIBLE)
            for poisson_K, miss_PK in zip(poisson_MK, miss_MPK, strict=True)
        )
        merged_KP = first_KP
        for other_KP in others_MKP:
            merged_KP = _flushed(_convolved(merged_KP, other_KP), _NEGLIGIBLE)
        missed_P[block] = merged_KP[-1, :-1] / merged_KP[-1, -1]
    return missed_P


def _convolved(left_KP: Floats, right_KP: Floats) -> Floats:
    """Σ_t left[t]·right[s - t] for every s < K and every column."""
    total_KP, term_KP = np.zeros_like(left_KP), np.empty_like(left_KP)
    num_ks = len(left_KP)
    for t, left_P in enumerate(left_KP):
        if left_P.any():
            np.multiply(right_KP[: num_ks - t], left_P, out=term_KP[t:])
            total_KP[t:] += term_KP[t:]
    return total_KP


def _flushed(chances: Floats, least: float) -> Floats:
    chances[chances < least] = 0.0
    return chances


def _shares(weights_M: ArrayLike) -> Floats:
    weights = np.asarray(weights_M, np.float64)
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0) and weights.sum() > 0):
        raise ValueError(f"weights must be finite, 0 or more, and not all 0; got {weights.tolist()}")
    return weights / weights.sum()


def _chances_of(num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike) -> tuple[Floats, Floats]:
    """`[P]` chances that all samples of an allocation fail, and that one is accepted."""
    missed_P, covered_P = np.ones(num_samples_MP.shape[1]), np.zeros(num_samples_MP.shape[1])
    for n_P, c_P, k in zip(num_samples_MP, num_correct_MP, np.asarray(allocation_M).tolist(), strict=True):
        if k != 0:
            miss_P, pass_P = _chances(n_P, c_P, k)
            covered_P += missed_P * pass_P
            missed_P *= miss_P
    return missed_P, np.minimum(covered_P, 1.0)


def _chances(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats]:
    """Chances that all of k samples fail, and that one is accepted, by the shorter of two products.

    miss = Π_{t<few} (1 - many / (n - t)) with few = min(c, k) and many = max(c, k): c and k may change places.
    """
    n, c, k = _counts(num_samples, num_correct, k)
    few_N, many_N, n_N = np.minimum(c, k).ravel(), np.maximum(c, k).ravel(), n.ravel()
    missed_N, passed_N = np.ones(n.size), np.zeros(n.size)
    # Cells with equally long products go together; cells with none are left out.
    order = np.argsort(few_N, kind="stable")
    order = order[np.searchsorted(few_N[order], 1) :]
    for block in _blocks(len(order)):
        cells = order[block]
        missed_N[cells], passed_N[cells] = _product(n_N[cells], few_N[cells], many_N[cells])
    passed_N[n_N - many_N < few_N] = 1.0
    return missed_N.reshape(n.shape), np.minimum(passed_N, 1.0).reshape(n.shape)


def _product(n_N: Floats, few_N: Floats, many_N: Floats) -> tuple[Floats, Floats]:
    """miss and pass@k of a block of cells, several factors at a time."""
    missed_N, passed_N = np.ones(len(n_N)), np.zeros(len(n_N))
    num_factors = int(few_N.max())
    step = max(1, 4 * _CELLS // len(n_N))
    for start in range(0, num_factors, step):
        t_T1 = np.arange(start, min(start + step, num_factors), dtype=np.float64)[:, None]
        left_TN = np.maximum(n_N - t_T1, 1.0)
        accepted_TN = np.where(t_T1 < few_N, many_N, 0.0)
        before_TN = np.empty((len(t_T1) + 1, len(n_N)))
        before_TN[0] = missed_N
        np.divide(np.maximum(left_TN - accepted_TN, 0.0), left_TN, out=before_TN[1:])
        np.multiply.accumulate(before_TN, axis=0, out=before_TN)
        passed_N += (before_TN[:-1] * accepted_TN / left_TN).sum(axis=0)
        missed_N = _flushed(before_TN[-1], _SMALLEST)
        if not missed_N.any():
            break
    return missed_N, passed_N


def _one_by_one(n_N: Floats, c_N: Floats, largest_k: int) -> Generator[tuple[Floats, Floats]]:
    """miss and pass@k for k = 0, 1, …, largest_k, in arrays that the next step overwrites.

    miss(k + 1) = miss(k)·(n - k - c) / (n - k) and pass(k + 1) = pass(k) + miss(k)·c / (n - k).
    """
    missed_N, passed_N = np.ones(len(n_N)), np.zeros(len(n_N))
    left_N, failed_N, share_N = n_N.copy(), n_N - c_N, np.empty(len(n_N))
    yield missed_N, passed_N
    for _ in range(largest_k):
        np.multiply(missed_N, c_N, out=share_N)
        share_N /= left_N
        passed_N += share_N
        missed_N *= failed_N
        missed_N /= left_N  # last, so that nothing is lost where c = 0
        left_N -= 1.0
        failed_N -= 1.0
        yield missed_N, passed_N


def _counts(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The three as floats of one shape, checked."""
    n, c, k = np.broadcast_arrays(*(np.asarray(counts, np.float64) for counts in (num_samples, num_correct, k)))
    wrong = ~((c >= 0) & (c <= n) & (k >= 0)) | (n != np.floor(n)) | (c != np.floor(c)) | (k != np.floor(k))
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"counts need whole 0 ≤ c ≤ n and k ≥ 0; got n = {n.flat[at]:g}, c = {c.flat[at]:g}, k = {k.flat[at]:g}"
        )
    if np.any(k > n):
        at = np.flatnonzero(k > n)[0]
        asked = int(k.flat[at])
        raise UndefinedError(
            f"k = {asked} needs at least {asked} samples everywhere, but one cell has {int(n.flat[at])}: "
            "draw more, or ask about a smaller k"
        )
    return n, c, k


def _blocks(size: int, length: int = _CELLS) -> list[slice]:
    return [slice(start, start + length) for start in range(0, size, length)]
