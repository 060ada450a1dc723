"""Samples in the order in which they are handed out, and how far a strategy comes with them.

A run draws what is missing and follows the strategy again; a replay refuses to make anything up. Axes: `M` policies,
`P` problems, `T` samples of a cell.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveState, Strategy
from alphamix.ensemble.arrays import Bools, Ints


@dataclass(frozen=True)
class SampleStreams:
    """What became of the samples of every cell, in their order."""

    accepted_MPT: Bools
    """Whether sample t of a cell is accepted; False beyond those that it holds."""
    held_MP: Ints
    """How many samples each cell holds."""

    def num_correct(self, num_samples_MP: Ints) -> Ints:
        """`[M, P]` how many of the first so many samples of each cell are accepted."""
        return np.take_along_axis(self._correct_MPT, num_samples_MP[:, :, None], axis=2)[:, :, 0]

    @cached_property
    def _correct_MPT(self) -> Ints:
        """Accepted among the first t samples, t from 0."""
        none_MP1 = np.zeros((*self.held_MP.shape, 1), np.int64)
        return np.concatenate([none_MP1, self.accepted_MPT.cumsum(axis=2)], axis=2)


def follow(strategy: Strategy, draws: SampleStreams, tally: AdaptiveState) -> tuple[AdaptiveState, Ints | None]:
    """Ask and tell until the strategy is done, or asks for more than the draws hold.

    Args:
        strategy: what to draw next.
        draws: what there is.
        tally: where to start; a run that was cut off goes on from its tally.

    Returns:
        The tally in the end, and `[M, P]` how many samples the next step needs of each cell, None when done.
    """
    while (asked_MP := strategy.ask(tally)).any():
        end_MP = tally.num_samples_MP + asked_MP
        if np.any(end_MP > draws.held_MP):
            return tally, end_MP
        tally = tally.tell(asked_MP, draws.num_correct(end_MP) - tally.num_correct_MP)
    return tally, None
