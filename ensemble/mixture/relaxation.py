"""How much could any allocation cover? A proven upper bound from the relaxation to real numbers of samples.

What is maximised is coverage with log misses interpolated linearly between whole numbers. It equals coverage at whole
numbers, it is concave (each log miss is convex in k, and exp of a sum of convex functions is convex), and it lies
below the coverage that real k would have, so its bound is tighter. The bound does not trust the solver: with
supergradient g at any point k*,

    coverage(k) ≤ coverage(k*) + g · (k - k*)    for every k,

and the right side is maximised exactly over the region (a fractional knapsack). A bad k* gives a loose bound, never a
wrong one. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.interior_point import minimise

_RECENTRINGS = 8
_TOLERANCE = 1e-9


class Misses(Protocol):
    """Chances that k samples of one policy all fail, log-convex in k, independent between policies (`Posterior`)."""

    @property
    def weight_P(self) -> Floats:
        """`[P]` weights of the problems, of sum 1."""
        ...

    def log_miss(self, k_M: ArrayLike) -> Floats:
        """`[M, P]` logarithm of the chance that k samples all fail; k real, one per policy or one for all."""
        ...

    def next_miss(self, k_M: ArrayLike) -> Floats:
        """`[M, P]` chance that one more sample fails when k have failed."""
        ...


@dataclass(frozen=True)
class Region:
    """Allocations to choose from: lower ≤ k ≤ upper, Σ cost_j k_j ≤ total, and no fewer policies than asked for."""

    lower_M: Ints
    upper_M: Ints
    cost_M: Floats
    total: float
    min_policies: int = 1
    spend_all: bool = False
    """Whether Σ cost_j k_j = total is asked for, as it is of budgets in samples."""

    @property
    def is_empty(self) -> bool:
        """Whether no whole numbers meet all conditions."""
        open_M = (self.lower_M == 0) & (self.upper_M > 0)
        needed = max(0, self.min_policies - int((self.lower_M > 0).sum()))
        cheapest = self.left(self.lower_M) - float(np.sort(self.cost_M[open_M])[:needed].sum())
        unspent = self.left(self.upper_M) if self.spend_all else 0.0
        return bool((self.lower_M > self.upper_M).any() or needed > open_M.sum() or cheapest < 0 or unspent > 0)

    def left(self, k_M: Ints) -> float:
        """Budget that an allocation leaves, rounding noise taken off."""
        left = self.total - float(self.cost_M @ k_M)
        return 0.0 if abs(left) <= 1e-9 * self.total else left

    def best_value(self, gain_MN: Floats) -> Floats:
        """`[N]` max of gain · k over real k in the region, for each of N gains ≥ 0: best gain per cost first."""
        order_MN = np.argsort(-gain_MN / self.cost_M[:, None], axis=0, kind="stable")
        room_MN = ((self.upper_M - self.lower_M) * self.cost_M)[order_MN]
        before_MN = np.cumsum(room_MN, axis=0) - room_MN
        spent_MN = np.clip(self.total - self.cost_M @ self.lower_M - before_MN, 0, room_MN)
        per_cost_MN = np.take_along_axis(gain_MN / self.cost_M[:, None], order_MN, axis=0)
        return self.lower_M @ gain_MN + (spent_MN * per_cost_MN).sum(axis=0)


@dataclass(frozen=True)
class Relaxed:
    """A real point near the best of a region, and what no point of the region can exceed."""

    k_M: Floats
    upper_bound: float


def relax(misses: Misses, region: Region, centre_M: Ints | None = None) -> Relaxed:
    """Bound the coverage of all allocations in a region that is not empty.

    Args:
        misses: the objective.
        region: where to look.
        centre_M: `[M]` whole numbers near which the best point lies, if that is known.

    Returns:
        The best point found, and the bound that it proves.
    """
    if region.left(region.upper_M) >= 0:
        return _bounded(misses, region, region.upper_M.astype(np.float64))
    if region.left(region.lower_M) == 0:
        return _bounded(misses, region, region.lower_M.astype(np.float64))
    found: list[Relaxed] = []
    if centre_M is None or region.left(np.maximum(centre_M - 1, region.lower_M)) <= 0:
        smooth = _bounded(misses, region, _smooth_optimum(misses, region))
        if smooth.upper_bound - _coverage(misses, smooth.k_M) <= _TOLERANCE:
            return smooth
        found.append(smooth)
        centre_M = np.rint(smooth.k_M).astype(np.int64)
    for _ in range(_RECENTRINGS):
        centre_M = np.clip(centre_M, region.lower_M, region.upper_M)
        k_M = _optimum_around(misses, region, centre_M)
        found.append(_bounded(misses, region, k_M))
        at_edge_M = (np.abs(k_M - centre_M) > 1 - 1e-6) & (k_M > region.lower_M) & (k_M < region.upper_M)
        if not at_edge_M.any():
            break
        centre_M = np.rint(k_M).astype(np.int64)
    return min(found, key=lambda relaxed: relaxed.upper_bound)


def interpolated_log_miss(misses: Misses, k_M: Floats) -> Floats:
    """`[P]` log chance that all samples fail, interpolated between whole numbers of samples."""
    floor_M = np.floor(k_M)
    slope_MP = np.log(misses.next_miss(floor_M))
    return misses.log_miss(floor_M).sum(axis=0) + (k_M - floor_M) @ slope_MP


def _coverage(misses: Misses, k_M: Floats) -> float:
    return float(-np.expm1(interpolated_log_miss(misses, k_M)) @ misses.weight_P)


def _bounded(misses: Misses, region: Region, k_M: Floats) -> Relaxed:
    """Prove a bound from the supergradients at k.

    Where k_j is whole the supergradient may lie anywhere between the gain of the next sample and that of the last
    one. Those nearest to λ cost_j, for one λ, leave the least to gain; λ is tried wherever that choice changes.
    """
    k_M = np.where(np.abs(k_M - np.rint(k_M)) < 1e-6, np.rint(k_M), k_M)
    log_miss_P = interpolated_log_miss(misses, k_M)
    weight_P = np.exp(log_miss_P) * misses.weight_P
    next_M = -np.log(misses.next_miss(np.floor(k_M))) @ weight_P
    last_M = -np.log(misses.next_miss(np.maximum(np.ceil(k_M) - 1, 0))) @ weight_P
    last_M[k_M == 0] = np.inf
    rate_N = np.concatenate([next_M / region.cost_M, last_M / region.cost_M])
    rate_N = rate_N[np.isfinite(rate_N)]
    gain_MN = np.clip(region.cost_M[:, None] * rate_N, next_M[:, None], last_M[:, None])
    bound_N = -np.expm1(log_miss_P) @ misses.weight_P + region.best_value(gain_MN) - k_M @ gain_MN
    return Relaxed(k_M, min(1.0, float(bound_N.min())))


def _smooth_optimum(misses: Misses, region: Region) -> Floats:
    """Point near the relaxed optimum: log misses at real k, their slopes from differences over one sample."""
    left = region.left(region.lower_M)
    # Twice what the budget allows, so that the budget is met strictly inside the box even with one policy.
    span_M = np.minimum(region.upper_M - region.lower_M, 2 * left / region.cost_M)
    free_M = span_M > 0

    def model(x_M: Floats) -> tuple[Floats, Floats]:
        k_M = region.lower_M.astype(np.float64)
        k_M[free_M] += x_M * span_M[free_M]
        miss_P = np.exp(misses.log_miss(k_M).sum(axis=0)) * misses.weight_P
        slope_MP = np.log(misses.next_miss(np.maximum(k_M - 0.5, 0)))[free_M]
        curvature_MP = np.log(misses.next_miss(k_M + 0.5))[free_M] - slope_MP
        span_F = span_M[free_M]
        gradient_F = slope_MP @ miss_P * span_F
        hessian_FF = ((slope_MP * miss_P) @ slope_MP.T + np.diag(curvature_MP @ miss_P)) * np.outer(span_F, span_F)
        return gradient_F, hessian_FF

    k_M = region.lower_M.astype(np.float64)
    k_M[free_M] += span_M[free_M] * minimise(model, (region.cost_M * span_M)[free_M], left)
    return k_M


def _optimum_around(misses: Misses, region: Region, centre_M: Ints) -> Floats:
    """Maximise interpolated coverage within one sample of a centre of whole numbers.

    Samples more and samples less are two variables each in [0, 1]; log misses are then linear. A last variable is
    budget left unspent.
    """
    base_P = np.exp(misses.log_miss(centre_M).sum(axis=0)) * misses.weight_P
    more_M, less_M = centre_M < region.upper_M, centre_M > region.lower_M
    slope_more_MP = np.log(misses.next_miss(centre_M))[more_M]
    slope_less_MP = -np.log(misses.next_miss(np.maximum(centre_M - 1, 0)))[less_M]
    left = region.left(centre_M)
    slope_VP = np.concatenate([slope_more_MP, slope_less_MP, np.zeros((1, len(base_P)))])
    unspent = float(region.cost_M.max()) + max(0.0, left)
    cost_V = np.concatenate([region.cost_M[more_M], -region.cost_M[less_M], [unspent]])

    def model(x_V: Floats) -> tuple[Floats, Floats]:
        miss_P = base_P * np.exp(x_V @ slope_VP)
        return slope_VP @ miss_P, (slope_VP * miss_P) @ slope_VP.T

    x_V = minimise(model, cost_V, left)
    k_M = centre_M.astype(np.float64)
    k_M[more_M] += x_V[: more_M.sum()]
    k_M[less_M] -= x_V[more_M.sum() : -1]
    return k_M
