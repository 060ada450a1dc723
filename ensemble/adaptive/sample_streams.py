"""The samples of each cell in the order in which they are handed out, and how far they carry a strategy.

A run draws the samples that are missing and follows the strategy again; a replay refuses to go further. Axes: `M`
policies, `P` problems, `T` samples of a cell.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveState, Strategy
from alphamix.ensemble.arrays import Bools, Ints


@dataclass(frozen=True)
class SampleStreams:
    """Verdicts of the samples of every cell, in their order."""

    accepted_MPT: Bools
    """`[M, P, T]` whether sample t of a cell was accepted; False beyond the samples that the cell holds."""
    num_samples_MP: Ints
    """`[M, P]` number of samples that each cell holds."""

    def num_correct(self, num_drawn_MP: Ints) -> Ints:
        """Return how many of the first `num_drawn_MP` samples of each cell were accepted, `[M, P]`."""
        return np.take_along_axis(self._num_correct_MPT, num_drawn_MP[:, :, None], axis=2)[:, :, 0]

    @cached_property
    def _num_correct_MPT(self) -> Ints:
        """Accepted samples among the first t of each cell, for t from 0."""
        none_MP1 = np.zeros((*self.num_samples_MP.shape, 1), np.int64)
        return np.concatenate([none_MP1, self.accepted_MPT.cumsum(axis=2)], axis=2)


def follow(strategy: Strategy, streams: SampleStreams, state: AdaptiveState) -> tuple[AdaptiveState, Ints | None]:
    """Follow a strategy until it is done, or asks for more samples than the streams hold.

    An interrupted run continues from its `state`.

    Returns:
        The last state, and how many samples of each cell the next step needs, `[M, P]`; None when the strategy is done.
    """
    while (asked_MP := strategy.ask(state)).any():
        needed_MP = state.num_samples_MP + asked_MP
        if np.any(needed_MP > streams.num_samples_MP):
            return state, needed_MP
        state = state.tell(asked_MP, streams.num_correct(needed_MP) - state.num_correct_MP)
    return state, None
