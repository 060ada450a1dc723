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


def _flushed(chances: Floats, least: float) -> Floats:
    chances[chances < least] = 0.0
    return chances


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
