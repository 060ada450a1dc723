"""Adaptive strategies as arms of a run: what they cover, and at what cost.

Such an arm is scored by playing it. Nothing is chosen by looking at the data that score it, so its naive and its
cross-fitted figures are the same. But a strategy may make one choice for all problems, which then err together. For the
intervals it is therefore played again on resampled problems, where it may choose otherwise. Axes: `M` policies, `P`
problems, `R` resamples of the problems, `B` those that are played again, `V` plays of each.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from alphamix.ensemble.adaptive.sample_streams import EndlessStreams, Play, SampleStreams, follow, play, replay
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.adaptive.strategies import beta_shapes
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm, BestSingle
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, CrossFitted
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights, drawn_problems, mean_over_problems

_REPLAYS = 20
_PLAYED_AGAIN = 60
"""Number of resamples that are played again: enough for the spread of an interval."""


def play_arm(
    strategy: Strategy, outcomes: Outcomes, budget: Budget, streams: SampleStreams, seed: int, resampling: Resampling
) -> Arm:
    """Score a strategy over the policies of `outcomes`.

    Where every cell holds as many samples as the budget could buy of it, the strategy is replayed many times with the
    samples in random orders; else it is played once, with the samples that the run drew for it.

    Args:
        strategy: decides what to draw next.
        outcomes: counts of fixed size, of the policies that the strategy may use.
        budget: per problem, with the costs of these policies.
        streams: samples of these policies, in the order in which the run drew them.
        seed: the strategy's seed in the run.
        resampling: how intervals are made; its seed also orders the replays.

    Returns:
        The arm, with problems in canonical order.

    Raises:
        AdaptiveError: the strategy asks for samples that were not drawn (the run was made for another budget).
    """
    canonical = outcomes.canonical()
    resampling = resampling.with_groups(canonical.groups)
    # Replaying wherever the replays happen to reach their end would keep those that needed few samples, and flatter
    # the arm. So what decides is whether no replay could ever run out.
    if np.all(outcomes.num_samples_MP >= BestSingle(budget).samples_M()[:, None]):
        table, num_plays = canonical, _REPLAYS
        budget = budget.reordered(outcomes.rows(table.policies))
        plays = replay(strategy, table, budget, resampling.seed, num_plays)
    else:
        # What a strategy asks for may depend on the order of policies and problems, so the run's is kept.
        table, num_plays = outcomes, 1
        start = AdaptiveState.empty(len(table.problems), budget, seed)
        plays = iter([_played_once(strategy, streams, start)])
    place_P = table.columns(canonical.problems)
    resamples = drawn_problems(len(place_P), resampling, _PLAYED_AGAIN if strategy.is_shared else 0)
    ends, change_BV = _played_again(strategy, plays, num_plays, [place_P[drawn_P] for drawn_P in resamples])
    solved_P = np.mean([end.solved_P for end in ends], axis=0)[place_P]
    cost_P = np.mean([end.spent_P for end in ends], axis=0)[place_P]
    num_samples_M: Floats = np.mean([end.num_samples_MP.mean(axis=1) for end in ends], axis=0)
    weight_RP = draw_weights(len(solved_P), resampling)
    change_R = np.resize(_of_mean(change_BV, num_plays), len(weight_RP))
    return Arm(
        allocation={policy: float(k) for policy, k in zip(table.policies, num_samples_M, strict=True) if k},
        naive_P=solved_P,
        honest=dict.fromkeys(DIVISIONS, CrossFitted(solved_P, weight_RP @ solved_P + change_R, None)),
        cost=mean_over_problems(cost_P, resampling, -np.inf),
    )


def _played_once(strategy: Strategy, streams: SampleStreams, start: AdaptiveState) -> Play:
    """Follow a strategy as the run did, and return it with streams that go on beyond what was drawn.

    On resampled problems the strategy may want samples that it did not ask for in the run. Draws from each policy's
    posterior stand in for them. They move no value, only the width of its interval.
    """
    end, needed_MP = follow(strategy, streams, start)
    if needed_MP is not None:
        raise AdaptiveError(
            f"an adaptive arm asks for {int((needed_MP - streams.num_samples_MP).clip(0).sum())} samples that were "
            "not drawn: resume the run with `alphamix resume`"
        )
    rng = np.random.default_rng(start.seed)
    rate_MP = rng.beta(*beta_shapes(streams.num_samples_MP, streams.num_correct(streams.num_samples_MP)))
    return Play(EndlessStreams(streams, rate_MP, rng), end)


def _played_again(
    strategy: Strategy, plays: Iterator[Play], num_plays: int, resamples: Sequence[Ints]
) -> tuple[list[AdaptiveState], Floats]:
    """Return the ends of all plays, and what their choices on each resample change in the share solved, `[B, V]`.

    Each resample is played twice, with the samples in the orders of two plays, which take turns.
    """
    change_BV = np.zeros((len(resamples), min(2, num_plays)))
    ends: list[AdaptiveState] = []
    for number, (streams, end) in enumerate(plays):
        ends.append(end)
        pair, member = divmod(number, 2)
        for draw in range(pair, len(resamples), max(1, num_plays // 2)):
            start = AdaptiveState.empty(len(resamples[draw]), end.budget, end.seed)
            again = play(strategy, streams.of(resamples[draw]), start)
            change_BV[draw, member] = again.solved_P.mean() - end.solved_P[resamples[draw]].mean()
    return ends, change_BV


def _of_mean(change_BV: Floats, num_plays: int) -> Floats:
    """Return changes that spread as those of the mean of many plays do, `[B]`, given those of one or two plays each.

    The order of samples decides on the choice too. That luck nearly averages out over many plays, but not over two, so
    it is told from what the problems decide by how far two plays on the same problems agree.
    """
    change_B = change_BV.mean(axis=1)
    if num_plays == 1 or len(change_B) < 2 or np.ptp(change_B) == 0:
        return change_B
    variance = float(change_B.var())
    luck = float(change_BV.var(axis=1, ddof=1).mean())
    wanted = max(0.0, variance - luck / 2) + luck / num_plays
    return change_B * np.sqrt(wanted / variance)
