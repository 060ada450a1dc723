"""What each policy adds to the ensemble at a fixed budget.

The value of a set of policies is the expected coverage of its best allocation, under the posterior and with no limit on
samples, so that every set has a value. Two numbers follow. The *marginal contribution* of a policy is what is lost
without it, when its samples are spent as well as possible on the others. Its *Shapley value* is the marginal
contribution averaged over all orders in which policies can join. Each of two identical policies has a marginal
contribution of 0, and a Shapley value of half of what the two add. Axes: `M` policies, `O` orders.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.statistics.posterior import Posterior

_MAX_ORDERS = 5040
"""Orders of 7 policies. These have only 127 sets to solve, so all orders are taken; of more policies some are drawn."""
_DRAWN_ORDERS = 30


@dataclass(frozen=True)
class Contribution:
    """Contribution of one policy, in coverage."""

    marginal: float
    shapley: float
    shapley_stderr: float
    """Standard error from drawing orders at random; 0 where all orders were taken."""


def contributions(posterior: Posterior, budget: Budget) -> list[Contribution]:
    """Return the marginal contribution and the Shapley value of each policy, in the posterior's order.

    Shapley values sum to the value of all policies together.
    """

    @cache
    def value(members: frozenset[int]) -> float:
        rows = sorted(members)
        if not rows or budget.total < budget.cost_M[rows].min():
            return 0.0
        subset = replace(posterior, a_MC=posterior.a_MC[rows], b_MC=posterior.b_MC[rows])
        subset_budget = replace(budget, cost_M=budget.cost_M[rows])
        return best_allocation(subset, subset_budget, max_nodes=0).certificate.objective

    num_policies = len(budget.cost_M)
    everyone = frozenset(range(num_policies))
    marginal_M = [value(everyone) - value(everyone - {m}) for m in range(num_policies)]
    orders = _orders(num_policies)
    added_OM = np.array([_added(order, value) for order in orders])
    is_exact = len(orders) == factorial(num_policies)
    stderr_M = np.zeros(num_policies) if is_exact else added_OM.std(axis=0, ddof=1) / np.sqrt(len(orders))
    # Without branch and bound, a larger set can come out worse by a trace, which is no loss.
    return [
        Contribution(max(0.0, marginal), shapley, stderr)
        for marginal, shapley, stderr in zip(marginal_M, added_OM.mean(axis=0).tolist(), stderr_M.tolist(), strict=True)
    ]


def _orders(num_policies: int) -> list[tuple[int, ...]]:
    if factorial(num_policies) <= _MAX_ORDERS:
        return list(permutations(range(num_policies)))
    rng = np.random.default_rng(0)
    return [tuple(rng.permutation(num_policies).tolist()) for _ in range(_DRAWN_ORDERS)]


def _added(order: tuple[int, ...], value: Callable[[frozenset[int]], float]) -> Floats:
    """Return what each policy adds when it joins those before it, `[M]`."""
    added_M = np.empty(len(order))
    added_M[list(order)] = np.diff([value(frozenset(order[:size])) for size in range(len(order) + 1)])
    return added_M
