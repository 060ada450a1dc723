"""Adaptive strategies as arms of a run: what they cover, and at what cost.

Such an arm is scored by playing it. Nothing is chosen by looking at the data that score it, so its naive and its
cross-fitted figures are the same. Axes: `M` policies, `P` problems, `R` replays.
"""

import numpy as np

from alphamix.ensemble.adaptive.sample_streams import SampleStreams, follow, replay
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm, BestSingle
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, CrossFitted
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights, mean_over_problems


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

    Raises:
        AdaptiveError: the strategy asks for samples that were not drawn (the run was made for another budget).
    """
    # Replaying wherever the replays happen to reach their end would keep those that needed few samples, and flatter
    # the arm. So what decides is whether no replay could ever run out.
    if np.all(outcomes.num_samples_MP >= BestSingle(budget).samples_M()[:, None]):
        final_states = replay(strategy, outcomes, budget, resampling.seed)
    else:
        state, needed_MP = follow(strategy, streams, AdaptiveState.empty(len(outcomes.problems), budget, seed))
        if needed_MP is not None:
            raise AdaptiveError(
                f"an adaptive arm asks for {int((needed_MP - streams.num_samples_MP).clip(0).sum())} samples that were "
                "not drawn: resume the run with `alphamix resume`"
            )
        final_states = [state]
    solved_P = np.array([state.solved_P for state in final_states]).astype(np.float64).mean(axis=0)
    cost_P = np.array([state.spent_P for state in final_states]).mean(axis=0)
    num_samples_M: Floats = np.array([state.num_samples_MP.mean(axis=1) for state in final_states]).mean(axis=0)
    solved_R = draw_weights(len(solved_P), resampling) @ solved_P
    return Arm(
        allocation={policy: float(k) for policy, k in zip(outcomes.policies, num_samples_M, strict=True) if k},
        naive_P=solved_P,
        honest=dict.fromkeys(DIVISIONS, CrossFitted(solved_P, solved_R, None)),
        cost=mean_over_problems(cost_P, resampling, -np.inf),
    )
