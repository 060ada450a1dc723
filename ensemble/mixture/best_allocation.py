"""The best allocation of a budget: whole numbers of samples per policy that cover most under a posterior.

Where all allocations can be listed they are. Else the relaxation to real numbers is rounded down, filled greedily and
improved by exchange, and branch and bound closes what gap it can in a given number of nodes. Whatever the way, the
certificate's bound is proven. Everything is deterministic. Axes: `M` policies, `P` problems, `N` allocations.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError, Currency
from alphamix.ensemble.mixture.branch_and_bound import CLOSED, branch_and_bound, covered, rounded_down
from alphamix.ensemble.mixture.local_search import exchange, fill
from alphamix.ensemble.mixture.relaxation import Misses, Region, relax
from alphamix.ensemble.mixture.single_thread_blas import one_thread

Method = Literal["enumerated", "branch-and-bound", "exchange"]

_ENUMERATED_CELLS = 4_000_000
"""Allocations times problems that are quicker listed than searched."""
_NODES = 200


@dataclass(frozen=True)
class Certificate:
    """Proof of how good a choice is: no allocation within the budget can cover more than `upper_bound`."""

    objective: float
    """Expected coverage of the chosen allocation under the posterior."""
    upper_bound: float
    is_optimal: bool
    """Whether the search has shown that nothing is better by more than rounding noise, 1e-9."""
    method: Method
    """What the proof rests on: all allocations listed, a closed tree, or a bound that the search did not reach."""

    @property
    def gap(self) -> float:
        """How much coverage a better allocation could add at most."""
        return max(0.0, self.upper_bound - self.objective)


@dataclass(frozen=True)
class Choice:
    """An allocation with its certificate."""

    allocation_M: Ints
    certificate: Certificate


@one_thread
def best_allocation(
    misses: Misses,
    budget: Budget,
    limit_M: Ints | None = None,
    min_policies: int = 1,
    *,
    start_M: Ints | None = None,
    max_nodes: int = _NODES,
) -> Choice:
    """Choose the whole numbers k_j that maximise coverage: Σ k_j = total in samples, Σ cost_j k_j ≤ total else.

    Args:
        misses: beliefs about solve rates, a `Posterior`.
        budget: per problem. Samples are spent in full: pass@k is only compared at equal totals.
        limit_M: `[M]` at most so many samples of each policy (as many as were drawn, so that the choice can be
            scored without a model); None for no limit.
        min_policies: at least so many policies get a sample.
        start_M: `[M]` another allocation to improve, such as that of a similar table; one that does not fit is ignored.
        max_nodes: nodes of branch and bound at most; 0 where a good choice is enough (cross-fitting).

    Returns:
        The choice; among choices that differ by rounding noise the policy named first is preferred.

    Raises:
        BudgetError: nothing fits.
    """
    region = _region(budget, limit_M, min_policies)
    if (listed := _enumerated(misses, region)) is not None:
        return listed
    relaxed = relax(misses, region)
    starts = [_rounded(misses, region, relaxed.k_M)]
    if start_M is not None and _fits(region, start_M):
        starts.append(fill(misses, region, start_M))
    exchanged = [exchange(misses, region, k_M) for k_M in starts]
    k_M = max(exchanged, key=lambda k_M: covered(misses, k_M))
    k_M, upper_bound = branch_and_bound(misses, region, relaxed, k_M, max_nodes)
    objective = covered(misses, k_M)
    closed = upper_bound - objective <= CLOSED
    return Choice(k_M, Certificate(objective, upper_bound, closed, "branch-and-bound" if closed else "exchange"))


def _region(budget: Budget, limit_M: Ints | None, min_policies: int) -> Region:
    in_samples = budget.currency == "samples"
    if not (np.isfinite(budget.cost_M) & (budget.cost_M > 0)).all():
        wrong = budget.cost_M[~(budget.cost_M > 0) | ~np.isfinite(budget.cost_M)][0]
        raise BudgetError(f"a sample costs {wrong:g} {budget.currency} for some policy: give costs above 0")
    if not np.isfinite(budget.total):
        raise BudgetError(f"a budget of {budget.total:g} {budget.currency} is no amount: give a finite one")
    total = float(np.floor(budget.total)) if in_samples else budget.total
    affordable_M = np.floor(total / budget.cost_M * (1 + 1e-12)).astype(np.int64)
    upper_M = affordable_M if limit_M is None else np.minimum(affordable_M, limit_M)
    region = Region(np.zeros_like(upper_M), upper_M, budget.cost_M, total, min_policies, in_samples)
    if (reason := _unmet(region, budget.currency, limit_M)) is not None:
        raise BudgetError(reason)
    return region


def _unmet(region: Region, currency: Currency, limit_M: Ints | None) -> str | None:
    """Why no allocation fits, and what to do."""
    total, needed = region.total, region.min_policies
    usable_M = np.ones(len(region.cost_M), bool) if limit_M is None else limit_M > 0
    if not usable_M.any():
        return "no policy may get a sample, all limits are 0: draw samples first"
    cheapest_M = np.sort(region.cost_M[usable_M])
    if not total >= cheapest_M[0]:
        return f"a budget of {total:g} {currency} buys no sample: give at least {cheapest_M[0]:g}"
    if needed > len(cheapest_M):
        return f"{needed} policies cannot all get a sample, only {len(cheapest_M)} have any: ask for at most that many"
    if cheapest_M[:needed].sum() > total * (1 + 1e-12):
        least = cheapest_M[:needed].sum()
        return f"a sample of each of {needed} policies costs {least:g} {currency}, the budget is {total:g}: raise it"
    if region.spend_all and region.left(region.upper_M) > 0:
        most = int(region.upper_M.sum())
        return f"a budget of {total:g} samples exceeds the {most} that the limits allow: lower it, or draw more samples"
    return None


def _fits(region: Region, k_M: Ints) -> bool:
    within = (k_M >= region.lower_M) & (k_M <= region.upper_M)
    return bool(within.all()) and region.left(k_M) >= 0 and int((k_M > 0).sum()) >= region.min_policies


def _enumerated(misses: Misses, region: Region) -> Choice | None:
    """Look at every allocation that leaves no room for one sample more of the last policy, if these are few."""
    most = _ENUMERATED_CELLS // len(misses.weight_P)
    k_NM = np.zeros((1, 0), np.int64)
    for j, cost in enumerate(region.cost_M):
        left_N = region.total - k_NM @ region.cost_M[:j]
        most_N = np.minimum(np.floor(left_N / cost + 1e-9).astype(np.int64), region.upper_M[j])
        if j == len(region.cost_M) - 1:
            k_NM = np.column_stack([k_NM, most_N])
            break
        if (most_N + 1).sum() > most:
            return None
        # From many to few, so that of equal choices the first gives most to the policy named first.
        next_N = np.concatenate([np.arange(most_j, -1, -1) for most_j in most_N])
        k_NM = np.column_stack([np.repeat(k_NM, most_N + 1, axis=0), next_N])
    fits_N = (k_NM > 0).sum(axis=1) >= region.min_policies
    if region.spend_all:
        fits_N &= k_NM.sum(axis=1) == region.total
    k_NM = k_NM[fits_N]
    miss_N = _miss_of_each(misses, k_NM)
    best = int((miss_N <= miss_N.min() + 1e-14).argmax())
    objective = covered(misses, k_NM[best])
    return Choice(k_NM[best], Certificate(objective, objective, is_optimal=True, method="enumerated"))


def _miss_of_each(misses: Misses, k_NM: Ints) -> Floats:
    """`[N]` chance that all samples of each allocation fail."""
    num_policies = k_NM.shape[1]
    k_K, index_NM = np.unique(k_NM, return_inverse=True)
    log_miss_KMP = np.array([misses.log_miss(k) for k in k_K])
    miss_N = np.empty(len(k_NM))
    for rows in np.array_split(np.arange(len(k_NM)), len(k_NM) // 500 + 1):
        log_miss_NP = sum(log_miss_KMP[index_NM[rows, j], j] for j in range(num_policies))
        miss_N[rows] = np.exp(log_miss_NP) @ misses.weight_P
    return miss_N


def _rounded(misses: Misses, region: Region, k_M: Floats) -> Ints:
    """Whole numbers near a real point: rounded down, filled greedily; if policies are missing, with these first."""
    whole_M = fill(misses, region, rounded_down(region, k_M))
    if (whole_M > 0).sum() >= region.min_policies:
        return whole_M
    chosen_M = np.zeros_like(whole_M)
    for j in np.argsort(-k_M, kind="stable"):
        with_j_M = chosen_M + (np.arange(len(k_M)) == j)
        if chosen_M.sum() < region.min_policies and not replace(region, lower_M=with_j_M).is_empty:
            chosen_M = with_j_M
    inside = replace(region, lower_M=chosen_M)
    return fill(misses, inside, rounded_down(inside, relax(misses, inside).k_M))
