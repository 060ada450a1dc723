"""From a plan to samples: which slots a run has, and in which batches the owed ones are asked for.

Knows nothing of verdicts, and leaves it to the setting how a problem becomes a request.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from itertools import chain
from typing import NamedTuple, overload

import numpy as np

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.schema import SamplingSection
from alphamix.ensemble.run.spend_limit import UNLIMITED, SpendLimit
from alphamix.ensemble.settings.interleave import interleave
from alphamix.ensemble.settings.setting import Sampled, Setting
from alphamix.ensemble.store import Sample, Slot, Store
from alphamix.grading.types import Problem
from alphamix.policies.types import Engine, SamplingParameters

_REQUESTS_AHEAD = 2
"""Requests at a session for each that may be in flight: some must wait, so that a free place is filled at once."""


def plan_slots(
    policies: Sequence[str],
    problems: Sequence[str],
    samples: Ints | int,
    seed: int,
    *,
    planned: Ints | int = 0,
    first_number: int = 0,
) -> Iterator[Slot]:
    """Number every slot of a run, policy by policy, so that any two runs with one seed plan the same.

    Seeds differ between the slots of a policy and problem, since equal seeds would give equal completions, and
    between policies, since estimators of an allocation need independent draws. They fit 32 bits, as servers require.

    Args:
        policies: names of all policies of the run.
        problems: ids of all problems of the run.
        samples: number of slots of each policy at each problem, `[M, P]` or the same for all.
        seed: of the run.
        planned: number of these slots that are planned already, and are not yielded.
        first_number: number of the first slot.
    """
    shape = (len(policies), len(problems))
    end_MP, start_MP = np.broadcast_to(samples, shape), np.broadcast_to(planned, shape)
    number = first_number
    for policy, end_P, start_P in zip(policies, end_MP.tolist(), start_MP.tolist(), strict=True):
        for problem, end, start in zip(problems, end_P, start_P, strict=True):
            cell = hashlib.sha256(f"{seed}\0{policy}\0{problem}".encode()).digest()
            first_seed = int.from_bytes(cell[:4], "little")
            for index in range(start, end):
                yield Slot(number, policy, problem, index, (first_seed + index) % 2**31)
                number += 1


def sample_owed(
    store: Store,
    policy: str,
    engine: Engine,
    problems: Mapping[str, Problem],
    setting: Setting,
    section: SamplingSection,
    spend_limit: SpendLimit = UNLIMITED,
    *,
    failed_before: float = 0.0,
) -> Generator[list[Sampled]]:
    """Ask for all samples that a policy owes, and yield the outcomes as they come, in groups to be stored together.

    In a setting of one turn, a reproducible engine gets the very batches of the plan: a run that was interrupted in
    mid-batch asks for the whole batch again and gets the same samples as a run that was not. Otherwise engines are
    asked only for what is owed, and each outcome is a group of its own, since it may have cost money; they combine
    neighbours into requests as they see fit (`choices`). Sampling ends early, and leaves the rest owed, when the spend
    limit is reached.

    Slots for which asking has failed come last, and only if it failed before `failed_before` (seconds since the epoch),
    so that what was refused does not hold up what was never asked for.
    """
    parameters = SamplingParameters(
        section.temperature, section.top_p, section.max_tokens, tuple(section.stop), section.thinking
    )
    failed = list(store.failed_slots(policy, failed_before))
    with closing(engine.open_session()) as session:

        def ask(slots: Iterable[Slot]) -> Generator[Sampled]:
            most = max(section.batch_size, _REQUESTS_AHEAD * section.concurrency)
            return interleave(session, setting, slots, problems, parameters, most_requests=most)

        if engine.reproducible and setting.is_one_turn:
            batches = chain(_planned_batches(store, policy, section.batch_size), _parts(failed, section.batch_size))
            yield from _by_batch(policy, batches, ask, spend_limit)
            return
        slots = Slots(policy, chain(store.owed_slots(policy), failed))
        start = 0
        while start < len(slots) and (granted := spend_limit.grant(policy, len(slots) - start)):
            part = slots if granted == len(slots) else slots[start : start + granted]
            with closing(_settled(policy, ask(part), spend_limit, granted)) as results:
                for result in results:
                    yield [result]
            start += granted


class _Batch(NamedTuple):
    """Slots that are asked for together, and the numbers of those whose outcome is wanted."""

    slots: Sequence[Slot]
    wanted: Set[int]


def _planned_batches(store: Store, policy: str, batch_size: int) -> Iterator[_Batch]:
    """Yield the batches of the plan that have a slot for which the policy was not asked."""
    owed = {slot.number for slot in store.owed_slots(policy)}
    for part in _parts(Slots(policy, store.slots(policy)), batch_size):
        if wanted := owed & part.wanted:
            yield _Batch(part.slots, wanted)


def _parts(slots: Sequence[Slot], size: int) -> Iterator[_Batch]:
    for start in range(0, len(slots), size):
        part = slots[start : start + size]
        yield _Batch(part, {slot.number for slot in part})


def _by_batch(
    policy: str, batches: Iterable[_Batch], ask: Callable[[Sequence[Slot]], Iterator[Sampled]], spend_limit: SpendLimit
) -> Generator[list[Sampled]]:
    for batch in batches:
        if not spend_limit.grant(policy, len(batch.wanted), whole=True):
            return
        results = (result for result in ask(batch.slots) if result.slot.number in batch.wanted)
        yield list(_settled(policy, results, spend_limit, len(batch.wanted)))


def _settled(policy: str, results: Iterator[Sampled], spend_limit: SpendLimit, granted: int) -> Generator[Sampled]:
    """Pass outcomes on and settle their cost; grants for samples that do not come are given back."""
    try:
        for result in results:
            granted -= 1
            if isinstance(result, Sample):
                spend_limit.settle(policy, 1, result.completion.completion_tokens, result.completion.seconds)
            else:
                spend_limit.settle(policy, 0, result.lost.completion_tokens, result.lost.seconds, lost=1)
            yield result
    finally:
        spend_limit.settle(policy, 0, lost=granted)


class Slots(Sequence[Slot]):
    """Slots of one policy, stored as runs of neighbours whose numbers, indices and seeds count up together.

    A million planned samples need about one run per problem: a cell has a second one only where its seeds wrap at 2³¹.
    """

    def __init__(self, policy: str, slots: Iterable[Slot]) -> None:
        self._policy = policy
        self._problems: list[str] = []
        """Problem of each run."""
        self._places, self._numbers, self._indices, self._seeds = array("q"), array("q"), array("q"), array("q")
        """Values of each run's first slot; `places` are positions in this sequence."""
        self._length = 0
        last: Slot | None = None
        for slot in slots:
            if last is None or not _follows(last, slot):
                self._problems.append(slot.problem)
                self._places.append(self._length)
                self._numbers.append(slot.number)
                self._indices.append(slot.index)
                self._seeds.append(slot.seed)
            last = slot
            self._length += 1

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Slot: ...
    @overload
    def __getitem__(self, index: slice) -> list[Slot]: ...
    def __getitem__(self, index: int | slice) -> Slot | list[Slot]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(self._length)[index]
        run = bisect_right(self._places, place) - 1
        more = place - self._places[run]
        return Slot(
            self._numbers[run] + more,
            self._policy,
            self._problems[run],
            self._indices[run] + more,
            self._seeds[run] + more,
        )


def _follows(last: Slot, slot: Slot) -> bool:
    return (
        slot.problem == last.problem
        and slot.number == last.number + 1
        and slot.index == last.index + 1
        and slot.seed == last.seed + 1
    )
