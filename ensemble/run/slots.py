"""From a plan to completions: which slots there are, and how the owed ones are asked for.

Knows policies by name and problems by statement; never hears of verdicts.
"""

import hashlib
import time
from array import array
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import overload

import numpy as np

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.schema import SamplingSection
from alphamix.ensemble.run.spend_limit import UNLIMITED, SpendLimit
from alphamix.ensemble.settings import reasoning
from alphamix.ensemble.store import Sample, Slot, Store
from alphamix.grading.types import Problem
from alphamix.policies.types import Completion, Engine, EngineFailure, Prompt, Request, SamplingParameters

Sampled = Sample | tuple[Slot, EngineFailure]
"""What became of a slot; after a failure it is still owed."""


def plan_slots(
    policies: Sequence[str],
    problems: Sequence[Problem],
    samples: Ints | int,
    seed: int,
    *,
    planned: Ints | int = 0,
    first_number: int = 0,
) -> Iterator[Slot]:
    """Number every slot of a run, policy by policy, so that any two runs with one seed plan the same.

    Seeds differ between the slots of a policy and problem, since equal seeds would give equal completions, and
    between policies, since estimators of an allocation need independent draws. They fit 32 bits, as servers ask.

    Args:
        policies: names.
        problems: all of the run.
        samples: how many slots each policy has at each problem, `[M, P]` or the same for all.
        seed: of the run.
        planned: how many of these are planned already, and not yielded.
        first_number: of the slots.
    """
    shape = (len(policies), len(problems))
    end_MP, start_MP = np.broadcast_to(samples, shape), np.broadcast_to(planned, shape)
    number = first_number
    for policy, end_P, start_P in zip(policies, end_MP.tolist(), start_MP.tolist(), strict=True):
        for problem, end, start in zip(problems, end_P, start_P, strict=True):
            cell = hashlib.sha256(f"{seed}\0{policy}\0{problem.id}".encode()).digest()
            first_seed = int.from_bytes(cell[:4], "little")
            for index in range(start, end):
                yield Slot(number, policy, problem.id, index, (first_seed + index) % 2**31)
                number += 1


def sample_owed(
    store: Store,
    policy: str,
    engine: Engine,
    problems: Mapping[str, Problem],
    section: SamplingSection,
    allowance: SpendLimit = UNLIMITED,
) -> Generator[list[Sampled]]:
    """Ask for all samples that a policy owes, and yield them as they come, in groups that are to be stored whole.

    An engine that is reproducible gets the very batches of the plan: a run that was cut off asks for the cut batch
    again and gets the same samples as a run that was not. Other engines are asked only for what is owed, and each
    answer is a group, since it may have cost money; they take neighbours together as they see fit (`choices`). Ends
    early, and leaves the rest owed, when the allowance is spent.
    """
    if engine.reproducible:
        yield from _by_batch(store, policy, engine, problems, section, allowance)
        return
    slots = Slots(policy, store.owed_slots(policy))
    start = 0
    while start < len(slots) and (granted := allowance.grant(policy, len(slots) - start)):
        part = slots if granted == len(slots) else slots[start : start + granted]
        with closing(_settled(policy, _ask(engine, part, problems, section), allowance, granted)) as results:
            for one in results:
                yield [one]
        start += granted


def _by_batch(
    store: Store,
    policy: str,
    engine: Engine,
    problems: Mapping[str, Problem],
    section: SamplingSection,
    allowance: SpendLimit,
) -> Generator[list[Sampled]]:
    owed = store.owed(policy)
    slots = Slots(policy, store.slots(policy))
    for start in range(0, len(slots), section.batch_size):
        batch = slots[start : start + section.batch_size]
        num_owed = sum(slot.number in owed for slot in batch)
        if not num_owed:
            continue
        if not allowance.grant(policy, num_owed, whole=True):
            return
        results = (one for one in _ask(engine, batch, problems, section) if slot_of(one).number in owed)
        yield list(_settled(policy, results, allowance, num_owed))


def _settled(policy: str, results: Iterable[Sampled], allowance: SpendLimit, granted: int) -> Generator[Sampled]:
    """Pass results on and tell the allowance what they cost; what does not come is given back."""
    try:
        for one in results:
            granted -= 1
            if isinstance(one, Sample):
                allowance.settle(policy, 1, one.completion.completion_tokens, one.completion.seconds)
            else:
                allowance.settle(policy, 0, lost=1)
            yield one
    finally:
        allowance.settle(policy, 0, lost=granted)


class Slots(Sequence[Slot]):
    """Slots of one policy, kept as runs of neighbours: their numbers, indices and seeds count up together.

    A million planned samples are as many runs as there are problems, or a few more where seeds begin anew at 2³¹.
    """

    def __init__(self, policy: str, slots: Iterable[Slot]) -> None:
        self._policy = policy
        self._problems: list[str] = []
        """Of each run."""
        self._places, self._numbers, self._indices, self._seeds = array("q"), array("q"), array("q"), array("q")
        """Of each run's first slot; `places` in this sequence."""
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


def slot_of(result: Sampled) -> Slot:
    """The slot that a result is for."""
    return result.slot if isinstance(result, Sample) else result[0]


def _ask(
    engine: Engine, slots: Sequence[Slot], problems: Mapping[str, Problem], section: SamplingSection
) -> Iterator[Sampled]:
    requests = _Requests(slots, problems, section)
    for reply in engine.sample(list(requests) if engine.reproducible else requests):
        slot = slots[reply.index]
        match reply.outcome:
            case Completion() as completion:
                yield Sample(slot, completion, time.time())
            case EngineFailure() as failure:
                yield slot, failure


class _Requests(Sequence[Request]):
    """The requests for slots, each made when it is looked at: a million of them take no room."""

    def __init__(self, slots: Sequence[Slot], problems: Mapping[str, Problem], section: SamplingSection) -> None:
        self._slots = slots
        self._problems = problems
        self._prompt = section.prompt
        self._parameters = SamplingParameters(
            section.temperature, section.top_p, section.max_tokens, tuple(section.stop)
        )
        self._last: tuple[str, Prompt] = ("", "")

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._request(slot) for slot in self._slots[index]]
        return self._request(self._slots[index])

    def _request(self, slot: Slot) -> Request:
        if self._last[0] != slot.problem:
            self._last = slot.problem, reasoning.messages(self._problems[slot.problem], self._prompt)
        return Request(self._last[1], slot.seed, self._parameters)
