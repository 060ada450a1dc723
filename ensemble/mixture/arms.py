"""Arms: ways to spend one budget per problem, compared on equal terms.

Choosing and reporting never share data. So each arm has a naive estimate, chosen and scored on the same outcomes, and
an honest one from cross-fitting; the best *single* policy is treated the same way. Axes: `M` policies, `P` problems,
`C` allocations, `R` bootstrap resamples.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.mixture.cross_fitting import (
    AllocationRule,
    CrossFitOptions,
    CrossFitted,
    Division,
    coverage_of_each,
    cross_fit,
)
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.beta_posterior import Posterior
from alphamix.ensemble.statistics.intervals import Estimate, draw_weights
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage


@dataclass(frozen=True)
class Split:
    """Spend the budget in fixed shares, such as equal ones, without looking at the outcomes."""

    weights: Mapping[str, float]
    budget: Budget

    @classmethod
    def equal(cls, members: Sequence[str], budget: Budget) -> "Split":
        """Give each member the same number of samples, whatever they cost."""
        return cls(dict.fromkeys(members, 1.0), budget)

    def allocation_M(self, policies: Sequence[str]) -> Ints:
        """Divide as many samples as the budget pays for by largest remainder, `[M]`."""
        weight_M = np.array([self.weights.get(policy, 0.0) for policy in policies])
        cost_M = self.budget.cost_M
        share_M = weight_M / weight_M.max()
        share_M /= share_M.sum()

        def least_cost(total: int) -> float:
            return float(np.floor(share_M * total * (1 - 1e-12)) @ cost_M)

        # Each policy gets at least its share rounded down. The cost of these samples rises with their total, so
        # bisection finds the largest total that this cost allows, and the answer lies at or just below it.
        most = int((self.budget.total + cost_M[weight_M > 0].sum()) / (share_M @ cost_M))
        most = bisect_right(range(most + 1), self.budget.total * (1 + 1e-9), key=least_cost) - 1
        for total in range(most, 0, -1):
            counts = largest_remainder(self.weights, total)
            k_M = np.array([counts.get(policy, 0) for policy in policies])
            if k_M @ cost_M <= self.budget.total * (1 + 1e-9):
                return k_M
        return np.zeros_like(weight_M, np.int64)


@dataclass(frozen=True)
class BestSingle:
    """Spend the whole budget on the policy that covers most on its own."""

    budget: Budget

    def choose(self, outcomes: Outcomes, limit_M: Ints) -> Ints:
        """Compare policies by pass@k at the k that the budget pays for, or by its expectation where n < k.

        Raises:
            UndefinedError: the budget pays for more samples of some policy than can be scored. Leaving that policy out
                would compare the ensemble with the best of fewer policies, and flatter it.
        """
        k_M = self.samples_M()
        if np.any(k_M > limit_M):
            m = int((k_M > limit_M).argmax())
            raise UndefinedError(
                f"on policy {outcomes.policies[m]!r} alone the budget buys {k_M[m]} samples per problem, but only "
                f"{limit_M[m]} can be scored: draw more, or lower the budget"
            )
        covered_M = self.merit(outcomes, np.diag(k_M)).sum(axis=1)
        # Rounding makes floating-point noise a tie, and -1 excludes policies that the budget pays no sample of.
        best = int(np.where(k_M > 0, np.round(covered_M, 12), -1).argmax())
        return np.where(np.arange(len(k_M)) == best, k_M, 0)

    def merit(self, outcomes: Outcomes, allocations_CM: Ints) -> Floats:
        """Return the unbiased coverage, or where n < k leaves it undefined, the expected one under the posterior."""
        if np.all(allocations_CM.max(axis=0) <= outcomes.num_samples_MP.min(axis=1)):
            return coverage_of_each(outcomes, allocations_CM)
        return _expected(outcomes, allocations_CM)

    def samples_M(self) -> Ints:
        """Return how many samples of each policy alone the budget pays for, `[M]`."""
        return np.floor(self.budget.total / self.budget.cost_M + 1e-9).astype(np.int64)


@dataclass(frozen=True)
class BestMixture:
    """Spend the budget on the mixture that covers most under the posterior (`best_allocation`)."""

    budget: Budget
    min_policies: int = 1

    def choose(self, outcomes: Outcomes, limit_M: Ints) -> Ints:
        """Search without branch and bound, since a fold's choice needs no certificate.

        Raises:
            UndefinedError: all samples together are fewer than the budget.
        """
        posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP)
        return best_allocation(posterior, self.budget, limit_M, self.min_policies, max_nodes=0).allocation_M

    def merit(self, outcomes: Outcomes, allocations_CM: Ints) -> Floats:
        """Return the expected coverage under the posterior."""
        return _expected(outcomes, allocations_CM)


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget, with its coverage of each problem."""

    allocation: Mapping[str, float]
    """Samples per problem by policy, as chosen on all outcomes; policies without samples are left out. An adaptive arm
    has the means over problems here."""
    naive_P: Floats
    """`[P]` coverage under that allocation."""
    naive_R: Floats
    """`[R]` mean of `naive_P` over resampled problems."""
    honest: dict[Division, CrossFitted]
    """Cross-fitted coverage, for the divisions where it is defined."""
    undefined: dict[Division, str]
    """Why the honest estimate is missing, by division."""
    cost: Estimate | None = None
    """What an adaptive arm, which may stop early, spent per problem; None for arms that spend the whole budget."""


def arm(
    outcomes: Outcomes,
    rule: AllocationRule | Split,
    options: CrossFitOptions,
    allocation_M: Ints | None = None,
) -> Arm:
    """Choose an allocation by a rule, and score it naively and honestly.

    If the choice on all outcomes is known, `allocation_M` gives it, `[M]`.

    Raises:
        UndefinedError, BudgetError: a cell has fewer samples than the rule must spend.
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    if isinstance(rule, Split):
        allocation_M = rule.allocation_M(outcomes.policies)
    elif allocation_M is None:
        allocation_M = rule.choose(outcomes, outcomes.num_samples_MP.min(axis=1))
    naive_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocation_M)
    naive_R = draw_weights(len(naive_P), options.resampling) @ naive_P
    honest: dict[Division, CrossFitted] = {}
    undefined: dict[Division, str] = {}
    for by, crossfit in options.crossfits.items():
        if isinstance(rule, Split):
            # A split is not chosen by outcomes, so there is no optimism to remove, and dividing data would add noise.
            honest[by] = CrossFitted(naive_P, naive_R)
            continue
        try:
            honest[by] = cross_fit(outcomes, rule, crossfit, options.resampling)
        except (UndefinedError, BudgetError) as error:
            undefined[by] = str(error)
    allocation = {policy: int(k) for policy, k in zip(outcomes.policies, allocation_M, strict=True) if k}
    return Arm(allocation, naive_P, naive_R, honest, undefined)


def _expected(outcomes: Outcomes, allocations_CM: Ints) -> Floats:
    posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP, compress=False)
    return np.array([-np.expm1(posterior.log_miss(k_M).sum(axis=0)) for k_M in allocations_CM])
