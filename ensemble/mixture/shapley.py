"""What each policy adds to the ensemble at a fixed budget.

The value of a set of policies is the expected coverage of a good allocation, under the posterior and with no limit on
samples, so that every set has a value. Two numbers follow. The *marginal contribution* of a policy is what is lost
without it, when its samples are spent as well as possible on the others. Its *Shapley value* is the marginal
contribution averaged over all orders in which policies can join. Each of two identical policies has a marginal
contribution of 0, and a Shapley value of half of what the two add.

In a random order, the policies before j are a random set without it. So its Shapley value is also the mean over sizes s
of

    (mean value of the sets of size s + 1 with j) - (mean value of the sets of size s without j),

in which the value of one set serves all policies (Kolpaczki et al. 2024, arXiv 2302.00736). Values vary most between
small sets, and of those there are few, so all are solved. Of each larger size, those sets are solved that are
neighbours on a circle of policies in random order: every policy is then in equally many, and the Shapley values sum to
the value of all policies together, whatever was drawn. A policy should not be credited with the strong neighbours that
it happened to have, so its two means are those of a least-squares fit of the values by the members. Where all sets are
solved, they are the plain means. Axes: `M` policies, `N` sets of one size, `S` sizes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import good_allocation
from alphamix.ensemble.statistics.posterior import Posterior

_ALL_SETS = 70
"""Largest number of sets of one size that are all solved; with it, 8 policies have exact Shapley values."""
_CIRCLES = 2
_SIZE_STEP = 1.25
"""Ratio of neighbouring sizes that are solved. Between them, means change so slowly that they are interpolated."""
_MARGINAL_COLUMNS = 3000
"""Columns of the posterior that marginal contributions are computed on."""
_COLUMNS = 500
"""Columns of the posterior that the Shapley values are computed on: hundreds of sets are solved for them."""

Value = Callable[[Bools], float]
"""Function that returns the value of a set of policies, given as `[M]` whether each is a member."""


@dataclass(frozen=True)
class Contribution:
    """Contribution of one policy, in coverage."""

    marginal: float
    shapley: float
    shapley_stderr: float
    """Standard error from drawing sets, pooled over policies; 0 where all sets were solved."""


def contributions(posterior: Posterior, budget: Budget) -> list[Contribution]:
    """Return the marginal contribution and the Shapley value of each policy, in the posterior's order.

    Shapley values sum to the value of all policies together.
    """
    value = _value_under(posterior.thinned(_MARGINAL_COLUMNS), budget)
    everyone_M = np.ones(len(budget.cost_M), np.bool_)
    whole = value(everyone_M)
    marginal_M = [whole - value(everyone_M & ~left_out_M) for left_out_M in np.eye(len(everyone_M), dtype=np.bool_)]
    shapley_M, stderr = shapley_values(_value_under(posterior.thinned(_COLUMNS), budget), len(everyone_M))
    # The search proves nothing, so a larger set can come out worse by a trace, which is no loss.
    return [
        Contribution(max(0.0, marginal), shapley, stderr)
        for marginal, shapley in zip(marginal_M, shapley_M.tolist(), strict=True)
    ]


def _value_under(posterior: Posterior, budget: Budget) -> Value:
    is_affordable_M = budget.cost_M <= budget.total * (1 + 1e-12)

    def value(member_M: Bools) -> float:
        """Return the expected coverage of a good allocation over some policies."""
        member_M = member_M & is_affordable_M
        if not member_M.any():
            return 0.0
        return good_allocation(posterior.of_policies(member_M), replace(budget, cost_M=budget.cost_M[member_M]))[1]

    return value


def shapley_values(value: Value, num_policies: int) -> tuple[Floats, float]:
    """Return Shapley values, `[M]`, and their standard error; a set without members must have the value 0."""
    sizes = _sizes(num_policies)
    rng = np.random.default_rng(0)
    share_SS = np.eye(len(sizes))
    joined_S, joining_S = (
        np.array([np.interp(range(first, first + num_policies), sizes, share_S).mean() for share_S in share_SS])
        for first in (1, 0)
    )
    value_M, variance = np.zeros(num_policies), 0.0
    for size, joined, joining in zip(sizes, joined_S, joining_S, strict=True):
        is_exact = comb(num_policies, size) <= _ALL_SETS
        member_NM = _all_sets(num_policies, size) if is_exact else _on_circles(num_policies, size, rng)
        value_N = np.array([value(member_M) for member_M in member_NM])
        slope_M, slope_variance = _slopes(value_N, member_NM)
        # Around the mean of all sets of a size, those with a policy and those without it are a slope apart.
        others = max(1, num_policies - 1)
        per_slope = joined * (num_policies - size) / others + joining * size / others
        value_M += (joined - joining) * value_N.mean() + per_slope * slope_M
        variance += 0.0 if is_exact else per_slope**2 * slope_variance
    return value_M, float(np.sqrt(variance))


def _sizes(num_policies: int) -> list[int]:
    """Return the sizes of sets that are solved: all small ones, then steps, and the largest two."""
    sizes = [0, max(0, num_policies - 1), num_policies]
    size = 1
    while size < num_policies:
        sizes.append(size)
        size = max(size + 1, int(size * _SIZE_STEP))
    return sorted(set(sizes))


def _all_sets(num_policies: int, size: int) -> Bools:
    """Return the members of all sets of one size, `[N, M]`."""
    member_NM = np.zeros((comb(num_policies, size), num_policies), np.bool_)
    for member_M, rows in zip(member_NM, combinations(range(num_policies), size), strict=True):
        member_M[list(rows)] = True
    return member_NM


def _on_circles(num_policies: int, size: int, rng: np.random.Generator) -> Bools:
    """Return the members of all sets of neighbours on two circles of policies in random order, `[N, M]`."""
    place_DM = np.array([rng.permutation(num_policies) for _ in range(_CIRCLES)])
    first_N11 = np.arange(num_policies)[:, None, None]
    return ((place_DM - first_N11) % num_policies < size).reshape(-1, num_policies)


def _slopes(value_N: Floats, member_NM: Bools) -> tuple[Floats, float]:
    """Return what each policy adds to sets of one size in place of another, `[M]`, and the mean variance of that.

    The slopes of least squares sum to 0, since all sets are of one size.
    """
    deviation_NM = member_NM - member_NM.mean(axis=0)
    inverse_MN = np.linalg.pinv(deviation_NM)
    slope_M = inverse_MN @ value_N
    residual_N = value_N - value_N.mean() - deviation_NM @ slope_M
    freedom = max(1, len(value_N) - len(slope_M))
    return slope_M, float(residual_N @ residual_N / freedom * (inverse_MN**2).sum() / len(slope_M))
