"""What an adaptive run knows: samples and successes so far, what they may cost, and a seed. Nothing else is kept.

A strategy is a pure function of a tally, so a run that is killed anywhere, also in the middle of a batch, goes on by
asking again. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.errors import EnsembleError

_ROUNDING = 1e-9
"""Costs are sums of floats: a budget is not refused for their last digits."""


class AdaptiveError(EnsembleError):
    """A strategy cannot be followed: the message says why, then what to do."""


@dataclass(frozen=True)
class AdaptiveState:
    """Counts so far. Unlike in outcomes, a cell without samples is allowed: it was not asked for yet."""

    num_samples_MP: Ints
    """`[M, P]` graded samples, 0 or more."""
    num_correct_MP: Ints
    """`[M, P]` accepted samples."""
    budget: Budget
    """What may be spent on each problem, and what a sample of each policy costs."""
    seed: int = 0

    def __post_init__(self) -> None:
        n_MP, c_MP = self.num_samples_MP, self.num_correct_MP
        if n_MP.shape != c_MP.shape or len(n_MP) != len(self.budget.cost_M):
            raise AdaptiveError(
                f"a tally of {n_MP.shape} samples, {c_MP.shape} successes and {len(self.budget.cost_M)} costs "
                "does not fit together: give all of them for the same policies and problems"
            )
        if np.any(c_MP < 0) or np.any(c_MP > n_MP):
            m, p = np.argwhere((c_MP < 0) | (c_MP > n_MP))[0]
            raise AdaptiveError(
                f"policy {m} on problem {p} has c = {c_MP[m, p]} of n = {n_MP[m, p]}: correct the counts"
            )
        if self.budget.currency == "samples" and np.any(self.budget.cost_M != 1):
            raise AdaptiveError(
                "a sample costs 1 where the budget is in samples: name tokens or seconds as its currency"
            )
        if np.any(self.budget.cost_M <= 0):
            raise AdaptiveError(f"a sample costs {self.budget.cost_M.min():g}: give costs above 0")

    @classmethod
    def empty(cls, num_problems: int, budget: Budget, seed: int = 0) -> Self:
        """Nothing drawn yet."""
        zeros_MP = np.zeros((len(budget.cost_M), num_problems), np.int64)
        return cls(zeros_MP, zeros_MP, budget, seed)

    @property
    def spent_P(self) -> Floats:
        """`[P]` cost so far."""
        return self.budget.cost_M @ self.num_samples_MP

    @property
    def left_P(self) -> Floats:
        """`[P]` what may still be spent."""
        return self.budget.total - self.spent_P

    @property
    def solved_P(self) -> Bools:
        """`[P]` whether a sample was accepted."""
        return np.any(self.num_correct_MP > 0, axis=0)

    def tell(self, drawn_MP: Ints, correct_MP: Ints) -> Self:
        """Add what was drawn, be it all that was asked for or a part."""
        return replace(
            self, num_samples_MP=self.num_samples_MP + drawn_MP, num_correct_MP=self.num_correct_MP + correct_MP
        )

    def affordable(self, wanted_MP: Ints) -> Ints:
        """Cut what is wanted to what each problem has left, later policies first."""
        left_P = self.left_P
        rows: list[Ints] = []
        for wanted_P, cost in zip(wanted_MP, self.budget.cost_M.tolist(), strict=True):
            row_P = np.clip(wanted_P, 0, fits(left_P, cost))
            left_P = left_P - cost * row_P
            rows.append(row_P)
        return np.array(rows)


class Strategy(Protocol):
    """Says what to draw next."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Give `[M, P]` samples to draw now, all 0 when the run is done; the same tally gives the same answer."""
        ...

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Say for each cell, `[M, P]`, whether its number of samples depends on what was drawn."""
        ...


def fits(left_P: Floats, cost: float) -> Ints:
    """How many samples of one cost fit into what is left."""
    return np.floor(np.maximum(left_P, 0.0) / cost + _ROUNDING).astype(np.int64)
