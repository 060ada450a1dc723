"""Arms: ways to spend one budget per problem, compared on equal terms.

Choosing and reporting never share data: each arm has a naive figure, chosen and scored on the same outcomes, and an
honest one from cross-fitting; that goes for the best *single* policy as well. Axes: `M` policies, `P` problems.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.mixture.cross_fitting import CrossFit, Division, Honest, Rule, covered, cross_fit
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.beta_posterior import Posterior
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, draw_weights
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget, with what it covers of each problem."""

    allocation: Mapping[str, float]
    """Samples per policy and problem, as all outcomes together choose; only policies that get some. Of an adaptive arm
    the means over problems."""
    naive_P: Floats
    """`[P]` coverage under that allocation."""
    naive_R: Floats
    """`[R]` its mean over problems when problems are drawn anew."""
    honest: dict[Division, Honest]
    """Coverage under choices that did not see the data that score them, by division; as far as defined."""
    undefined: dict[Division, str]
    """Why an honest figure is missing."""
    cost: Estimate | None = None
    """What an adaptive arm spent per problem: it may stop early. None where the whole budget is spent."""


def arm(
    outcomes: Outcomes,
    rule: Rule,
    crossfits: Mapping[Division, CrossFit],
    resampling: Resampling,
    allocation_M: Ints | None = None,
) -> Arm:
    """Choose by a rule and score the choice, naively and honestly.

    Args:
        outcomes: counts, of fixed size.
        rule: how to choose.
        crossfits: how to divide the data for each honest figure.
        resampling: how problems are drawn anew.
        allocation_M: `[M]` what all outcomes together choose, where that is known already.

    Raises:
        UndefinedError, BudgetError: a cell has fewer samples than the rule must spend.
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    if allocation_M is None:
        allocation_M = rule.choose(outcomes, outcomes.num_samples_MP.min(axis=1))
    naive_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocation_M)
    naive_R = draw_weights(len(naive_P), resampling) @ naive_P
    honest: dict[Division, Honest] = {}
    undefined: dict[Division, str] = {}
    for by, crossfit in crossfits.items():
        try:
            # What is not chosen by looking has no optimism to remove: dividing the data would only add noise.
            is_fixed = isinstance(rule, Split)
            honest[by] = Honest(naive_P, naive_R) if is_fixed else cross_fit(outcomes, rule, crossfit, resampling)
        except (UndefinedError, BudgetError) as error:
            undefined[by] = str(error)
    return Arm(named(outcomes.policies, allocation_M), naive_P, naive_R, honest, undefined)


def named(policies: Sequence[str], allocation_M: Ints) -> dict[str, int]:
    """Samples by policy, of those that get some."""
    return {policy: int(k) for policy, k in zip(policies, allocation_M, strict=True) if k}


@dataclass(frozen=True)
class Split:
    """Spread the budget in given shares (equal ones, say). Nothing is chosen by looking."""

    weights: Mapping[str, float]
    budget: Budget

    @classmethod
    def equal(cls, members: Sequence[str], budget: Budget) -> "Split":
        """Each member gets the same number of samples, whatever they cost."""
        return cls(dict.fromkeys(members, 1.0), budget)

    def merit(self, outcomes: Outcomes, allocations_CM: Ints) -> Floats:
        """Nothing is chosen."""
        return np.zeros((len(allocations_CM), len(outcomes.problems)))

    def choose(self, outcomes: Outcomes, limit_M: Ints) -> Ints:
        """Divide as `allocation_M` does."""
        return self.allocation_M(outcomes.policies)

    def allocation_M(self, policies: Sequence[str]) -> Ints:
        """Divide by largest remainder: the largest number of samples whose division the budget pays for."""
        weight_M = np.array([self.weights.get(policy, 0.0) for policy in policies])
        cost_M = self.budget.cost_M
        share_M = weight_M / weight_M.max()
        share_M /= share_M.sum()

        def least_cost(total: int) -> float:
            return float(np.floor(share_M * total * (1 - 1e-12)) @ cost_M)

        # A policy gets its share rounded down or more, so that no larger number can be paid for.
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
    """Spend all on the policy that covers most alone."""

    budget: Budget

    def choose(self, outcomes: Outcomes, limit_M: Ints) -> Ints:
        """Compare pass@k at the k that the budget pays for; expected under the posterior where n < k.

        Raises:
            UndefinedError: the budget pays for more samples of some policy than can be scored. Leaving that policy out
                would choose the best among fewer, and flatter the ensemble.
        """
        k_M = self.samples_M()
        if np.any(k_M > limit_M):
            m = int((k_M > limit_M).argmax())
            raise UndefinedError(
                f"all on policy {outcomes.policies[m]!r} are {k_M[m]} samples per problem, but only {limit_M[m]} can "
                "be scored: draw more, or lower the budget"
            )
        covered_M = self.merit(outcomes, np.diag(k_M)).sum(axis=1)
        best = int(
            np.where(k_M > 0, np.round(covered_M, 12), -1).argmax()
        )  # where nothing is covered, not one that is not drawn
        return np.where(np.arange(len(k_M)) == best, k_M, 0)

    def merit(self, outcomes: Outcomes, allocations_CM: Ints) -> Floats:
        """Unbiased coverage, as anyone would compare policies; under the posterior where n < k leaves it undefined."""
        if np.all(allocations_CM.max(axis=0) <= outcomes.num_samples_MP.min(axis=1)):
            return covered(outcomes, allocations_CM)
        return _expected(outcomes, allocations_CM)

    def samples_M(self) -> Ints:
        """`[M]` samples that the budget pays for."""
        return np.floor(self.budget.total / self.budget.cost_M + 1e-9).astype(np.int64)


@dataclass(frozen=True)
class BestMixture:
    """Spend as covers most under the posterior (`search.best_allocation`)."""

    budget: Budget
    min_policies: int = 1

    def choose(self, outcomes: Outcomes, limit_M: Ints) -> Ints:
        """Search without the last word on optimality: a fold's choice need not be certified.

        Raises:
            UndefinedError: all samples together are fewer than the budget.
        """
        posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP)
        return best_allocation(posterior, self.budget, limit_M, self.min_policies, max_nodes=0).allocation_M

    def merit(self, outcomes: Outcomes, allocations_CM: Ints) -> Floats:
        """Expected coverage under the posterior."""
        return _expected(outcomes, allocations_CM)


def _expected(outcomes: Outcomes, allocations_CM: Ints) -> Floats:
    posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP, compress=False)
    return np.array([-np.expm1(posterior.log_miss(k_M).sum(axis=0)) for k_M in allocations_CM])
