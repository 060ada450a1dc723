"""Play a strategy against known outcomes, and say what it solves for what it spends: coverage@cost.

From a table of outcomes each replay puts the n samples of every cell in a random order and hands them out without
replacement: nothing is made up, and a strategy that asks for more than a cell holds is refused. From rates (a
simulation) samples are drawn at will. Axes: `R` replays, `M` policies, `P` problems, `T` samples of a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.adaptive.sample_streams import SampleStreams, follow
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget, Currency
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling


@dataclass(frozen=True)
class Replays:
    """What a strategy did with one budget, over all replays."""

    budget: Budget
    solved_RP: Bools
    num_samples_RM: Floats
    """Samples per problem of each policy, by replay."""
    cost_RP: Floats
    """What was spent, in the budget's currency."""
    coverage: Estimate
    """Share of solved problems. Its interval is over problems and replays."""
    cost: Estimate
    """Mean cost per problem; below the budget where a strategy stops early."""
    last: AdaptiveState
    """Counts at the end of the last replay."""
    stopped_MP: Bools
    """Cells of `last` whose size depends on what was drawn: pass@k is undefined there."""


def simulate(
    strategy: Strategy,
    source: Outcomes | Floats,
    budgets: Sequence[float],
    *,
    cost_M: Floats | None = None,
    currency: Currency = "samples",
    replays: int = 20,
    resampling: Resampling = Resampling(),  # noqa: B008  (frozen)
) -> list[Replays]:
    """Draw the curve of coverage@cost: one point per budget, each from runs of its own.

    Args:
        strategy: what to draw next.
        source: a table of outcomes, or rates `[M, P]`.
        budgets: per problem, in the currency.
        cost_M: `[M]` cost of a sample; by default what the outcomes say of the currency, or 1 for samples.
        currency: of budgets and costs.
        replays: how often each run is played, each time in another order.
        resampling: of the intervals; its seed is also that of the replays.

    Raises:
        AdaptiveError: the strategy asks for more than a cell holds, or the costs are unknown.
        OutcomesError: the outcomes do not say what samples cost, or are themselves of a run that stopped early.
    """
    if isinstance(source, Outcomes):
        source.check_fixed_size()
    cost_M = _costs(source, currency) if cost_M is None else cost_M
    return [_point(strategy, source, Budget(total, cost_M, currency), replays, resampling) for total in budgets]


def play(strategy: Strategy, draws: SampleStreams, tally: AdaptiveState) -> AdaptiveState:
    """Follow a strategy to its end.

    Raises:
        AdaptiveError: it asks for more than a cell holds.
    """
    tally, needed_MP = follow(strategy, draws, tally)
    if needed_MP is not None:
        m, p = np.argwhere(needed_MP > draws.held_MP)[0]
        raise AdaptiveError(
            f"the strategy asks for sample {needed_MP[m, p]} of policy {m} on problem {p}, which has "
            f"{draws.held_MP[m, p]}: lower the budget, or simulate from rates"
        )
    return tally


def shuffled(num_samples_MP: Ints, num_correct_MP: Ints, rng: np.random.Generator) -> Bools:
    """Put the samples of each cell in a random order, `[M, P, T]`; all False beyond a cell's n."""
    order_MPT = rng.random((*num_samples_MP.shape, int(num_samples_MP.max())))
    order_MPT[np.arange(order_MPT.shape[-1]) >= num_samples_MP[:, :, None]] = np.inf
    rank_MPT = order_MPT.argsort(axis=2).argsort(axis=2)
    return rank_MPT < num_correct_MP[:, :, None]


def _point(
    strategy: Strategy, source: Outcomes | Floats, budget: Budget, replays: int, resampling: Resampling
) -> Replays:
    ends: list[AdaptiveState] = []
    for replay in range(replays):
        rng = np.random.default_rng([resampling.seed, replay])
        if isinstance(source, Outcomes):
            held_MP = source.num_samples_MP
            draws_MPT = shuffled(held_MP, source.num_correct_MP, rng)
        else:
            most = int(budget.total / budget.cost_M.min() + 1)
            held_MP = np.full(source.shape, most)
            draws_MPT = rng.random((*source.shape, most)) < source[:, :, None]
        tally = AdaptiveState.empty(len(held_MP[0]), budget, seed=int(rng.integers(2**32)))
        ends.append(play(strategy, SampleStreams(draws_MPT, held_MP), tally))
    solved_RP = np.array([end.solved_P for end in ends])
    cost_RP = np.array([end.spent_P for end in ends])
    return Replays(
        budget=budget,
        solved_RP=solved_RP,
        num_samples_RM=np.array([end.num_samples_MP.mean(axis=1) for end in ends]),
        cost_RP=cost_RP,
        coverage=_estimate(solved_RP.astype(np.float64), resampling),
        cost=_estimate(cost_RP, resampling),
        last=ends[-1],
        stopped_MP=strategy.stopped(ends[-1]),
    )


def _estimate(values_RP: Floats, resampling: Resampling) -> Estimate:
    """Mean with a percentile bootstrap that draws problems and replays anew, each with all its values."""
    replays, problems = values_RP.shape
    value = float(values_RP.mean())
    if problems < 2:
        return Estimate(value, None, None)
    rng = np.random.default_rng(resampling.seed)
    weight_BR = rng.multinomial(replays, np.full(replays, 1 / replays), size=resampling.resamples) / replays
    weight_BP = rng.multinomial(problems, np.full(problems, 1 / problems), size=resampling.resamples) / problems
    means_B = np.einsum("bp,bp->b", weight_BR @ values_RP, weight_BP)
    tail = (1 - resampling.level) / 2
    low, high = np.quantile(means_B, [tail, 1 - tail])
    return Estimate(value, float(means_B.std(ddof=1)), (float(low), float(high)))


def _costs(source: Outcomes | Floats, currency: Currency) -> Floats:
    """What a sample costs, `[M]`: 1 each, or the mean over problems that the outcomes know."""
    if currency == "samples":
        return np.ones(len(source.policies if isinstance(source, Outcomes) else source))
    if not isinstance(source, Outcomes):
        raise AdaptiveError(f"rates do not say what a sample costs in {currency}: give cost_M")
    return source.mean_cost_M(currency)
