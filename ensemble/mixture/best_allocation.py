"""The best allocation of a budget: whole numbers of samples per policy that cover most under a posterior.

Where all allocations can be listed, they are. Otherwise the relaxation to real numbers is rounded down, filled greedily
and improved by exchange, and branch and bound narrows the gap within a given number of nodes. Either way the
certificate's bound is proven, and the search is deterministic. Axes: `M` policies, `U` policies that can get
samples, `C` columns of the posterior, `N` allocations, `K` distinct numbers of samples.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError, Currency
from alphamix.ensemble.mixture.optimiser.branch_and_bound import CLOSED, branch_and_bound, rounded_down
from alphamix.ensemble.mixture.optimiser.local_search import exchange, fill
from alphamix.ensemble.mixture.optimiser.relaxation import Region, relax, smooth_optimum
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.statistics.posterior import Posterior

Method = Literal["enumerated", "branch-and-bound", "exchange"]

_ENUMERATED_CELLS = 4_000_000
"""Largest number of allocations times problems for which listing all allocations is faster than the search."""
_MAX_NODES = 200
_NODE_CELLS = 10_000_000
"""Largest number of nodes times policies times columns. On large tables the first bound is within 0.0001 points."""
_ROUGH = 1e-6
"""Complementarity at which a relaxed optimum is near enough to be rounded."""


@dataclass(frozen=True)
class Certificate:
    """Proof of how good an allocation is."""

    objective: float
    """Expected coverage of the chosen allocation under the posterior."""
    upper_bound: float
    """Coverage that no allocation within the budget exceeds."""
    is_optimal: bool
    """Whether the search has proved that nothing is better by more than rounding noise, 1e-9."""
    method: Method
    """How it was found: all allocations listed, the search tree closed, or only exchange, which leaves a gap."""

    @property
    def gap(self) -> float:
        """Largest coverage that a better allocation could add."""
        return max(0.0, self.upper_bound - self.objective)


@dataclass(frozen=True)
class Choice:
    """An allocation with its certificate."""

    allocation_M: Ints
    certificate: Certificate


@one_thread()
def best_allocation(posterior: Posterior, budget: Budget, limit_M: Ints | None = None, min_policies: int = 1) -> Choice:
    """Choose the whole numbers k_j that maximise expected coverage within a budget.

    Args:
        posterior: beliefs about solve rates.
        budget: per problem. A budget in samples is spent in full, Σ k_j = total, since pass@k is only compared at equal
            totals; in other currencies Σ cost_j k_j ≤ total.
        limit_M: `[M]` maximum number of samples of each policy, None for no limit. The samples drawn are the limit
            where the choice is to be scored without a model.
        min_policies: minimum number of policies that get a sample.

    Returns:
        The choice. Among allocations that differ by rounding noise, the policy named first gets most.

    Raises:
        BudgetError: no allocation fits.
    """
    region = _region(budget, limit_M, min_policies)
    if (listed := _enumerated(posterior, region)) is not None:
        return listed
    relaxed = relax(posterior, region)
    k_M = exchange(posterior, region, _rounded(posterior, region, relaxed.k_M))
    max_nodes = min(_MAX_NODES, _NODE_CELLS // posterior.a_MC.size)
    k_M, upper_bound = branch_and_bound(posterior, region, relaxed, k_M, max_nodes)
    objective = posterior.coverage(k_M)
    closed = upper_bound - objective <= CLOSED
    return Choice(k_M, Certificate(objective, upper_bound, closed, "branch-and-bound" if closed else "exchange"))


@one_thread()
def good_allocation(
    posterior: Posterior, budget: Budget, limit_M: Ints | None = None, min_policies: int = 1
) -> tuple[Ints, float]:
    """Choose as `best_allocation` does, several times faster and without proof. Return the choice and its coverage.

    Cross-fits, Shapley values and candidates for the next α make hundreds of choices. On real tables these lose less
    than 0.01 points.
    """
    region = _region(budget, limit_M, min_policies)
    if region.left(region.upper_M) >= 0:
        k_M = region.upper_M
    else:
        smooth_M = smooth_optimum(posterior, region, _ROUGH)
        k_M = exchange(posterior, region, _rounded(posterior, region, smooth_M))
    return k_M, posterior.coverage(k_M)


def _region(budget: Budget, limit_M: Ints | None, min_policies: int) -> Region:
    in_samples = budget.currency == "samples"
    wrong = budget.cost_M[~(np.isfinite(budget.cost_M) & (budget.cost_M > 0))]
    if len(wrong):
        raise BudgetError(f"a sample costs {wrong[0]:g} {budget.currency} for some policy: give costs above 0")
    if not np.isfinite(budget.total):
        raise BudgetError(f"a budget of {budget.total:g} {budget.currency} is not an amount: give a finite one")
    total = float(np.floor(budget.total)) if in_samples else budget.total
    affordable_M = np.floor(total / budget.cost_M * (1 + 1e-12)).astype(np.int64)
    upper_M = affordable_M if limit_M is None else np.minimum(affordable_M, limit_M)
    region = Region(np.zeros_like(upper_M), upper_M, budget.cost_M, total, min_policies, in_samples)
    _check_feasible(region, budget.currency, limit_M)
    return region


def _check_feasible(region: Region, currency: Currency, limit_M: Ints | None) -> None:
    total, needed = region.total, region.min_policies
    cheapest_U = np.sort(region.cost_M if limit_M is None else region.cost_M[limit_M > 0])
    if not len(cheapest_U):
        raise BudgetError("no policy has any samples to spend: draw samples first")
    if not total >= cheapest_U[0]:
        raise BudgetError(f"a budget of {total:g} {currency} buys no sample: give at least {cheapest_U[0]:g}")
    if needed > len(cheapest_U):
        raise BudgetError(
            f"a mixture of {needed} policies was asked for, but only {len(cheapest_U)} can get samples: ask for fewer"
        )
    if (least := cheapest_U[:needed].sum()) > total * (1 + 1e-12):
        raise BudgetError(
            f"one sample of each of {needed} policies costs {least:g} {currency}: raise the budget of {total:g}"
        )
    if region.spend_all and region.left(region.upper_M) > 0:
        most = int(region.upper_M.sum())
        raise BudgetError(
            f"a budget of {total:g} samples exceeds the {most} that can be scored: lower it, or draw more samples"
        )


def _enumerated(posterior: Posterior, region: Region) -> Choice | None:
    """Choose among all allocations that leave no room for another sample of the last policy, if they are few.

    The others cannot be better, since coverage never falls as samples are added. Return None if they are too many.
    """
    most = _ENUMERATED_CELLS // len(posterior.weight_C)
    k_NM = np.zeros((1, 0), np.int64)
    for j, cost in enumerate(region.cost_M):
        left_N = region.total - k_NM @ region.cost_M[:j]
        most_N = np.minimum(np.floor(left_N / cost + 1e-9).astype(np.int64), region.upper_M[j])
        if j == len(region.cost_M) - 1:
            k_NM = np.column_stack([k_NM, most_N])
            break
        if (most_N + 1).sum() > most:
            return None
        # Counting down puts the allocation that gives most to the policy named first before its equals.
        next_N = np.concatenate([np.arange(most_j, -1, -1) for most_j in most_N])
        k_NM = np.column_stack([np.repeat(k_NM, most_N + 1, axis=0), next_N])
    fits_N = (k_NM > 0).sum(axis=1) >= region.min_policies
    if region.spend_all:
        fits_N &= k_NM.sum(axis=1) == region.total
    k_NM = k_NM[fits_N]
    miss_N = _miss_of_each(posterior, k_NM)
    # Allocations within rounding noise of the best are equal, and the first of them is taken.
    best = int((miss_N <= miss_N.min() + 1e-14).argmax())
    objective = posterior.coverage(k_NM[best])
    return Choice(k_NM[best], Certificate(objective, objective, is_optimal=True, method="enumerated"))


def _miss_of_each(posterior: Posterior, k_NM: Ints) -> Floats:
    """Return the chance that all samples of each allocation fail, `[N]`."""
    k_K, index_NM = np.unique(k_NM, return_inverse=True)
    log_miss_KMC = np.array([posterior.log_miss(k) for k in k_K])
    miss_N = np.empty(len(k_NM))
    for rows in np.array_split(np.arange(len(k_NM)), len(k_NM) // 500 + 1):
        log_miss_NP = sum(log_miss_KMC[index_NM[rows, j], j] for j in range(k_NM.shape[1]))
        miss_N[rows] = np.exp(log_miss_NP) @ posterior.weight_C
    return miss_N


def _rounded(posterior: Posterior, region: Region, k_M: Floats) -> Ints:
    """Return whole numbers near a real point: rounded down, then filled greedily.

    If this gives too few policies a sample, those with most at the real point get one each before the rest is filled.
    """
    whole_M = fill(posterior, region, rounded_down(region, k_M))
    if (whole_M > 0).sum() >= region.min_policies:
        return whole_M
    chosen_M = np.zeros_like(whole_M)
    for j in np.argsort(-k_M, kind="stable"):
        with_j_M = chosen_M + (np.arange(len(k_M)) == j)
        if chosen_M.sum() < region.min_policies and not replace(region, lower_M=with_j_M).is_empty:
            chosen_M = with_j_M
    inside = replace(region, lower_M=chosen_M)
    return fill(posterior, inside, rounded_down(inside, relax(posterior, inside).k_M))
