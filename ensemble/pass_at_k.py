"""Unbiased estimators of what k samples solve, from n graded samples of which c were accepted.

Pure functions on arrays; axes `M` policies, `P` problems. No files, no choosing, no intervals. Everything rests on

    miss(n, c, k) = C(n - c, k) / C(n, k),

the chance that k of the n samples, drawn without replacement, all fail (Chen et al. 2021, arXiv 2107.03374, eq. 1).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.errors import EnsembleError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class UndefinedError(EnsembleError):
    """More samples are asked about than were drawn: no unbiased estimator exists."""


def log_miss(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> Floats:
    """Logarithm of the chance that k samples all fail; -inf where that cannot happen.

    Args:
        num_samples: n, of any shape.
        num_correct: c, 0 ≤ c ≤ n, broadcast against n.
        k: samples drawn without replacement, 0 ≤ k ≤ n.

    Returns:
        Array of the broadcast shape: Σ_{t<k} log(1 - c / (n - t)), which loses no digits where c/n is tiny.

    Raises:
        UndefinedError: k > n somewhere.
        ValueError: counts that no experiment gives.
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples, np.float64), np.asarray(num_correct, np.float64))
    if k < 0 or np.any(c < 0) or np.any(c > n):
        raise ValueError(f"counts need 0 ≤ c ≤ n and k ≥ 0; got k = {k}, c up to {c.max()}, n from {n.min()}")
    if n.size and k > n.min():
        raise UndefinedError(f"k = {k} needs at least {k} samples everywhere, but one cell has {int(n.min())}")
    total = np.zeros(n.shape)
    with np.errstate(divide="ignore"):
        for drawn in range(k):
            total += np.log1p(-np.minimum(c / (n - drawn), 1.0))
    return total


def miss(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> Floats:
    """Chance that k samples all fail. Arguments and errors as `log_miss`."""
    return np.exp(log_miss(num_samples, num_correct, k))


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> Floats:
    """Chance that at least one of k samples is accepted. Arguments and errors as `log_miss`."""
    return -np.expm1(log_miss(num_samples, num_correct, k))


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
    allocation = np.asarray(allocation_M)
    total_P = np.zeros(num_samples_MP.shape[1])
    for n_P, c_P, k in zip(num_samples_MP, num_correct_MP, allocation.tolist(), strict=True):
        total_P += log_miss(n_P, c_P, int(k))
    return -np.expm1(total_P)
