"""Replay a strategy against a table of outcomes.

Each replay puts the n samples of every cell in a random order and hands them out without replacement. No sample is
invented: a strategy that asks for more than a cell holds is refused. Axes: `M` policies, `P` problems, `T` samples of
a cell.
"""

import numpy as np

from alphamix.ensemble.adaptive.sample_streams import SampleStreams, follow
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.arrays import Bools, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.outcomes.table import Outcomes


def replay(
    strategy: Strategy, outcomes: Outcomes, budget: Budget, seed: int, num_replays: int = 20
) -> list[AdaptiveState]:
    """Play a strategy several times, each time with the samples in another order, and return the final states.

    Raises:
        AdaptiveError: the strategy asks for more samples than a cell holds.
        OutcomesError: the outcomes come from a run that itself stopped early.
    """
    outcomes.check_fixed_size()
    final_states: list[AdaptiveState] = []
    for number in range(num_replays):
        rng = np.random.default_rng([seed, number])
        accepted_MPT = shuffled(outcomes.num_samples_MP, outcomes.num_correct_MP, rng)
        state = AdaptiveState.empty(len(outcomes.problems), budget, seed=int(rng.integers(2**32)))
        final_states.append(play(strategy, SampleStreams(accepted_MPT, outcomes.num_samples_MP), state))
    return final_states


def play(strategy: Strategy, streams: SampleStreams, state: AdaptiveState) -> AdaptiveState:
    """Follow a strategy to its end and return the final state.

    Raises:
        AdaptiveError: the strategy asks for more samples than a cell holds.
    """
    state, needed_MP = follow(strategy, streams, state)
    if needed_MP is not None:
        m, p = np.argwhere(needed_MP > streams.num_samples_MP)[0]
        raise AdaptiveError(
            f"the strategy asks for sample {needed_MP[m, p]} of policy {m} on problem {p}, which has only "
            f"{streams.num_samples_MP[m, p]}: lower the budget, or draw more samples"
        )
    return state


def shuffled(num_samples_MP: Ints, num_correct_MP: Ints, rng: np.random.Generator) -> Bools:
    """Put the samples of each cell in a random order, `[M, P, T]`; entries beyond a cell's n are False."""
    order_MPT = rng.random((*num_samples_MP.shape, int(num_samples_MP.max())))
    order_MPT[np.arange(order_MPT.shape[-1]) >= num_samples_MP[:, :, None]] = np.inf
    rank_MPT = order_MPT.argsort(axis=2).argsort(axis=2)
    return rank_MPT < num_correct_MP[:, :, None]
