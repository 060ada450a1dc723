"""The posterior of a policy's mean solve rate on the very problems of a table, in the manner of Bayes@N.

Bayes@N (Hariri et al. 2025, arXiv 2510.04265) gives the solve rate of each problem a uniform prior, so that posterior
mean and variance have a closed form. On hundreds of problems that is a strong belief, though: that half of all samples
are accepted. Here the prior of the rates is Beta(s·m, s·(1 - m)), and its mean m and size s are unknown as well: each
pair on a grid gets the weight that the policy's counts give it. At each pair the closed forms hold, and the posterior
has the moments of their mixture. Nothing is said about other problems. Axes: `P` problems, `U` distinct pairs of
counts, `S` sizes, `G` pairs of the grid, `M` policies, `T` spreads, `X` values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import betaincinv, betaln, expit, logit, ndtr

from alphamix.ensemble.arrays import Floats, Ints

_SIZES = np.geomspace(0.02, 1000, 16)
"""A size far below 1 means that each problem is solved always or never, and a large one that all rates are equal."""
_NUM_MEANS = 41
_TAIL = 1e-6
"""Chance that m lies beyond either end of the grid."""
_LEAST_SPREAD, _MOST_SPREAD, _NUM_SPREADS = 0.05, 0.5, 40
"""Grid of the spread τ of policies: from a share of the least standard deviation, up to all rates that there are."""
_NEGLIGIBLE = 1e-4
"""Weight of a spread below which it is left out."""
_REACH = 6.0
"""Standard deviations around the means within which policies are compared."""
_NUM_VALUES = 801
_SMALLEST = 1e-300
"""Least chance, whose logarithm is finite."""


@dataclass(frozen=True, slots=True)
class MeanRate:
    """Belief about the mean of one policy's solve rates over the problems of a table: the Beta of these moments."""

    mean: float
    stddev: float

    @classmethod
    def of(cls, num_samples_P: Ints, num_correct_P: Ints) -> Self:
        """Return the belief after these counts; n ≥ 1 may differ between problems."""
        (n_U, c_U), times_U = np.unique([num_samples_P, num_correct_P], axis=1, return_counts=True)
        a_G, b_G, log_weight_G = _grid(n_U, c_U, times_U)
        a_UG, b_UG = a_G + c_U[:, None], b_G + (n_U - c_U)[:, None]
        log_weight_G = log_weight_G + times_U @ (betaln(a_UG, b_UG) - betaln(a_G, b_G))
        weight_G = np.exp(log_weight_G - log_weight_G.max())
        weight_G /= weight_G.sum()
        size_UG, share_U = a_UG + b_UG, times_U / times_U.sum()
        mean_G = share_U @ (a_UG / size_UG)
        variance_G = share_U @ (a_UG * b_UG / (size_UG**2 * (size_UG + 1))) / times_U.sum()
        mean = float(weight_G @ mean_G)
        return cls(mean, float(np.sqrt(weight_G @ (variance_G + (mean_G - mean) ** 2))))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the credible interval with equal tails."""
        tail = (1 - level) / 2
        size = self.mean * (1 - self.mean) / self.stddev**2 - 1
        low, high = betaincinv(self.mean * size, (1 - self.mean) * size, [tail, 1 - tail]).tolist()
        return low, high


def chances_first(rates_M: Sequence[MeanRate]) -> Floats:
    """Return the chance that each policy has the highest mean on these problems, `[M]`; they sum to 1.

    Policies of one kind tend to be close to each other, and where all are, the luckiest looks best. So before they are
    compared, means are taken as normal around a common one, with a spread τ that the means themselves tell: beliefs
    then move towards each other as far as chance may explain that they differ. The prior of τ is flat.
    """
    mean_M = np.array([rate.mean for rate in rates_M])
    variance_M = np.array([rate.stddev for rate in rates_M]) ** 2
    tau_T = np.geomspace(_LEAST_SPREAD * np.sqrt(variance_M.min()), _MOST_SPREAD, _NUM_SPREADS)
    weight_T, mean_TM = _pooled(mean_M, variance_M, tau_T)
    stddev_TM = np.sqrt(1 / (1 / variance_M + 1 / tau_T[:, None] ** 2))
    first_M = np.zeros(len(mean_M))
    for weight, pooled_M, stddev_M in zip(weight_T, mean_TM, stddev_TM, strict=True):
        if weight > _NEGLIGIBLE:
            first_M += weight * _first_of_normals(pooled_M, stddev_M)
    return first_M / first_M.sum()


def _pooled(mean_M: Floats, variance_M: Floats, tau_T: Floats) -> tuple[Floats, Floats]:
    """Return the weight of each spread, `[T]`, and the mean of each policy given the spread, `[T, M]`."""
    precision_TM = 1 / (variance_M + tau_T[:, None] ** 2)
    total_T = precision_TM.sum(axis=1)
    common_T1 = (precision_TM @ mean_M / total_T)[:, None]
    squares_T = (precision_TM * (mean_M - common_T1) ** 2).sum(axis=1)
    # The last term is the spacing of a grid that is even on the log scale.
    log_weight_T = 0.5 * (np.log(precision_TM).sum(axis=1) - squares_T - np.log(total_T)) + np.log(tau_T)
    weight_T = np.exp(log_weight_T - log_weight_T.max())
    shrunk_TM = common_T1 + tau_T[:, None] ** 2 * precision_TM * (mean_M - common_T1)
    return weight_T / weight_T.sum(), shrunk_TM


def _first_of_normals(mean_M: Floats, stddev_M: Floats) -> Floats:
    """Return the chance that each of several independent normal variables is the largest, `[M]`."""
    value_X = np.linspace((mean_M - _REACH * stddev_M).min(), (mean_M + _REACH * stddev_M).max(), _NUM_VALUES)
    below_MX = ndtr((value_X - mean_M[:, None]) / stddev_M[:, None])
    log_below_MX = np.log(np.maximum((below_MX[:, 1:] + below_MX[:, :-1]) / 2, _SMALLEST))
    others_MX = np.exp(log_below_MX.sum(axis=0) - log_below_MX)
    return (np.diff(below_MX, axis=1) * others_MX).sum(axis=1)


def _grid(n_U: Ints, c_U: Ints, times_U: Ints) -> tuple[Floats, Floats, Floats]:
    """Return both shapes of the prior at each pair and the log of the pair's weight, `[G]` each.

    Sizes are evenly spaced on the log scale. The means of each size reach as far as counts can leave them open if the
    rates are spread like that; they have Jeffreys' prior, times the spacing. With one sample everywhere the counts
    tell nothing about the size, so the one under which they tell least about the mean is taken.
    """
    size_S1 = (_SIZES if n_U.max() > 1 else _SIZES[-1:])[:, None]
    solved, num_problems = c_U / n_U @ times_U, times_U.sum()
    telling_S1 = (n_U * (size_S1 + 1) / (n_U + size_S1) @ times_U)[:, None] / num_problems
    shapes = telling_S1 * solved + 0.5, telling_S1 * (num_problems - solved) + 0.5
    low_S1, high_S1 = (logit(betaincinv(*shapes, tail)) for tail in (_TAIL, 1 - _TAIL))
    mean_SG = expit(low_S1 + (high_S1 - low_S1) * np.linspace(0, 1, _NUM_MEANS))
    log_weight_SG = 0.5 * np.log(mean_SG * (1 - mean_SG)) + np.log(high_S1 - low_S1)
    return (size_S1 * mean_SG).ravel(), (size_S1 * (1 - mean_SG)).ravel(), log_weight_SG.ravel()
