"""Successive halving: all policies start, and after each rung the better half goes on with an equal share of the rest.

Karnin, Koren & Somekh 2013 (Sequential Halving): R = ⌈log2 M⌉ rungs, each with 1/R of the budget, spread evenly over
those still in; Jamieson & Talwalkar 2016 use the same scheme. Here what whole numbers leave over in one rung goes to
the next, and a rung's share is counted in the budget's currency. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, fits
from alphamix.ensemble.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class SuccessiveHalving:
    """Rungs of equal cost; the ⌈half⌉ with most successes stays in, ties by the order of the policies."""

    per_problem: bool = False
    """Rank and drop policies on each problem by itself, else by their successes on all problems together."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Ask for what the rung that is under way lacks.

        Raises:
            AdaptiveError: the budget does not give each policy a sample in the first rung.
        """
        n_MP, c_MP = tally.num_samples_MP, tally.num_correct_MP
        cost_M, total = tally.budget.cost_M, tally.budget.total
        rungs = _num_rungs(len(cost_M))
        if total / rungs < cost_M.sum() * (1 - 1e-9):
            raise AdaptiveError(
                f"a budget of {total:g} in {rungs} rungs does not pay for one sample of each of {len(cost_M)} policies "
                f"in the first: give {rungs * cost_M.sum():g} or more"
            )
        if not self.per_problem:
            return tally.affordable(_lack(n_MP, c_MP, cost_M, total))
        columns = [_lack(n_MP[:, [p]], c_MP[:, [p]], cost_M, total) for p in range(n_MP.shape[1])]
        return tally.affordable(np.concatenate(columns, axis=1))

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Everywhere once the first rung is in: its luck decides who goes on."""
        first = fits(np.array([tally.budget.total / _num_rungs(len(tally.budget.cost_M))]), tally.budget.cost_M.sum())
        done_P = np.all(tally.num_samples_MP >= first, axis=0)
        return np.broadcast_to(done_P if self.per_problem else done_P.all(), tally.num_samples_MP.shape).copy()


def _num_rungs(num_policies: int) -> int:
    return max(1, int(np.ceil(np.log2(num_policies))))


def _lack(n_MP: Ints, c_MP: Ints, cost_M: Floats, total: float) -> Ints:
    """What the first unfinished rung lacks, `[M, P]`, on problems that share their ranking."""
    rungs, left, reached = _num_rungs(len(n_MP)), total, 0
    inside_M = np.ones(len(n_MP), np.bool_)
    for rung in range(rungs):
        cost = float(cost_M[inside_M].sum())
        share = int(fits(np.array([left / (rungs - rung)]), cost)[0])
        left, reached = left - share * cost, reached + share
        lack_MP = np.where(inside_M[:, None], np.maximum(reached - n_MP, 0), 0)
        if lack_MP.any():
            return lack_MP
        inside_M = _better_half(inside_M, n_MP, c_MP, reached)
    return np.zeros_like(n_MP)


def _better_half(inside_M: Bools, n_MP: Ints, c_MP: Ints, reached: int) -> Bools:
    """Who stays in. Whoever has gone beyond the rung was kept before; the others are still as they were then.

    So the same half comes out whether it is asked before, within or after the next rung.
    """
    gone_on_M = (n_MP > reached).any(axis=1)
    order = np.lexsort((np.arange(len(inside_M)), -c_MP.sum(axis=1), ~gone_on_M, ~inside_M))
    kept_M = np.zeros_like(inside_M)
    kept_M[order[: (int(inside_M.sum()) + 1) // 2]] = True
    return kept_M
