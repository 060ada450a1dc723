"""From a plan to completions: which slots there are, and how the owed ones are asked for.

Knows policies by name and problems by statement; never hears of verdicts.
"""

import hashlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence

from ensemble.experiment import SamplingSection
from ensemble.settings import reasoning
from ensemble.store import Sample, Slot, Store
from grading.types import Problem
from policies.types import Completion, Engine, EngineFailure, Request, SamplingParameters

Sampled = Sample | tuple[Slot, EngineFailure]
"""What became of a slot; after a failure it is still owed."""


def plan_slots(policies: Sequence[str], problems: Sequence[Problem], samples: int, seed: int) -> Iterator[Slot]:
    """Number every slot of a run, policy by policy, so that any two runs with one seed plan the same.

    Seeds differ between the slots of a policy and problem, since equal seeds would give equal completions, and
    between policies, since estimators of an allocation need independent draws. They fit 32 bits, as servers ask.
    """
    number = 0
    for policy in policies:
        for problem in problems:
            cell = hashlib.sha256(f"{seed}\0{policy}\0{problem.id}".encode()).digest()
            first_seed = int.from_bytes(cell[:4], "little")
            for index in range(samples):
                yield Slot(number, policy, problem.id, index, (first_seed + index) % 2**31)
                number += 1


def sample_owed(
    store: Store, policy: str, engine: Engine, problems: Mapping[str, Problem], section: SamplingSection
) -> Generator[list[Sampled]]:
    """Ask for all samples that a policy owes, store what comes, and yield it in groups as it comes.

    An engine that is reproducible gets the very batches of the plan, and a batch is stored whole: a run that was cut
    off asks for the cut batch again and gets the same samples as a run that was not. Other engines are asked only
    for what is owed, and each answer is stored at once, since it may have cost money.
    """
    slots, owed = store.slots(policy), store.owed(policy)
    if engine.reproducible:
        size = section.batch_size
        batches = [slots[start : start + size] for start in range(0, len(slots), size)]
        for batch in batches:
            if any(slot.number in owed for slot in batch):
                group = [result for result in _ask(engine, batch, problems, section) if _slot(result).number in owed]
                yield _stored(store, group)
    else:
        for result in _ask(engine, [slot for slot in slots if slot.number in owed], problems, section):
            yield _stored(store, [result])


def _ask(
    engine: Engine, slots: Sequence[Slot], problems: Mapping[str, Problem], section: SamplingSection
) -> Iterator[Sampled]:
    parameters = SamplingParameters(section.temperature, section.top_p, section.max_tokens, tuple(section.stop))
    requests = [
        Request(reasoning.messages(problems[slot.problem], section.prompt), slot.seed, parameters) for slot in slots
    ]
    for reply in engine.sample(requests):
        slot = slots[reply.index]
        match reply.outcome:
            case Completion() as completion:
                yield Sample(slot, completion, time.time())
            case EngineFailure() as failure:
                yield slot, failure


def _stored(store: Store, group: list[Sampled]) -> list[Sampled]:
    store.add_samples([result for result in group if isinstance(result, Sample)])
    return group


def _slot(result: Sampled) -> Slot:
    return result.slot if isinstance(result, Sample) else result[0]
