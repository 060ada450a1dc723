"""The samples of each cell in the order in which they are handed out, and how far they carry a strategy.

A run draws the samples that are missing and follows the strategy again. A replay puts the n samples of every cell of a
table of outcomes in a random order and hands them out without replacement; no sample is invented, so a strategy that
asks for more than a cell holds is refused. Axes: `M` policies, `P` problems, `T` samples of a cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, Strategy
from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.outcomes.table import Outcomes


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

    def next_correct(self, state: AdaptiveState, asked_MP: Ints) -> Ints:
        """Return how many of the next samples of each cell were accepted, `[M, P]`."""
        return self.num_correct(state.num_samples_MP + asked_MP) - state.num_correct_MP

    def of(self, problems: Ints) -> Self:
        """Return the streams of the problems with these indices, which may repeat."""
        return type(self)(self.accepted_MPT[:, problems], self.num_samples_MP[:, problems])

    @cached_property
    def _num_correct_MPT(self) -> Ints:
        """Accepted samples among the first t of each cell, for t from 0."""
        none_MP1 = np.zeros((*self.num_samples_MP.shape, 1), np.int64)
        return np.concatenate([none_MP1, self.accepted_MPT.cumsum(axis=2)], axis=2)


@dataclass(frozen=True)
class EndlessStreams:
    """The samples that were drawn, and after them as many as are asked for, accepted at given rates."""

    drawn: SampleStreams
    rate_MP: Floats
    """`[M, P]` chance that a sample which was not drawn is accepted."""
    rng: np.random.Generator

    @property
    def num_samples_MP(self) -> Ints:
        """No end, `[M, P]`."""
        return np.full(self.rate_MP.shape, np.iinfo(np.int64).max)

    def next_correct(self, state: AdaptiveState, asked_MP: Ints) -> Ints:
        """Return how many of the next samples of each cell are accepted, `[M, P]`."""
        held_MP = self.drawn.num_samples_MP
        begin_MP = np.minimum(state.num_samples_MP, held_MP)
        end_MP = np.minimum(state.num_samples_MP + asked_MP, held_MP)
        seen_MP = self.drawn.num_correct(end_MP) - self.drawn.num_correct(begin_MP)
        return seen_MP + self.rng.binomial(asked_MP - (end_MP - begin_MP), self.rate_MP)

    def of(self, problems: Ints) -> Self:
        """Return the streams of the problems with these indices, which may repeat."""
        return replace(self, drawn=self.drawn.of(problems), rate_MP=self.rate_MP[:, problems])


Streams = SampleStreams | EndlessStreams


def follow(strategy: Strategy, streams: Streams, state: AdaptiveState) -> tuple[AdaptiveState, Ints | None]:
    """Follow a strategy until it is done, or asks for more samples than the streams hold.

    An interrupted run continues from its `state`.

    Returns:
        The last state, and how many samples of each cell the next step needs, `[M, P]`; None when the strategy is done.
    """
    while (asked_MP := strategy.ask(state)).any():
        needed_MP = state.num_samples_MP + asked_MP
        if np.any(needed_MP > streams.num_samples_MP):
            return state, needed_MP
        state = state.tell(asked_MP, streams.next_correct(state, asked_MP))
    return state, None


class Play(NamedTuple):
    """A strategy, followed to its end."""

    streams: Streams
    end: AdaptiveState


def replay(strategy: Strategy, outcomes: Outcomes, budget: Budget, seed: int, num_replays: int) -> Iterator[Play]:
    """Play a strategy several times, each time with the samples in another order.

    Raises:
        AdaptiveError: the strategy asks for more samples than a cell holds.
        OutcomesError: the outcomes come from a run that itself stopped early.
    """
    outcomes.check_fixed_size()
    for number in range(num_replays):
        rng = np.random.default_rng([seed, number])
        accepted_MPT = shuffled(outcomes.num_samples_MP, outcomes.num_correct_MP, rng)
        streams = SampleStreams(accepted_MPT, outcomes.num_samples_MP)
        start = AdaptiveState.empty(len(outcomes.problems), budget, seed=int(rng.integers(2**32)))
        yield Play(streams, play(strategy, streams, start))


def play(strategy: Strategy, streams: Streams, state: AdaptiveState) -> AdaptiveState:
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
    key_MPT = rng.random((*num_samples_MP.shape, int(num_samples_MP.max())))
    key_MPT[np.arange(key_MPT.shape[-1]) >= num_samples_MP[:, :, None]] = np.inf
    # Of the samples of a cell, the first c are the accepted ones, and sorting random keys says which comes when.
    return key_MPT.argsort(axis=2, kind="stable") < num_correct_MP[:, :, None]
