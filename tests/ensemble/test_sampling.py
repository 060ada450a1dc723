"""From a plan to requests: which slots there are, which are asked for, and in which batches."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.schema import SamplingSection
from alphamix.ensemble.run.producer_threads import ProducerEnded, ProducerThreads
from alphamix.ensemble.run.slots import Slots, plan_slots, sample_owed
from alphamix.ensemble.run.spend_limit import SpendLimit
from alphamix.ensemble.settings.reasoning import Reasoning
from alphamix.ensemble.store import STORE_NAME, Sample, Slot, Store
from alphamix.grading.types import Problem
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, Delta, EngineFailure, PolicyError, Request

TEST = {"input": "", "output": ""}
PROBLEMS = [Problem.model_validate({"id": f"p{i}", "statement": f"Do {i}.", "tests": [TEST]}) for i in range(3)]
BY_ID = {problem.id: problem for problem in PROBLEMS}
SECTION = SamplingSection(batch_size=4)
REASONING = Reasoning("{statement}")


class Engine(ScriptedEngine):
    """Keeps the batches that it is asked for."""

    def __init__(self, *, reproducible: bool, fails: frozenset[int] = frozenset()) -> None:
        super().__init__(self.complete, reproducible=reproducible)
        self.batches: list[list[int]] = []
        self.fails = fails

    def complete(self, request: Request) -> Completion | EngineFailure:
        if request.seed in self.fails:
            return EngineFailure("server", "no")
        return Completion(f"{request.prompt} {request.seed}", "stop", 1, 1, 0.0)

    def open_session(self, *, stream: bool = False) -> "Backwards":
        return Backwards(self)


class Backwards:
    """Answers what was submitted together from the last to the first: replies may come in any order."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.waiting: list[Delta] = []
        self.count = 0

    def submit(self, requests: Sequence[Request]) -> int:
        self.engine.batches.append([request.seed for request in requests])
        first = self.count
        self.count += len(requests)
        self.waiting += [Delta(first + i, "", self.engine.complete(request)) for i, request in enumerate(requests)]
        return first

    def receive(self) -> Delta | None:
        return self.waiting.pop() if self.waiting else None

    def wake(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def slots() -> list[Slot]:
    return list(plan_slots(["a", "b"], list(BY_ID), 5, seed=1))


@pytest.fixture
def path(tmp_path: Path, slots: list[Slot]) -> Path:
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(slots, {"made": "here"})
    return tmp_path / STORE_NAME


def test_every_slot_has_a_seed_of_its_own_and_neighbours_follow_each_other(slots: list[Slot]) -> None:
    assert [slot.number for slot in slots] == list(range(30))
    assert len({slot.seed for slot in slots}) == 30
    for before, slot in pairwise(slots):
        if (before.policy, before.problem) == (slot.policy, slot.problem):
            assert slot.seed == before.seed + 1


def test_slots_in_little_room_are_the_slots(slots: list[Slot]) -> None:
    table = Slots("a", slots[:15])
    assert list(table) == slots[:15]
    assert table[4:9] == slots[4:9]
    assert table[-1] == slots[14]


@given(st.lists(st.integers(1, 4), max_size=20), st.sets(st.integers(0, 80)), st.integers(0, 90))
def test_slots_with_holes_and_seeds_that_begin_anew_are_the_slots(sizes: list[int], holes: set[int], end: int) -> None:
    slots: list[Slot] = []
    for problem, size in enumerate(sizes):
        for index in range(size):
            slots.append(Slot(len(slots), "a", f"p{problem}", index, (2**31 - end + len(slots)) % 2**31))
    owed = [slot for slot in slots if slot.number not in holes]
    assert list(Slots("a", owed)) == owed


def test_a_million_planned_slots_take_the_room_of_their_problems() -> None:
    table = Slots("a", (Slot(i, "a", f"p{i // 1000}", i % 1000, i) for i in range(100_000)))
    assert len(table) == 100_000
    assert len(table._places) == 100


def test_each_reply_goes_to_its_slot(path: Path, slots: list[Slot]) -> None:
    with Store(path) as store:
        engine = Engine(reproducible=False)
        groups = list(sample_owed(store, "a", engine, BY_ID, REASONING, SECTION))
    found = [one for group in groups for one in group if isinstance(one, Sample)]
    assert all(len(group) == 1 for group in groups)
    assert sorted(sample.slot.number for sample in found) == list(range(15))
    assert all(sample.completion.text.endswith(f" {sample.slot.seed}") for sample in found)
    assert engine.batches == [[slot.seed for slot in slots[:15]]]


def test_only_what_is_owed_is_asked_for(path: Path, slots: list[Slot]) -> None:
    done = {0, 1, 7, 14}
    with Store(path) as store:
        store.add_samples([Sample(slots[i], Completion("done", "stop", 1, 1, 0.0), 0.0) for i in done])
        engine = Engine(reproducible=False)
        list(sample_owed(store, "a", engine, BY_ID, REASONING, SECTION))
    assert engine.batches == [[slot.seed for slot in slots[:15] if slot.number not in done]]


def test_a_reproducible_engine_gets_the_very_batches_of_the_plan(path: Path, slots: list[Slot]) -> None:
    with Store(path) as store:
        store.add_samples([Sample(slots[i], Completion("done", "stop", 1, 1, 0.0), 0.0) for i in (0, 1, 2, 3, 5)])
        engine = Engine(reproducible=True)
        groups = list(sample_owed(store, "a", engine, BY_ID, REASONING, SECTION))
    seeds = [slot.seed for slot in slots[:15]]
    assert engine.batches == [seeds[4:8], seeds[8:12], seeds[12:]]
    numbers = [sorted(one.slot.number for one in group if isinstance(one, Sample)) for group in groups]
    assert numbers == [[4, 6, 7], [8, 9, 10, 11], [12, 13, 14]]


def test_a_failure_names_its_slot(path: Path, slots: list[Slot]) -> None:
    with Store(path) as store:
        engine = Engine(reproducible=False, fails=frozenset({slots[3].seed}))
        groups = list(sample_owed(store, "a", engine, BY_ID, REASONING, SECTION))
    failed = [one for group in groups for one in group if not isinstance(one, Sample)]
    assert [(one.slot, one.failure) for one in failed] == [(slots[3], EngineFailure("server", "no"))]


def test_lanes_end_alone_and_a_broken_one_says_why() -> None:
    taken: list[int | ProducerEnded] = []

    def counting(upto: int):
        yield from range(upto)
        raise ValueError("broken")

    with ProducerThreads[int](taken.append, ahead=100) as lanes:
        lanes.start(i for i in range(10))
        lanes.start(counting(5))
        while sum(isinstance(one, ProducerEnded) for one in taken) < 2:
            pass
    assert sorted(one for one in taken if not isinstance(one, ProducerEnded)) == sorted([*range(10), *range(5)])
    assert sorted(str(one.error) for one in taken if isinstance(one, ProducerEnded)) == ["None", "broken"]


def test_a_lane_that_is_far_ahead_waits_and_can_be_stopped() -> None:
    taken: list[int | ProducerEnded] = []
    closed: list[bool] = []

    def endless():
        try:
            yield from iter(int, 1)
        finally:
            closed.append(True)

    with ProducerThreads[int](taken.append, ahead=3) as lanes:
        lanes.start(endless())
        while len(taken) < 3:
            pass
        lanes.taken()
        while len(taken) < 4:
            pass
        assert len(taken) == 4
    assert taken[4:] == [ProducerEnded(None)]
    assert closed == [True]


@settings(deadline=None)
@given(st.lists(arrays(np.int64, (2, 3), elements=st.integers(0, 6)), min_size=1, max_size=4))
def test_a_plan_in_several_steps_is_that_in_one(steps: list[Ints]) -> None:
    planned, number = np.zeros((2, 3), np.int64), 0
    slots: list[Slot] = []
    for wanted in steps:
        end = np.maximum(planned, wanted)
        new = list(plan_slots(["a", "b"], list(BY_ID), end, 1, planned=planned, first_number=number))
        slots, planned, number = [*slots, *new], end, number + len(new)
    assert [slot.number for slot in slots] == list(range(len(slots)))
    at_once = plan_slots(["a", "b"], list(BY_ID), planned, 1)
    assert {replace(slot, number=0) for slot in slots} == {replace(slot, number=0) for slot in at_once}


def test_what_was_granted_to_an_engine_that_breaks_is_given_back(path: Path) -> None:
    class Broken(Engine):
        def complete(self, request: Request) -> Completion:
            raise PolicyError("no memory: free some")

    allowance = SpendLimit({"samples": 20}, {}, {"samples": 1})
    for reproducible in (True, False):
        with Store(path) as store, pytest.raises(PolicyError):
            list(sample_owed(store, "a", Broken(reproducible=reproducible), BY_ID, REASONING, SECTION, allowance))
        granted: list[int] = []
        waiting = threading.Thread(
            target=lambda to=granted: to.append(allowance.grant("a", 20, whole=True)), daemon=True
        )
        waiting.start()  # who is owed something waits for ever
        waiting.join(timeout=30)
        assert granted == [20]
        allowance.settle("a", 0, lost=20)
