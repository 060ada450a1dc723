"""Random routing: each of B samples draws its policy independently with fixed weights, as a load balancer would.

How many samples each policy gets is then multinomial, so the coverage is an average over allocations: the best
allocation (`search`) is never worse, and by how much it is better is what fixing the split is worth. Axes: `M`
policies, `P` problems, `K` numbers of samples 0 … B.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import poisson

from ensemble.mixture.interior_point import minimise
from ensemble.mixture.relaxation import Misses
from ensemble.pass_at_k import Floats

_NEGLIGIBLE = 1e-6
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Routing:
    """Weights of a random mixture and what it covers."""

    weights_M: Floats
    """`[M]` chance of each policy at each sample; sums to 1."""
    coverage: float
    """Expected coverage under the beliefs, exact."""
    gap: float
    """How much coverage at the mean solve rates other weights could add at most."""


def best_routing(misses: Misses, num_samples: int) -> Routing:
    """Choose the weights that cover most at the mean solve rates, and value them under the beliefs.

    Args:
        misses: beliefs about solve rates, a `Posterior`.
        num_samples: B per problem, at least 1.
    """
    mean_miss_MP = misses.next_miss(0)
    weights_M = _best_weights(mean_miss_MP, misses.weight_P, num_samples)
    miss_P = weights_M @ mean_miss_MP
    gain_M = num_samples * (1 - mean_miss_MP) @ (miss_P ** (num_samples - 1) * misses.weight_P)
    gap = float(gain_M.max() - gain_M @ weights_M)
    miss_MPK = np.ones((*mean_miss_MP.shape, num_samples + 1))
    for k in range(num_samples):
        miss_MPK[:, :, k + 1] = miss_MPK[:, :, k] * misses.next_miss(k)
    return Routing(weights_M, float(random_coverage(miss_MPK, weights_M) @ misses.weight_P), gap)


def random_coverage(miss_MPK: Floats, weights_M: Floats) -> Floats:
    """`[P]` coverage of K - 1 samples that draw their policies at random: the average over k ~ Multinomial(K - 1, w).

    Coefficient K - 1 of the product over policies of Σ_k Poisson(k; (K - 1) w_j) miss_j(k) x^k, over that of Poisson
    counts alone: independent Poisson counts of a given sum are multinomial. Errors are absolute, about 1e-14.

    Args:
        miss_MPK: `[M, P, K]` chance that k samples of a policy all fail.
        weights_M: `[M]` chance of each policy; sums to 1.
    """
    num_problems, num_samples = miss_MPK.shape[1], miss_MPK.shape[2] - 1
    drawn = [
        (miss_PK, poisson.pmf(np.arange(num_samples + 1), num_samples * w))
        for miss_PK, w in zip(miss_MPK, weights_M, strict=True)
        if w > 0
    ]
    miss_P = np.empty(num_problems)
    for rows in np.array_split(np.arange(num_problems), miss_MPK[0].size // _CELLS_AT_ONCE + 1):
        *others, last_PK = [miss_PK[rows] * pmf_K for miss_PK, pmf_K in drawn]
        product_PK = np.eye(1, num_samples + 1)
        for factor_PK in others:
            product_PK = fftconvolve(product_PK, factor_PK, axes=1)[:, : num_samples + 1]
        miss_P[rows] = (product_PK * last_PK[:, ::-1]).sum(axis=1)
    return np.clip(1 - miss_P / poisson.pmf(num_samples, num_samples), 0, 1)


def _best_weights(miss_MP: Floats, weight_P: Floats, num_samples: int) -> Floats:
    """Weights w that minimise the mean over problems of (Σ_j w_j miss_j)^B, which is convex in w."""
    if len(miss_MP) == 1:
        return np.ones(1)

    def model(weights_M: Floats) -> tuple[Floats, Floats]:
        miss_P = weights_M @ miss_MP
        first_P = num_samples * miss_P ** (num_samples - 1) * weight_P
        second_P = (num_samples - 1) * first_P / miss_P
        return miss_MP @ first_P, (miss_MP * second_P) @ miss_MP.T

    weights_M = minimise(model, np.ones(len(miss_MP)), 1.0)
    weights_M[weights_M < _NEGLIGIBLE] = 0
    return weights_M / weights_M.sum()
