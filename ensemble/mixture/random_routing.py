"""Random routing: each of B samples draws its policy independently with fixed weights, as a load balancer does.

The numbers of samples per policy are then multinomial, and coverage is an average over allocations. So the best
allocation (`best_allocation`) is never worse, and the difference is what a fixed split is worth. Weights are chosen
under the same posterior as allocations, since at observed solve rates a lucky policy would get all the weight. Axes:
`M` policies, `J` policies with a positive weight, `C` columns of the posterior, `K` numbers of samples, `F`
frequencies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft
from scipy.optimize import minimize
from scipy.special import gammaln, xlogy

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.optimiser.relaxation import Region, relax
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.statistics.posterior import Posterior

Complexes = NDArray[np.complex128]

_CELLS_AT_ONCE = 2_000_000
"""Largest number of policies × problems × length of the transform in one chunk, which bounds memory."""
_NEGLIGIBLE = 1e-6
"""Weights below this share of the largest are set to 0: the solver leaves traces of useless policies."""
_TOLERANCE = 1e-8
_SURE = 1e-12
"""Chance that all samples fail which counts as none. Chances are known to 1e-15, and noise must decide nothing."""


@dataclass(frozen=True)
class Routing:
    """Weights of a random mixture, with its coverage."""

    weights_M: Floats
    """`[M]` chance that a sample is drawn from each policy; sums to 1."""
    coverage: float
    """Expected coverage under the posterior, exact."""
    gap: float
    """Largest coverage that other weights could add."""


@one_thread()
def best_routing(posterior: Posterior, num_samples: int) -> Routing:
    """Choose the weights w that maximise expected coverage, 1 - mean over problems of E[(Σ_j w_j (1 - p_j))^B].

    B is `num_samples`, at least 1. Coverage is concave in w, so no weights cover more than
    coverage(w) + max_j gradient_j - gradient · w.
    """
    num_policies = len(posterior.a_MC)
    lower_M, upper_M = np.zeros(num_policies, np.int64), np.full(num_policies, num_samples)
    simplex = Region(lower_M, upper_M, np.ones(num_policies), float(num_samples))
    solution = minimize(
        partial(_log_miss, posterior, num_samples),
        _weights(relax(posterior, simplex).k_M),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * num_policies,
        constraints={"type": "eq", "fun": lambda w_M: w_M.sum() - 1, "jac": np.ones_like},
        options={"ftol": _TOLERANCE},
    )
    weights_M = _weights(solution.x)
    last_miss_M = last_miss(posterior, weights_M, num_samples) @ posterior.weight_C
    miss = float(weights_M @ last_miss_M)
    return Routing(weights_M, 1 - miss, max(0.0, num_samples * (miss - float(last_miss_M.min()))))


def last_miss(posterior: Posterior, weights_M: Floats, num_samples: int) -> Floats:
    """Return the chance that B samples all fail, the last from each given policy and the others random, `[M, P]`.

    Its average over policies with the weights is the chance that B random samples fail, and B times it is the gradient
    of that chance in the weights.

    Independent Poisson counts of a given sum are multinomial. So the mean over k ~ Multinomial(B - 1, w) is the
    coefficient of x^(B - 1) in the product over policies of Σ_k Poisson(k; (B - 1) w_j) miss_j(k) x^k, divided by that
    of the Poisson counts alone. It is read off the product's Fourier transform, whose length keeps what wraps around
    below rounding noise. Errors are absolute, of the order of 1e-15.
    """
    num_others = num_samples - 1
    length = 2 * next_fast_len(max(32, num_samples), real=True)
    frequency_F = np.arange(length // 2 + 1)
    twice_F = np.where((frequency_F == 0) | (frequency_F == length // 2), 1, 2)
    coefficient_F = np.exp(2j * np.pi * frequency_F * num_others / length) * twice_F / length
    drawn_J = np.flatnonzero(weights_M > 0)
    pmf_J1K = _poisson(np.arange(num_samples), num_others * weights_M[drawn_J, None, None])

    num_columns = len(posterior.weight_C)
    last_miss_MC = np.empty((len(weights_M), num_columns))
    num_chunks = min(num_columns, len(drawn_J) * num_columns * length // _CELLS_AT_ONCE + 1)
    for rows in np.array_split(np.arange(num_columns), num_chunks):
        miss_MCK = _miss(posterior.a_MC[:, rows], posterior.b_MC[:, rows], num_samples)
        drawn_JCF = rfft(miss_MCK[drawn_J, :, :-1] * pmf_J1K, length)
        with_last_JCF = rfft(miss_MCK[drawn_J, :, 1:] * pmf_J1K, length)
        all_C = (drawn_JCF.prod(axis=0) @ coefficient_F).real
        last_miss_MC[:, rows] = miss_MCK[:, :, 1] * all_C
        for j, others_CF, last_CF in zip(drawn_J, _products_of_others(drawn_JCF), with_last_JCF, strict=True):
            last_miss_MC[j, rows] = ((others_CF * last_CF) @ coefficient_F).real
    return np.clip(last_miss_MC / _poisson(np.array([num_others]), np.array([float(num_others)])), 0, 1)


def _poisson(count_K: Ints, mean: Floats) -> Floats:
    """Return the chance of a Poisson count. (Importing `scipy.stats` takes longer than all that is computed here.)"""
    return np.exp(xlogy(count_K, mean) - mean - gammaln(count_K + 1))


def _products_of_others(factors_JCF: Complexes) -> Iterator[Complexes]:
    """Yield for each factor the product of all others, without dividing, since a factor may be 0."""
    after = [np.ones_like(factors_JCF[0])]
    for factor_CF in factors_JCF[:0:-1]:
        after.append(after[-1] * factor_CF)
    before_CF = np.ones_like(factors_JCF[0])
    for factor_CF in factors_JCF:
        yield before_CF * after.pop()
        before_CF = before_CF * factor_CF


def _log_miss(posterior: Posterior, num_samples: int, weights_M: Floats) -> tuple[float, Floats]:
    """Return the log chance that all samples fail, and its gradient in the weights.

    The solver works on the logarithm, whose curvature stays moderate even where nearly everything is solved. Where all
    is solved for sure, the logarithm is flat instead of minus infinity, and weights stay as they are.
    """
    weights_M = _weights(weights_M)
    last_miss_M = last_miss(posterior, weights_M, num_samples) @ posterior.weight_C
    miss = float(weights_M @ last_miss_M)
    return float(np.log(miss + _SURE)), num_samples * last_miss_M / (miss + _SURE)


def _weights(share_M: Floats) -> Floats:
    """Return weights of sum 1, none of them negative or negligible."""
    share_M = share_M * (share_M > _NEGLIGIBLE * share_M.max())
    return share_M / share_M.sum()


def _miss(a_MC: Floats, b_MC: Floats, num_samples: int) -> Floats:
    """Return the chance that k samples of a policy all fail for k = 0 … B, `[M, P, K]`."""
    k_K = np.arange(num_samples)
    miss_MCK = np.ones((*a_MC.shape, num_samples + 1))
    np.cumprod((b_MC[..., None] + k_K) / ((a_MC + b_MC)[..., None] + k_K), axis=2, out=miss_MCK[:, :, 1:])
    return miss_MCK
