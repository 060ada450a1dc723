"""Arms: ways to spend one budget per problem, compared on equal terms.

Choosing and reporting never share data. So each arm has a naive estimate, chosen and scored on the same outcomes, and
an honest one from cross-fitting; the best *single* policy is treated the same way. Axes: `M` policies, `P` problems,
`C` allocations, `R` bootstrap resamples.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError
from alphamix.ensemble.mixture.best_allocation import good_allocation
from alphamix.ensemble.mixture.cross_fitting import (
    AllocationRule,
    CrossFitOptions,
    CrossFitted,
    Division,
    Evidence,
    coverage_of_each,
    cross_fit,
)
from alphamix.ensemble.statistics.intervals import Estimate, draw_weights
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage

_COLUMNS = 3000
"""Columns of the posterior that choices in folds are made on, which only tables of many problems exceed."""
_TRACE = 1e-9
"""Weight of the expected coverage where it only breaks ties; unbiased coverages of two policies differ by more."""


@dataclass(frozen=True)
class Split:
    """Spend the budget in fixed shares, such as equal ones, without looking at the outcomes."""

    weights: Mapping[str, float]
    budget: Budget

    @classmethod
    def equal(cls, members: Sequence[str], budget: Budget) -> "Split":
        """Give each member the same number of samples, whatever they cost."""
        return cls(dict.fromkeys(members, 1.0), budget)

    def reordered(self, order_M: Sequence[int]) -> "Split":
        """Return the same split for the policies with these indices, whose costs change places."""
        return replace(self, budget=self.budget.reordered(order_M))

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
    """Spend the whole budget on the policy that covers most alone."""

    budget: Budget
    candidates_M: Bools | None = None
    """`[M]` policies to choose from; None for all."""

    def choose(self, evidence: Evidence, limit_M: Ints) -> Ints:
        """Choose the policy with the highest merit; policies that the budget pays no sample of are left out.

        Raises:
            UndefinedError: the budget pays for more samples of some candidate than can be scored. Leaving it out in
                single folds would compare the ensemble with the best of fewer policies, and flatter it.
        """
        policies = evidence.outcomes.policies
        k_M = np.where(self._candidates(len(policies)), self.samples_M(), 0)
        if np.any(k_M > limit_M):
            m = int((k_M > limit_M).argmax())
            raise UndefinedError(
                f"on policy {policies[m]!r} alone the budget buys {k_M[m]} samples per problem, but only "
                f"{limit_M[m]} can be scored: draw more, or lower the budget"
            )
        covered_M = self.merit(evidence, np.diag(k_M)).sum(axis=1)
        # Rounding makes floating-point noise a tie, and -1 excludes policies that the budget pays no sample of.
        best = int(np.where(k_M > 0, np.round(covered_M, 12), -1).argmax())
        return np.where(np.arange(len(k_M)) == best, k_M, 0)

    def merit(self, evidence: Evidence, allocations_CM: Ints) -> Floats:
        """Return the unbiased coverage, or where n < k leaves it undefined, the expected one under the posterior.

        A trace of the expected coverage breaks ties. Policies that all solve everything within the budget, for
        instance, have the same unbiased coverage, and their order in the table says nothing.
        """
        expected_CP = evidence.posterior.covered(allocations_CM)
        if np.all(allocations_CM.max(axis=0) <= evidence.outcomes.num_samples_MP.min(axis=1)):
            return coverage_of_each(evidence.outcomes, allocations_CM) + _TRACE * expected_CP
        return expected_CP

    def samples_M(self) -> Ints:
        """Return how many samples of each policy alone the budget pays for, `[M]`."""
        return np.floor(self.budget.total / self.budget.cost_M + 1e-9).astype(np.int64)

    def _candidates(self, num_policies: int) -> Bools:
        return np.ones(num_policies, np.bool_) if self.candidates_M is None else self.candidates_M


@dataclass(frozen=True)
class BestMixture:
    """Spend the budget on the mixture that covers most under the posterior (`best_allocation`)."""

    budget: Budget
    min_policies: int = 1

    def choose(self, evidence: Evidence, limit_M: Ints) -> Ints:
        """Search without proof and on fewer columns, since a fold's choice needs no certificate.

        Raises:
            BudgetError: all samples together are fewer than the budget.
        """
        posterior = evidence.posterior.thinned(_COLUMNS)
        return good_allocation(posterior, self.budget, limit_M, self.min_policies)[0]

    def merit(self, evidence: Evidence, allocations_CM: Ints) -> Floats:
        """Return the expected coverage under the posterior."""
        return evidence.posterior.covered(allocations_CM)


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget, with its coverage of each problem."""

    allocation: Mapping[str, float]
    """Samples per problem by policy, as chosen on all outcomes; policies without samples are left out. An adaptive arm
    has the means over problems here."""
    naive_P: Floats
    """`[P]` coverage under that allocation."""
    honest: dict[Division, CrossFitted]
    """Cross-fitted coverage, for the divisions where it is defined."""
    cost: Estimate | None = None
    """What an adaptive arm, which may stop early, spent per problem; None for arms that spend the whole budget."""

    @property
    def is_adaptive(self) -> bool:
        """Whether the arm decides what to draw by what was drawn; its naive and honest figures are then the same."""
        return self.cost is not None


def score_arms(
    evidence: Evidence,
    rules: Mapping[str, AllocationRule | Split],
    options: CrossFitOptions,
    chosen: Mapping[str, Ints] | None = None,
) -> tuple[dict[str, Arm], dict[str, str]]:
    """Choose an allocation by each rule, and score it naively and honestly.

    Args:
        evidence: all outcomes.
        rules: how each arm spends the budget.
        options: how honest estimates are made.
        chosen: choices on all outcomes that are already known, `[M]` each.

    Returns:
        The arms by name, and why an arm is missing or has no honest estimate, by what is missing.

    Raises:
        OutcomesError: n depends on what was drawn.
    """
    outcomes = evidence.outcomes
    outcomes.check_fixed_size()
    allocations: dict[str, Ints] = {}
    undefined: dict[str, str] = {}
    naive_P: dict[str, Floats] = {}
    for name, rule in rules.items():
        try:
            if isinstance(rule, Split):
                allocations[name] = rule.allocation_M(outcomes.policies)
            elif chosen and name in chosen:
                allocations[name] = chosen[name]
            else:
                allocations[name] = rule.choose(evidence, outcomes.num_samples_MP.min(axis=1))
            naive_P[name] = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocations[name])
        except (UndefinedError, BudgetError) as error:
            undefined[name] = str(error)
    weight_RP = draw_weights(len(outcomes.problems), options.resampling)
    fixed = {
        # Nothing was chosen by looking at outcomes, so there is no optimism to remove, and dividing the data would
        # only add noise.
        name: CrossFitted(naive_P[name], weight_RP @ naive_P[name], allocations[name][None])
        for name, rule in rules.items()
        if isinstance(rule, Split) and name in naive_P
    }
    adaptable = {name: rule for name, rule in rules.items() if not isinstance(rule, Split) and name in naive_P}
    honest: dict[str, dict[Division, CrossFitted]] = {name: {} for name in naive_P}
    for by, crossfit in options.crossfits.items():
        fitted, missing = cross_fit(outcomes, adaptable, crossfit, options.resampling)
        for name, scores in {**fixed, **fitted}.items():
            honest[name][by] = scores
        undefined |= {f"{name}, honest by {by}": reason for name, reason in missing.items()}
    arms = {
        name: Arm(
            allocation={policy: int(k) for policy, k in zip(outcomes.policies, allocations[name], strict=True) if k},
            naive_P=covered_P,
            honest=honest[name],
        )
        for name, covered_P in naive_P.items()
    }
    return arms, undefined
