"""A record of 100,000 samples: what opening, owing and counting read and hold, in counts and bytes, not seconds."""

import sqlite3
import tracemalloc

import pytest

from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Graded, Sample, Slot, Store
from alphamix.grading.nested_coverage import clears
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

POLICIES, PROBLEMS, DRAWS = 4, 100, 250
NUM_SLOTS = POLICIES * PROBLEMS * DRAWS
STEPS_PER_SLOT = 100
"""Most instructions of SQLite's virtual machine for one slot: a pass with a look-up or two takes a few dozen."""
ABOUT = {"sampling.setting": '"reasoning"', **{f"policies.m{m}": "hash" for m in range(POLICIES)}}


def slots():
    number = 0
    for m in range(POLICIES):
        for p in range(PROBLEMS):
            for index in range(DRAWS):
                yield Slot(number, f"m{m}", f"problem-{p}", index, number)
                number += 1


def graded(slot):
    num_tests = 1 + slot.number % 37
    passed = num_tests if slot.number % 3 == 0 else slot.number % num_tests
    judgement = Judgement(Verdict.AC if passed == num_tests else Verdict.WA, passed, num_tests, None, 0.1, 1.0)
    return Graded(slot, judgement, None if passed == num_tests else Failure.CORRECTNESS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / STORE_NAME
    with Store(path) as store, store.transaction():
        store.plan(slots(), ABOUT)
        drawn = [slot for slot in slots() if slot.number % 50]
        store.add_samples([Sample(slot, Completion("x" * 50, "stop", 1, slot.number % 7, 0.5), 1.0) for slot in drawn])
        store.add_verdicts([graded(slot) for slot in drawn if slot.number % 100 != 1], "{}")
    return path


class Watch:
    """Counts the virtual machine's instructions, in thousands, and notes the tables that are read."""

    def __init__(self, store):
        self.thousands = 0
        self.tables = set()
        store._db.set_progress_handler(self._step, 1000)
        store._db.set_authorizer(self._read)

    def _step(self):
        self.thousands += 1

    def _read(self, action, table, *_):
        if action == sqlite3.SQLITE_READ:
            self.tables.add(table)
        return sqlite3.SQLITE_OK


WORK = {
    "open": lambda store: store.about(),
    "progress": lambda store: store.progress(),
    "recent": lambda store: store.recent(0.0),
    "verdict counts": lambda store: store.verdict_counts(),
    "owed": lambda store: [store.owed(f"m{m}") for m in range(POLICIES)],
    "owed slots": lambda store: [sum(1 for _ in store.owed_slots(f"m{m}")) for m in range(POLICIES)],
    "ungraded": lambda store: store.ungraded_numbers(),
    "sets": lambda store: store.verdict_sets(),
    "count": lambda store: count_outcomes(store),
    "level": lambda store: count_outcomes(store, 0.3),
    "find": lambda store: [store.find("m3", "problem-99", index) for index in range(DRAWS)],
}


@pytest.mark.parametrize("what", WORK)
@pytest.mark.slow
def test_no_text_is_read_and_every_slot_a_few_times_at_most(path, what):
    with Store(path, read_only=True) as store:
        watch = Watch(store)
        tracemalloc.start()
        try:
            WORK[what](store)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "texts" not in watch.tables
    assert 1000 * watch.thousands <= STEPS_PER_SLOT * NUM_SLOTS
    assert peak_bytes < 3_000_000  # 30 for each slot: there are no rows in Python


def test_the_counts_are_those_of_a_loop_over_all_samples(path):
    for level in (1.0, 0.3, 0.1):
        with Store(path, read_only=True) as store:
            outcomes = count_outcomes(store, level)
            progress = store.progress()
        num_samples = {(m, p): 0 for m in range(POLICIES) for p in range(PROBLEMS)}
        num_correct, num_tokens = dict(num_samples), dict(num_samples)
        for slot in slots():
            if slot.number % 50 and slot.number % 100 != 1:
                cell = slot.number // (PROBLEMS * DRAWS), slot.number // DRAWS % PROBLEMS
                judgement = graded(slot).judgement
                num_samples[cell] += 1
                num_correct[cell] += clears(judgement.tests_passed, judgement.num_tests, level)
                num_tokens[cell] += slot.number % 7
        assert outcomes.num_samples_MP.ravel().tolist() == list(num_samples.values())
        assert outcomes.num_correct_MP.ravel().tolist() == list(num_correct.values())
        failed = outcomes.num_failures_MP["correctness"] + outcomes.num_correct_MP
        assert failed.tolist() == outcomes.num_samples_MP.tolist()
        tokens = [num_tokens[cell] / num_samples[cell] for cell in num_samples]
        assert outcomes.costs_MP["tokens"].ravel().tolist() == pytest.approx(tokens, rel=1e-12)
    assert progress["planned"].tolist() == [NUM_SLOTS // POLICIES] * POLICIES
    assert progress["sampled"].sum() == NUM_SLOTS * 49 // 50
    assert progress["graded"].sum() == NUM_SLOTS * 97 // 100
    assert progress.index.tolist() == [f"m{m}" for m in range(POLICIES)]


def test_planning_holds_no_list_of_slots(tmp_path):
    with Store(tmp_path / STORE_NAME) as store:
        tracemalloc.start()
        try:
            store.plan(slots(), ABOUT)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert store.cells()[:: PROBLEMS - 1][:2] == [("m0", "problem-0"), ("m0", "problem-99")]
        assert len(store.owed("m3")) == PROBLEMS * DRAWS
    assert peak_bytes < 3_000_000


def test_pages_of_samples_are_read_once_also_while_writing(tmp_path):
    """Samples come in the order of the plan, each once, though verdicts are written meanwhile."""
    some = [slot for slot in slots() if slot.number < 1000]
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(some, ABOUT)
        store.add_samples([Sample(slot, Completion("", "stop", 1, 1, 0.5), 1.0) for slot in some])
        seen = []
        for sample in store.ungraded(RUN_SET):
            seen.append(sample.slot)
            store.add_verdicts([graded(sample.slot)], "{}")
        assert seen == some
        assert not store.ungraded_numbers()
