"""State of an adaptive run: samples and successes so far, the budget, and a seed. Nothing else is remembered.

A strategy is a pure function of this state, so a run that is killed at any moment, even in the middle of a batch,
continues by asking the strategy again. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.errors import EnsembleError

_ROUNDING = 1e-9
"""Costs are sums of floats, and rounding in their last digits must not cost a sample."""


class AdaptiveError(EnsembleError):
    """A strategy cannot be followed. The message gives the cause, then the cure."""


@dataclass(frozen=True)
class AdaptiveState:
    """Counts so far. Unlike in `Outcomes`, a cell may still be without samples."""

    num_samples_MP: Ints
    """`[M, P]` graded samples, 0 or more."""
    num_correct_MP: Ints
    """`[M, P]` accepted samples."""
    budget: Budget
    """What may be spent on each problem, and the cost of a sample of each policy."""
    seed: int = 0

    def __post_init__(self) -> None:
        n_MP, c_MP = self.num_samples_MP, self.num_correct_MP
        if n_MP.shape != c_MP.shape or len(n_MP) != len(self.budget.cost_M):
            raise AdaptiveError(
                f"counts of samples {n_MP.shape}, counts of successes {c_MP.shape} and {len(self.budget.cost_M)} costs "
                "do not fit together: give all of them for the same policies and problems"
            )
        if np.any(c_MP < 0) or np.any(c_MP > n_MP):
            m, p = np.argwhere((c_MP < 0) | (c_MP > n_MP))[0]
            raise AdaptiveError(
                f"policy {m} on problem {p} has c = {c_MP[m, p]} of n = {n_MP[m, p]}: correct the counts"
            )
        if self.budget.currency == "samples" and np.any(self.budget.cost_M != 1):
            raise AdaptiveError(
                "each sample costs 1 where the budget is in samples: set costs of 1, or a budget in tokens or seconds"
            )
        if np.any(self.budget.cost_M <= 0):
            raise AdaptiveError(f"a sample costs {self.budget.cost_M.min():g}: give costs above 0")

    @classmethod
    def empty(cls, num_problems: int, budget: Budget, seed: int = 0) -> Self:
        """Return the state before anything was drawn."""
        zeros_MP = np.zeros((len(budget.cost_M), num_problems), np.int64)
        return cls(zeros_MP, zeros_MP, budget, seed)

    @property
    def spent_P(self) -> Floats:
        """Cost so far, `[P]`."""
        return self.budget.cost_M @ self.num_samples_MP

    @property
    def left_P(self) -> Floats:
        """What may still be spent, `[P]`."""
        return self.budget.total - self.spent_P

    @property
    def solved_P(self) -> Bools:
        """Whether any sample was accepted, `[P]`."""
        return np.any(self.num_correct_MP > 0, axis=0)

    def tell(self, drawn_MP: Ints, correct_MP: Ints) -> Self:
        """Return the state after more samples, whether they are all that the strategy asked for or only a part."""
        return replace(
            self, num_samples_MP=self.num_samples_MP + drawn_MP, num_correct_MP=self.num_correct_MP + correct_MP
        )

    def affordable(self, wanted_MP: Ints) -> Ints:
        """Cut the wanted samples to what each problem has left, later policies first; `[M, P]`."""
        left_P = self.left_P
        rows: list[Ints] = []
        for wanted_P, cost in zip(wanted_MP, self.budget.cost_M.tolist(), strict=True):
            row_P = np.clip(wanted_P, 0, num_affordable(left_P, cost))
            left_P = left_P - cost * row_P
            rows.append(row_P)
        return np.array(rows)


class Strategy(Protocol):
    """A rule that decides what to draw next."""

    @property
    def is_shared(self) -> bool:
        """Whether all problems get the samples that successes on all of them decide on."""
        ...

    def ask(self, state: AdaptiveState) -> Ints:
        """Return the samples to draw now, `[M, P]`, all 0 when the run is done.

        The same state always gives the same answer.

        Raises:
            AdaptiveError: the budget does not pay for the strategy's first step.
        """
        ...


def num_affordable(left_P: Floats, cost: float) -> Ints:
    """Return how many samples of one cost fit into what is left, `[P]`."""
    return np.floor(np.maximum(left_P, 0.0) / cost + _ROUNDING).astype(np.int64)
