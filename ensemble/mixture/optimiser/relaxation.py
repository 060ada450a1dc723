"""A proven upper bound on the coverage of any allocation, from the relaxation to real numbers of samples.

The relaxed objective is coverage with the log miss of each policy interpolated linearly between whole numbers of
samples. At whole numbers it equals coverage. It is concave, since each log miss is convex in k and exp of a sum of
convex functions is convex; and it lies below coverage at real k, so its bound is the tighter one. The bound does not
depend on how well the solver did: with a supergradient g at any point k*,

    coverage(k) ≤ coverage(k*) + g · (k - k*)    for every k,

and the right side is maximised exactly over the region (a fractional knapsack). A bad k* gives a loose bound, never a
wrong one. Axes: `M` policies, `F` policies with room for more samples, `C` columns of the posterior, `N` gradients, `V`
variables of the solver.
"""

from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.optimiser.interior_point import FULL_PRECISION, minimise
from alphamix.ensemble.statistics.posterior import Posterior

_RECENTRINGS = 8
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Region:
    """All k with lower ≤ k ≤ upper, Σ cost_j k_j ≤ total, and at least `min_policies` policies with k_j > 0."""

    lower_M: Ints
    upper_M: Ints
    cost_M: Floats
    total: float
    min_policies: int = 1
    spend_all: bool = False
    """Whether Σ cost_j k_j must equal the total, as it must for budgets in samples."""

    @property
    def is_empty(self) -> bool:
        """Whether no allocation meets all conditions."""
        open_M = (self.lower_M == 0) & (self.upper_M > 0)
        needed = max(0, self.min_policies - int((self.lower_M > 0).sum()))
        cheapest = self.left(self.lower_M) - float(np.sort(self.cost_M[open_M])[:needed].sum())
        unspent = self.left(self.upper_M) if self.spend_all else 0.0
        return bool((self.lower_M > self.upper_M).any() or needed > open_M.sum() or cheapest < 0 or unspent > 0)

    def left(self, k_M: Ints) -> float:
        """Return the budget that an allocation leaves unspent."""
        # Costs are sums of floats, so a rest within 1e-9 of the total is rounding noise. Kept, it would stop a full
        # allocation from counting as full.
        left = self.total - float(self.cost_M @ k_M)
        return 0.0 if abs(left) <= 1e-9 * self.total else left

    def best_value(self, gain_MN: Floats) -> Floats:
        """Return max gain · k over real k in the region for each of N gains ≥ 0, `[N]`.

        This is a fractional knapsack, so filling by the best gain per cost is optimal.
        """
        order_MN = np.argsort(-gain_MN / self.cost_M[:, None], axis=0, kind="stable")
        room_MN = ((self.upper_M - self.lower_M) * self.cost_M)[order_MN]
        before_MN = np.cumsum(room_MN, axis=0) - room_MN
        spent_MN = np.clip(self.total - self.cost_M @ self.lower_M - before_MN, 0, room_MN)
        per_cost_MN = np.take_along_axis(gain_MN / self.cost_M[:, None], order_MN, axis=0)
        return self.lower_M @ gain_MN + (spent_MN * per_cost_MN).sum(axis=0)


@dataclass(frozen=True)
class Relaxed:
    """A real point near the best of a region, and a bound on the coverage of every point in it."""

    k_M: Floats
    """`[M]` real numbers of samples."""
    upper_bound: float
    """Coverage that no allocation in the region exceeds."""


def relax(posterior: Posterior, region: Region, centre_M: Ints | None = None) -> Relaxed:
    """Bound the coverage of all allocations in a region that is not empty.

    The search starts at `centre_M`, whole numbers near the best point, if they are known. The result is the point with
    the lowest bound.
    """
    if region.left(region.upper_M) >= 0:
        return _bounded(posterior, region, region.upper_M.astype(np.float64))
    if region.left(region.lower_M) == 0:
        return _bounded(posterior, region, region.lower_M.astype(np.float64))
    candidates: list[Relaxed] = []
    if centre_M is None or region.left(np.maximum(centre_M - 1, region.lower_M)) <= 0:
        smooth = _bounded(posterior, region, smooth_optimum(posterior, region))
        covered = -np.expm1(interpolated_log_miss(posterior, smooth.k_M)) @ posterior.weight_C
        if smooth.upper_bound - float(covered) <= _TOLERANCE:
            return smooth
        candidates.append(smooth)
        centre_M = np.rint(smooth.k_M).astype(np.int64)
    # Interpolated log misses have kinks at whole numbers, where Newton steps do not apply. So the solver works within
    # one sample of a centre, where they are linear, and the centre moves until the optimum is not at an edge.
    for _ in range(_RECENTRINGS):
        centre_M = np.clip(centre_M, region.lower_M, region.upper_M)
        k_M = _optimum_around(posterior, region, centre_M)
        candidates.append(_bounded(posterior, region, k_M))
        at_edge_M = (np.abs(k_M - centre_M) > 1 - 1e-6) & (k_M > region.lower_M) & (k_M < region.upper_M)
        if not at_edge_M.any():
            break
        centre_M = np.rint(k_M).astype(np.int64)
    return min(candidates, key=lambda relaxed: relaxed.upper_bound)


def interpolated_log_miss(posterior: Posterior, k_M: Floats) -> Floats:
    """Return the log chance that all samples fail, interpolated between whole numbers of samples, `[P]`."""
    floor_M = np.floor(k_M)
    slope_MC = np.log(posterior.next_miss(floor_M))
    return posterior.log_miss_of_all(floor_M) + (k_M - floor_M) @ slope_MC


def _bounded(posterior: Posterior, region: Region, k_M: Floats) -> Relaxed:
    """Prove a bound from the supergradients at k.

    Where k_j is whole, any value between the gain of the next sample and that of the last one is a supergradient. The
    lowest bound has all components as near as possible to λ·cost_j for one λ, so every λ at which that choice changes
    is tried.
    """
    # The solver stays strictly inside its box, so components that should be whole are slightly off.
    k_M = np.where(np.abs(k_M - np.rint(k_M)) < 1e-6, np.rint(k_M), k_M)
    log_miss_C = interpolated_log_miss(posterior, k_M)
    weight_C = np.exp(log_miss_C) * posterior.weight_C
    next_M = -np.log(posterior.next_miss(np.floor(k_M))) @ weight_C
    last_M = -np.log(posterior.next_miss(np.maximum(np.ceil(k_M) - 1, 0))) @ weight_C
    last_M[k_M == 0] = np.inf
    rate_N = np.concatenate([next_M / region.cost_M, last_M / region.cost_M])
    rate_N = rate_N[np.isfinite(rate_N)]
    gain_MN = np.clip(region.cost_M[:, None] * rate_N, next_M[:, None], last_M[:, None])
    bound_N = -np.expm1(log_miss_C) @ posterior.weight_C + region.best_value(gain_MN) - k_M @ gain_MN
    return Relaxed(k_M, min(1.0, float(bound_N.min())))


def smooth_optimum(posterior: Posterior, region: Region, complementarity: float = FULL_PRECISION) -> Floats:
    """Return a point near the relaxed optimum, from log misses at real k and slopes over one sample.

    The budget must be neither spent at the lower limits nor enough for the upper ones.
    """
    left = region.left(region.lower_M)
    # The box is twice what the budget allows, so that even one policy alone meets the budget strictly inside it.
    span_M = np.minimum(region.upper_M - region.lower_M, 2 * left / region.cost_M)
    free_M = span_M > 0
    free = posterior.of_policies(free_M)

    def derivatives(x_M: Floats) -> tuple[Floats, Floats]:
        k_M = region.lower_M.astype(np.float64)
        k_M[free_M] += x_M * span_M[free_M]
        miss_C = np.exp(posterior.log_miss_of_all(k_M)) * posterior.weight_C
        slope_FC = np.log(free.next_miss(np.maximum(k_M[free_M] - 0.5, 0)))
        curvature_FC = np.log(free.next_miss(k_M[free_M] + 0.5)) - slope_FC
        span_F = span_M[free_M]
        gradient_F = slope_FC @ miss_C * span_F
        hessian_FF = ((slope_FC * miss_C) @ slope_FC.T + np.diag(curvature_FC @ miss_C)) * np.outer(span_F, span_F)
        return gradient_F, hessian_FF

    k_M = region.lower_M.astype(np.float64)
    k_M[free_M] += span_M[free_M] * minimise(derivatives, (region.cost_M * span_M)[free_M], left, complementarity)
    return k_M


def _optimum_around(posterior: Posterior, region: Region, centre_M: Ints) -> Floats:
    """Maximise interpolated coverage within one sample of a centre of whole numbers.

    Samples added and samples removed are two variables per policy, each in [0, 1], in which log misses are linear. The
    last variable is the unspent budget.
    """
    base_C = np.exp(posterior.log_miss_of_all(centre_M)) * posterior.weight_C
    more_M, less_M = centre_M < region.upper_M, centre_M > region.lower_M
    slope_more_MC = np.log(posterior.next_miss(centre_M))[more_M]
    slope_less_MC = -np.log(posterior.next_miss(np.maximum(centre_M - 1, 0)))[less_M]
    left = region.left(centre_M)
    slope_VC = np.concatenate([slope_more_MC, slope_less_MC, np.zeros((1, len(base_C)))])
    unspent = float(region.cost_M.max()) + max(0.0, left)
    cost_V = np.concatenate([region.cost_M[more_M], -region.cost_M[less_M], [unspent]])

    def derivatives(x_V: Floats) -> tuple[Floats, Floats]:
        miss_C = base_C * np.exp(x_V @ slope_VC)
        return slope_VC @ miss_C, (slope_VC * miss_C) @ slope_VC.T

    x_V = minimise(derivatives, cost_V, left)
    k_M = centre_M.astype(np.float64)
    k_M[more_M] += x_V[: more_M.sum()]
    k_M[less_M] -= x_V[more_M.sum() : -1]
    return k_M
