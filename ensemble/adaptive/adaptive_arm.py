"""Adaptive strategies as arms of a run: what they cover, and what that cost.

Such an arm is scored by playing it: nothing is chosen by looking at what scores it, so that its naive and its honest
figure are one. Where every cell holds all that it could ask for, it is played many times, each time with the samples
in another order; else once, with the samples that were drawn for it. Axes: `M` policies, `P` problems, `R` resamples.
"""

from collections.abc import Sequence

import numpy as np

from alphamix.ensemble.adaptive.replay import simulate
from alphamix.ensemble.adaptive.sample_streams import SampleStreams, follow
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm, BestSingle
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, Honest
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights, mean_over_problems


def play_arm(
    strategy: Strategy, outcomes: Outcomes, budget: Budget, draws: SampleStreams, seed: int, resampling: Resampling
) -> Arm:
    """Score a strategy over the policies of `outcomes`.

    Args:
        strategy: what to draw next.
        outcomes: counts of fixed size; its policies are those that the strategy may use.
        budget: per problem; its costs are those of these policies.
        draws: all samples of these policies, in the order in which the run drew them.
        seed: of the strategy, as the run followed it.
        resampling: of the intervals.

    Raises:
        AdaptiveError: the strategy asks for samples that were not drawn (the run was made for another budget).
    """
    # Not whether the replays came to their end: to keep those alone that needed few samples would flatter the arm.
    if np.any(outcomes.num_samples_MP < BestSingle(budget).samples_M()[:, None]):
        tally, needed_MP = follow(strategy, draws, AdaptiveState.empty(len(outcomes.problems), budget, seed))
        if needed_MP is not None:
            raise AdaptiveError(
                f"an adaptive arm asks for {int((needed_MP - draws.held_MP).clip(0).sum())} samples that were not "
                "drawn: go on with the run by `alphamix resume`"
            )
        drawn_M, solved_P = tally.num_samples_MP.mean(axis=1), tally.solved_P.astype(np.float64)
        return _arm(outcomes.policies, drawn_M, solved_P, tally.spent_P, resampling)
    (replays,) = simulate(
        strategy, outcomes, [budget.total], cost_M=budget.cost_M, currency=budget.currency, resampling=resampling
    )
    solved_P: Floats = replays.solved_RP.astype(np.float64).mean(axis=0)
    num_samples_M: Floats = replays.num_samples_RM.mean(axis=0)
    cost_P: Floats = replays.cost_RP.mean(axis=0)
    return _arm(outcomes.policies, num_samples_M, solved_P, cost_P, resampling)


def _arm(
    policies: Sequence[str], num_samples_M: Floats, solved_P: Floats, cost_P: Floats, resampling: Resampling
) -> Arm:
    solved_R = draw_weights(len(solved_P), resampling) @ solved_P
    honest = Honest(solved_P, solved_R)
    allocation = {policy: float(k) for policy, k in zip(policies, num_samples_M, strict=True) if k}
    return Arm(
        allocation,
        solved_P,
        solved_R,
        dict.fromkeys(DIVISIONS, honest),
        {},
        mean_over_problems(cost_P, resampling, -np.inf),
    )
