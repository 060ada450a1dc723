"""Budgets per problem, in samples, tokens or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.errors import EnsembleError

Currency = Literal["samples", "tokens", "seconds"]
CURRENCIES: tuple[Currency, ...] = get_args(Currency)


class BudgetError(EnsembleError):
    """No allocation fits the budget and the limits on samples."""


@dataclass(frozen=True)
class Budget:
    """Amount that may be spent per problem, with the cost of a sample of each policy."""

    total: float
    cost_M: Floats
    """`[M]` cost of one sample of each policy, in the currency."""
    currency: Currency = "samples"

    @classmethod
    def of_samples(cls, total: int, num_policies: int) -> Self:
        """Return a budget in samples, which cost 1 each."""
        return cls(float(total), np.ones(num_policies))

    def reordered(self, order_M: Sequence[int]) -> Self:
        """Return the same budget for the policies with these indices."""
        return replace(self, cost_M=self.cost_M[list(order_M)])

    @property
    def amount(self) -> float | int:
        """The total, as an integer where the currency is samples."""
        return int(self.total) if self.currency == "samples" else self.total

    def __str__(self) -> str:
        unit = self.currency[:-1] if self.total == 1 else self.currency
        return f"{self.total:{',.0f' if self.total >= 100 else 'g'}} {unit}"
