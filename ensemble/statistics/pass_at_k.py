"""Unbiased estimators of what k samples solve, from n graded samples of which c were accepted.

These are pure functions on arrays. They read no files, choose nothing and make no intervals. All of them use

    miss(n, c, k) = C(n - c, k) / C(n, k),

the chance that k of the n samples, drawn without replacement, all fail (Chen et al. 2021, arXiv 2107.03374, eq. 1).
It is computed as a product of min(c, k) ratios of whole numbers, and pass@k = 1 - miss as a sum of positive terms, so
neither loses digits: relative errors stay below 1e-12 up to n = 10⁶. Chances below 2.2e-308, the smallest normal float,
become 0. Axes: `M` policies, `P` problems, `K` values of k, `N` cells, `T` factors of a product.
"""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.errors import EnsembleError

_CELLS = 4096
"""Number of cells processed at a time, so that they stay in the cache of a core."""
_SMALLEST = float(np.finfo(np.float64).tiny)
"""Chances below this become 0: as denormal floats they would lose digits, and slow down a product a hundredfold."""


class UndefinedError(EnsembleError):
    """An estimate needs more samples than were drawn, so no unbiased estimator exists."""


def miss(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Return the chance that k samples, drawn without replacement, all fail.

    Args:
        num_samples: n, of any shape.
        num_correct: c, with 0 ≤ c ≤ n.
        k: with 0 ≤ k ≤ n. All three are broadcast, and the result has the common shape.

    Raises:
        UndefinedError: k > n somewhere.
        ValueError: some counts are impossible.
    """
    return _chances(num_samples, num_correct, k)[0]


def log_miss(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Return the logarithm of `miss`, -inf where it is 0. Arguments and errors are those of `miss`."""
    # Near 1, miss has lost the digits that its logarithm needs, but pass@k still has them.
    missed, passed = _chances(num_samples, num_correct, k)
    with np.errstate(divide="ignore"):
        return np.where(passed < 0.5, np.log1p(-passed), np.log(missed))


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> Floats:
    """Return the chance that at least one of k samples is accepted. Arguments and errors are those of `miss`."""
    return _chances(num_samples, num_correct, k)[1]


def pass_at_ks(num_samples: ArrayLike, num_correct: ArrayLike, ks: Sequence[int]) -> Floats:
    """Return pass@k for many k, `[K, …]`, in time proportional to the largest k.

    Raises:
        UndefinedError, ValueError: as in `miss`.
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


def miss_of_each(n_N: Floats, c_N: Floats, k_K: Ints) -> Floats:
    """Return `miss` of each cell for each number of samples, none above any n, `[K, N]`, with absolute errors of 1e-13.

    One product per cell serves all k. It is the fastest way where many k are asked for, and `miss` the most precise.
    """
    t_T1 = np.arange(int(k_K.max(initial=0)), dtype=np.float64)[:, None]
    missed_TN = np.ones((len(t_T1) + 1, len(n_N)))
    np.divide(np.maximum(n_N - c_N - t_T1, 0.0), n_N - t_T1, out=missed_TN[1:])
    np.multiply.accumulate(missed_TN, axis=0, out=missed_TN)
    return missed_TN[k_K]


def coverage(num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike) -> Floats:
    """Return the chance that an allocation solves each problem, `[P]`: 1 - Π_j miss(n_j, c_j, k_j).

    The estimate is unbiased, since policies are sampled independently, and has the least variance of all unbiased ones
    (Lehmann–Scheffé). Pooling the samples of all policies and taking pass@k of the pool would be biased.

    Args:
        num_samples_MP: `[M, P]` graded samples n.
        num_correct_MP: `[M, P]` accepted samples c.
        allocation_M: `[M]` samples k given to each policy.

    Raises:
        UndefinedError: some k_j > n_j.
    """
    return _chances_of(num_samples_MP, num_correct_MP, allocation_M)[1]


def sampling_variance(num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike) -> Floats:
    """Return the variance of `coverage` over new samples of the same problem, estimated without bias, `[P]`.

    The estimate is (Π_j miss(k_j))² - Π_j miss(2·k_j): the second term estimates the squared expectation,
    Π_j (1 - p_j)^(2·k_j). On one problem it can be negative, so only its mean over problems is of use.

    Raises:
        UndefinedError: some 2·k_j > n_j, for which no unbiased estimator exists.
    """
    allocation_M = np.asarray(allocation_M)
    twice_P, _ = _chances_of(num_samples_MP, num_correct_MP, 2 * allocation_M)
    once_P, _ = _chances_of(num_samples_MP, num_correct_MP, allocation_M)
    return once_P * once_P - twice_P


def _chances_of(num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike) -> tuple[Floats, Floats]:
    """Return the chances that all samples of an allocation fail and that one is accepted, `[P]` each."""
    missed_P, covered_P = np.ones(num_samples_MP.shape[1]), np.zeros(num_samples_MP.shape[1])
    for n_P, c_P, k in zip(num_samples_MP, num_correct_MP, np.asarray(allocation_M).tolist(), strict=True):
        if k != 0:
            miss_P, pass_P = _chances(n_P, c_P, k)
            covered_P += missed_P * pass_P
            missed_P *= miss_P
    return missed_P, np.minimum(covered_P, 1.0)


def _chances(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats]:
    """Return the chances that all of k samples fail and that one is accepted, by the shorter of two products.

    Since miss is symmetric in c and k, it is Π_{t<few} (1 - many / (n - t)), few = min(c, k) and many = max(c, k).
    """
    n, c, k = _counts(num_samples, num_correct, k)
    few_N, many_N, n_N = np.minimum(c, k).ravel(), np.maximum(c, k).ravel(), n.ravel()
    missed_N, passed_N = np.ones(n.size), np.zeros(n.size)
    # Cells with products of similar length are processed together, and those without any factor are left out.
    order = np.argsort(few_N, kind="stable")
    order = order[np.searchsorted(few_N[order], 1) :]
    for block in _blocks(len(order)):
        cells = order[block]
        missed_N[cells], passed_N[cells] = _product(n_N[cells], few_N[cells], many_N[cells])
    passed_N[n_N - many_N < few_N] = 1.0
    return missed_N.reshape(n.shape), np.minimum(passed_N, 1.0).reshape(n.shape)


def _product(n_N: Floats, few_N: Floats, many_N: Floats) -> tuple[Floats, Floats]:
    """Return miss and pass@k of a block of cells, computed several factors at a time."""
    missed_N, passed_N = np.ones(len(n_N)), np.zeros(len(n_N))
    num_factors = int(few_N.max())
    step = max(1, 4 * _CELLS // len(n_N))
    for start in range(0, num_factors, step):
        t_T1 = np.arange(start, min(start + step, num_factors), dtype=np.float64)[:, None]
        # Shorter products are padded with factors of 1, whose divisor must not reach 0.
        left_TN = np.maximum(n_N - t_T1, 1.0)
        accepted_TN = np.where(t_T1 < few_N, many_N, 0.0)
        before_TN = np.empty((len(t_T1) + 1, len(n_N)))
        before_TN[0] = missed_N
        np.divide(np.maximum(left_TN - accepted_TN, 0.0), left_TN, out=before_TN[1:])
        np.multiply.accumulate(before_TN, axis=0, out=before_TN)
        passed_N += (before_TN[:-1] * accepted_TN / left_TN).sum(axis=0)
        missed_N = before_TN[-1]
        missed_N[missed_N < _SMALLEST] = 0.0
        if not missed_N.any():
            break
    return missed_N, passed_N


def _one_by_one(n_N: Floats, c_N: Floats, largest_k: int) -> Generator[tuple[Floats, Floats]]:
    """Yield miss and pass@k for k = 0, 1, …, largest_k, in arrays that the next step overwrites.

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
        missed_N /= left_N  # after the product, so that miss stays exactly 1 where c = 0
        left_N -= 1.0
        failed_N -= 1.0
        yield missed_N, passed_N


def _counts(num_samples: ArrayLike, num_correct: ArrayLike, k: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Check n, c and k, and return them as floats of one shape."""
    n, c, k = np.broadcast_arrays(*(np.asarray(counts, np.float64) for counts in (num_samples, num_correct, k)))
    wrong = ~((c >= 0) & (c <= n) & (k >= 0)) | (n != np.floor(n)) | (c != np.floor(c)) | (k != np.floor(k))
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"n = {n.flat[at]:g}, c = {c.flat[at]:g} and k = {k.flat[at]:g} are impossible counts: give whole numbers "
            "with 0 ≤ c ≤ n and k ≥ 0"
        )
    if np.any(k > n):
        at = np.flatnonzero(k > n)[0]
        asked = int(k.flat[at])
        raise UndefinedError(
            f"k = {asked} needs at least {asked} samples everywhere, but one cell has {int(n.flat[at])}: "
            "draw more, or choose a smaller k"
        )
    return n, c, k


def _blocks(size: int) -> list[slice]:
    return [slice(start, start + _CELLS) for start in range(0, size, _CELLS)]
