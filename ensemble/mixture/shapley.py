"""What each policy adds to the ensemble at a fixed budget.

The value of a set of policies is the expected coverage of its best allocation, under the posterior and with no limit on
samples, so that every set has a value. Two numbers follow. The *marginal contribution* of a policy is what is lost
without it, when its samples are spent as well as possible on the others. Its *Shapley value* is the marginal
contribution averaged over all orders in which policies can join. Of two identical policies,
each has a marginal contribution of 0, and half of what the two add as its Shapley value.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.statistics.beta_posterior import Posterior

_MAX_ORDERS = 5040
"""Orders of 7 policies. These have only 127 sets to solve, so all orders are taken; of more policies some are drawn."""


@dataclass(frozen=True)
class Contribution:
    """Contribution of one policy, in coverage."""

    marginal: float
    shapley: float
    shapley_stderr: float
    """Standard error from drawing orders at random; 0 where all orders were taken."""


def contributions(posterior: Posterior, budget: Budget, orders: int = 30, seed: int = 0) -> list[Contribution]:
    """Return the marginal contribution and the Shapley value of each policy, in the posterior's order.

    Shapley values sum to the value of all policies together.

    Args:
        posterior: beliefs about solve rates.
        budget: per problem, the same for every set.
        orders: number of orders to draw at random where there are too many to take all (8 policies or more).
        seed: seed of that draw.
    """
    value = _Values(posterior, budget)
    num_policies = len(budget.cost_M)
    everyone = frozenset(range(num_policies))
    marginal_M = [value(everyone) - value(everyone - {m}) for m in range(num_policies)]
    added_OM = np.array([_added(order, value) for order in _orders(num_policies, orders, seed)])
    is_exact = len(added_OM) == factorial(num_policies)
    stderr_M = np.zeros(num_policies) if is_exact else added_OM.std(axis=0, ddof=1) / np.sqrt(len(added_OM))
    rows = zip(marginal_M, added_OM.mean(axis=0).tolist(), stderr_M.tolist(), strict=True)
    # Without branch and bound a larger set can come out worse by a trace, which is no loss.
    return [Contribution(max(0.0, marginal), shapley, stderr) for marginal, shapley, stderr in rows]


class _Values:
    """Values of sets of policies, each computed once."""

    def __init__(self, posterior: Posterior, budget: Budget) -> None:
        self._posterior, self._budget = posterior, budget
        self._known: dict[frozenset[int], float] = {frozenset(): 0.0}

    def __call__(self, members: frozenset[int]) -> float:
        if members not in self._known:
            self._known[members] = self._solve(sorted(members))
        return self._known[members]

    def _solve(self, rows: list[int]) -> float:
        posterior = replace(self._posterior, a_MP=self._posterior.a_MP[rows], b_MP=self._posterior.b_MP[rows])
        budget = replace(self._budget, cost_M=self._budget.cost_M[rows])
        if budget.total < budget.cost_M.min():
            return 0.0
        return best_allocation(posterior, budget, max_nodes=0).certificate.objective


def _orders(num_policies: int, orders: int, seed: int) -> Iterator[tuple[int, ...]]:
    if factorial(num_policies) <= _MAX_ORDERS:
        yield from permutations(range(num_policies))
        return
    rng = np.random.default_rng(seed)
    for _ in range(orders):
        yield tuple(rng.permutation(num_policies).tolist())


def _added(order: tuple[int, ...], value: _Values) -> Floats:
    """Return what each policy adds when it joins those before it, `[M]`."""
    added_M = np.zeros(len(order))
    for position, m in enumerate(order):
        added_M[m] = value(frozenset(order[: position + 1])) - value(frozenset(order[:position]))
    return added_M
