"""Budgets: what may be spent per problem, in which currency, and what a sample of each policy costs."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.errors import EnsembleError

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

    @property
    def amount(self) -> float | int:
        """The total, a whole number where it is in samples."""
        return int(self.total) if self.currency == "samples" else self.total

    def __str__(self) -> str:
        return f"{self.total:{',.0f' if self.total >= 100 else 'g'}} {self.currency}"
