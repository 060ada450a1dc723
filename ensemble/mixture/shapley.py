"""What each policy adds to the ensemble at a fixed budget.

The value of a set of policies is the expected coverage of its best allocation, under the posterior and with no limit on
samples, so that every set has a value. Two numbers follow. The *marginal contribution* of a policy is what is lost
without it, when its samples are spent as well as possible on the others. Its *Shapley value* is the marginal
contribution averaged over all orders in which policies can join. Each of two identical policies has a marginal
contribution of 0, and a Shapley value of half of what the two add. Axes: `M` policies, `O` orders.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import permutations
from math import factorial

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.statistics.posterior import Posterior

_MAX_ORDERS = 5040
"""Orders of 7 policies. These have only 127 sets to solve, so all orders are taken; of more policies some are drawn."""
_DRAWN_ORDERS = 20
"""Orders that are drawn; each is taken forwards and backwards, since what one overstates the other understates."""
_MARGINAL_COLUMNS = 3000
"""Columns of the posterior that marginal contributions are computed on."""
_COLUMNS = 500
"""Columns of the posterior that the Shapley values are computed on: hundreds of sets are solved for them."""


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
    num_policies = len(budget.cost_M)
    everyone = frozenset(range(num_policies))
    posterior = posterior.thinned(_MARGINAL_COLUMNS)
    whole = _value(posterior, budget, everyone)
    marginal_M = [whole - _value(posterior, budget, everyone - {m}) for m in range(num_policies)]
    shapley_M, stderr_M = _shapley(posterior.thinned(_COLUMNS), budget)
    # Without branch and bound, a larger set can come out worse by a trace, which is no loss.
    return [
        Contribution(max(0.0, marginal), shapley, stderr)
        for marginal, shapley, stderr in zip(marginal_M, shapley_M.tolist(), stderr_M.tolist(), strict=True)
    ]


def _value(posterior: Posterior, budget: Budget, members: frozenset[int]) -> float:
    """Return the expected coverage of the best allocation over some policies."""
    rows = sorted(members)
    if not rows or budget.total < budget.cost_M[rows].min():
        return 0.0
    subset = replace(posterior, a_MC=posterior.a_MC[rows], b_MC=posterior.b_MC[rows])
    return best_allocation(subset, budget.reordered(rows), max_nodes=0).certificate.objective


def _shapley(posterior: Posterior, budget: Budget) -> tuple[Floats, Floats]:
    """Return Shapley values and their standard errors, `[M]` each."""
    num_policies = len(budget.cost_M)
    value = cache(partial(_value, posterior, budget))
    if factorial(num_policies) <= _MAX_ORDERS:
        added_OM = np.array([_added(order, value) for order in permutations(range(num_policies))])
        return added_OM.mean(axis=0), np.zeros(num_policies)
    rng = np.random.default_rng(0)
    orders = [tuple(rng.permutation(num_policies).tolist()) for _ in range(_DRAWN_ORDERS)]
    added_OM = np.array([(_added(order, value) + _added(order[::-1], value)) / 2 for order in orders])
    return added_OM.mean(axis=0), added_OM.std(axis=0, ddof=1) / np.sqrt(len(orders))


def _added(order: tuple[int, ...], value: Callable[[frozenset[int]], float]) -> Floats:
    """Return what each policy adds when it joins those before it, `[M]`."""
    added_M = np.empty(len(order))
    added_M[list(order)] = np.diff([value(frozenset(order[:size])) for size in range(len(order) + 1)])
    return added_M
