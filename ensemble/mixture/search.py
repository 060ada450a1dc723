"""The best allocation of a budget: whole numbers of samples per policy that cover most under a posterior.

Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from ensemble.errors import EnsembleError
from ensemble.pass_at_k import Floats, Ints
from ensemble.posterior import Posterior

Currency = Literal["samples", "tokens", "seconds"]
CURRENCIES: tuple[Currency, ...] = get_args(Currency)


class BudgetError(EnsembleError):
    """No allocation meets the budget and the limits."""


@dataclass(frozen=True)
class Budget:
    """What may be spent per problem, and what a sample of each policy costs."""

    total: float
    cost_M: Floats
    """`[M]` cost of one sample, in the currency."""
    currency: Currency = "samples"

    @classmethod
    def of_samples(cls, total: int, num_policies: int) -> Self:
        """Every sample costs 1."""
        return cls(float(total), np.ones(num_policies))


@dataclass(frozen=True)
class Certificate:
    """Proof of how good a choice is: no allocation within the budget can cover more than `upper_bound`."""

    objective: float
    """Expected coverage of the chosen allocation under the posterior."""
    upper_bound: float
    is_optimal: bool
    """Whether the search has shown that nothing is better by more than rounding noise."""

    @property
    def gap(self) -> float:
        """How much coverage a better allocation could add at most."""
        return max(0.0, self.upper_bound - self.objective)


@dataclass(frozen=True)
class Choice:
    """An allocation with its certificate."""

    allocation_M: Ints
    certificate: Certificate


def best_allocation(posterior: Posterior, budget: Budget, limit_M: Ints | None = None, min_policies: int = 1) -> Choice:
    """Choose the whole numbers k_j with Σ cost_j k_j ≤ total that maximise `posterior.coverage(k)`.

    Args:
        posterior: beliefs about solve rates.
        budget: per problem.
        limit_M: `[M]` at most so many samples of each policy (as many as were drawn, so that the choice can be
            scored without a model); None for no limit.
        min_policies: at least so many policies get a sample.

    Raises:
        BudgetError: nothing fits.
    """
    num_policies = len(budget.cost_M)
    limit_M = np.full(num_policies, np.iinfo(np.int64).max) if limit_M is None else limit_M
    k_M = np.zeros(num_policies, np.int64)
    value, left = 0.0, budget.total
    while True:
        fits_M = (k_M < limit_M) & (budget.cost_M <= left + 1e-9)
        if not fits_M.any():
            return Choice(k_M, Certificate(value, 1.0, is_optimal=False))
        next_M = np.array(
            [
                posterior.coverage(k_M + row) if fits else -1
                for row, fits in zip(np.eye(num_policies, dtype=np.int64), fits_M, strict=True)
            ]
        )
        best = int(((next_M - value) / budget.cost_M).argmax())
        value, left = float(next_M[best]), left - budget.cost_M[best]
        k_M[best] += 1
