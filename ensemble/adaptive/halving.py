"""Successive halving: all policies start, and after each rung the better half continues with the rest of the budget.

Sequential Halving of Karnin, Koren & Somekh 2013 (also Jamieson & Talwalkar 2016): R = ⌈log2 M⌉ rungs, each with 1/R
of the budget, spread evenly over the policies that remain. Two things differ here: what a rung cannot spend on whole
samples passes to the next, and a rung's share is counted in the budget's currency. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, num_affordable
from alphamix.ensemble.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class SuccessiveHalving:
    """Rungs of equal cost. The half with most successes, rounded up, continues; ties go to the policy named first."""

    per_problem: bool = False
    """Whether policies are ranked and dropped on each problem separately, or by their successes on all problems."""

    @property
    def is_shared(self) -> bool:
        """Whether policies are dropped on all problems together."""
        return not self.per_problem

    def ask(self, state: AdaptiveState) -> Ints:
        """Ask for the samples that the current rung lacks.

        Raises:
            AdaptiveError: the budget does not pay for one sample of each policy in the first rung.
        """
        n_MP, c_MP = state.num_samples_MP, state.num_correct_MP
        cost_M, total = state.budget.cost_M, state.budget.total
        rungs = _num_rungs(len(cost_M))
        if total / rungs < cost_M.sum() * (1 - 1e-9):
            raise AdaptiveError(
                f"a budget of {total:g} in {rungs} rungs does not pay for one sample of each of {len(cost_M)} policies "
                f"in the first rung: give {rungs * cost_M.sum():g} or more"
            )
        if not self.per_problem:
            return state.affordable(_missing(n_MP, c_MP, cost_M, total))
        columns = [_missing(n_MP[:, [p]], c_MP[:, [p]], cost_M, total) for p in range(n_MP.shape[1])]
        return state.affordable(np.concatenate(columns, axis=1))


def _num_rungs(num_policies: int) -> int:
    return max(1, int(np.ceil(np.log2(num_policies))))


def _missing(n_MP: Ints, c_MP: Ints, cost_M: Floats, total: float) -> Ints:
    """Return what the first unfinished rung lacks, `[M, P]`, on problems that share one ranking."""
    rungs, left, reached = _num_rungs(len(n_MP)), total, 0
    remains_M = np.ones(len(n_MP), np.bool_)
    for rung in range(rungs):
        cost = float(cost_M[remains_M].sum())
        share = int(num_affordable(np.array([left / (rungs - rung)]), cost)[0])
        left, reached = left - share * cost, reached + share
        missing_MP = np.where(remains_M[:, None], np.maximum(reached - n_MP, 0), 0)
        if missing_MP.any():
            return missing_MP
        remains_M = _better_half(remains_M, n_MP, c_MP, reached)
    return np.zeros_like(n_MP)


def _better_half(remains_M: Bools, n_MP: Ints, c_MP: Ints, reached: int) -> Bools:
    """Return which policies remain after a rung, `[M]`.

    A policy that has samples beyond the rung was kept before, and the counts of the others have not changed since. So
    the answer is the same before, within and after the next rung, and an interrupted run keeps the same policies.
    """
    was_kept_M = (n_MP > reached).any(axis=1)
    order = np.lexsort((np.arange(len(remains_M)), -c_MP.sum(axis=1), ~was_kept_M, ~remains_M))
    kept_M = np.zeros_like(remains_M)
    kept_M[order[: (int(remains_M.sum()) + 1) // 2]] = True
    return kept_M
