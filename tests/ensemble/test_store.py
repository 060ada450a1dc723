"""The record of a run: planned once, each slot whole or not at all, one writer."""

import json

import pytest

from alphamix.ensemble.interchange import export
from alphamix.ensemble.interchange.record_schema import SampleKey
from alphamix.ensemble.interchange.verdict_file import VerdictFile
from alphamix.ensemble.store import Graded, Sample, Slot, Store, StoreError
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

SLOTS = [Slot(number, "low", "p", number, 100 + number) for number in range(4)]
ABOUT = {"problems": "hash", "sampling.setting": '"reasoning"', "policies.low": "hash"}
COMPLETION = Completion("print(1) # ü \ud800", "stop", 5, 7, 0.5)


def sample(slot):
    return Sample(slot, COMPLETION, 1.0)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "run.sqlite") as store:
        store.plan(SLOTS, ABOUT)
        yield store


def test_what_is_missing_is_owed(store):
    assert store.owed("low") == {0, 1, 2, 3}
    store.add_samples([sample(SLOTS[1]), sample(SLOTS[2])])
    assert store.owed("low") == {0, 3}
    assert [s.slot.index for s in store.ungraded()] == [1, 2]
    assert next(store.samples()).completion == COMPLETION


def test_a_slot_keeps_its_first_sample(store):
    store.add_samples([sample(SLOTS[0])])
    store.add_samples([Sample(SLOTS[0], Completion("other", "stop", 1, 1, 0.1), 2.0)])
    assert [s.completion.text for s in store.samples()] == [COMPLETION.text]


def test_verdicts_are_stamped_with_their_judge(store):
    store.add_samples([sample(slot) for slot in SLOTS[:2]])
    judgement = Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5)
    store.add_verdicts([Graded(SLOTS[0], judgement, None)], "strict")
    store.add_verdicts([Graded(SLOTS[1], judgement, None)], "weak")
    assert [judge for _, judge in store.graded()] == ["strict", "weak"]
    assert store.judges() == ["strict", "weak"]
    assert store.progress().loc["low"].tolist() == [4, 2, 2, 14, 1.0, 0, 0]


JUDGEMENTS = [
    Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5, forgeable=True, passed_tests=(True, True, True)),
    Judgement(Verdict.WA, 0, 3, 0, 0.02, 2.5, "answered 'ü'", passed_tests=(False, True, False)),
    Judgement(Verdict.FE, 0, 3, None, 0.0, 0.0, "no program in the completion"),
]
GRADED = [
    Graded(slot, judgement, failure)
    for slot, judgement, failure in zip(SLOTS[:3], JUDGEMENTS, [None, Failure.CORRECTNESS, Failure.FORMAT], strict=True)
]


def fill(store):
    store.add_samples([sample(slot) for slot in SLOTS[:3]])
    store.add_verdicts(GRADED, '{"version": "2"}')


def test_judgements_come_back_whole(store):
    fill(store)
    assert list(store.graded()) == [(graded, '{"version": "2"}') for graded in GRADED]


def test_an_export_holds_the_lines_that_grading_writes(store, tmp_path):
    fill(store)
    export(store, tmp_path / "exported")
    with VerdictFile(tmp_path / "graded.jsonl") as file:
        keys = [SampleKey(one.slot.problem, one.slot.policy, one.slot.index) for one in GRADED]
        file.append((key, one.judgement, one.failure, {"version": "2"}) for key, one in zip(keys, GRADED, strict=True))
    exported = tmp_path / "exported" / "verdicts.jsonl"
    assert exported.read_bytes() == (tmp_path / "graded.jsonl").read_bytes()
    lines = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [line.get("forgeable") for line in lines] == [True, None, None]
    assert [line.get("passed_tests") for line in lines] == [[True, True, True], [False, True, False], None]
    samples = (tmp_path / "exported" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["completion"] for line in samples] == [COMPLETION.text] * 3


def test_a_group_of_samples_is_stored_whole_or_not_at_all(store):
    broken = Sample(Slot(99, "low", "p", 99, 1), Completion("x", None, 1, 1, 0.1), 1.0)
    with pytest.raises(Exception, match="NOT NULL"):
        store.add_samples([sample(SLOTS[0]), broken])
    assert store.owed("low") == {0, 1, 2, 3}


def test_a_second_writer_is_told_and_a_reader_is_let_in(store, tmp_path):
    with pytest.raises(StoreError, match="another process is working on"):
        Store(tmp_path / "run.sqlite")
    with Store(tmp_path / "run.sqlite", read_only=True) as reader:
        assert reader.about() == ABOUT


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="holds no run"):
        Store(tmp_path / "nothing.sqlite", read_only=True)
    (tmp_path / "run.sqlite").write_text("not a database, but long enough to be looked at as one\n" * 40)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path / "run.sqlite")


def test_what_was_planned_because_of_draws_is_not_counted_until_it_is_fixed(store):
    more = [Slot(store.next_number() + i, "low", "p", 4 + i, 104 + i) for i in range(2)]
    store.extend(more, {})
    assert store.sizes().iloc[0].tolist() == ["low", "p", 6, 4]
    slots = [*SLOTS, *more]
    store.add_samples([sample(slot) for slot in slots])
    accepted = Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5)
    store.add_verdicts([Graded(slot, accepted, None) for slot in slots], "strict")
    assert store.tally()["n"].tolist() == [4]
    assert len(store.draws()) == 6
    store.extend([Slot(6, "low", "p", 6, 106)], {"low": 7})
    assert store.sizes().iloc[0].tolist() == ["low", "p", 7, 7]
    assert store.tally()["n"].tolist() == [6]


def test_a_new_cell_can_be_planned_later(store):
    store.extend([Slot(4, "high", "p", 0, 7)], {"high": 1})
    assert store.cells() == [("low", "p"), ("high", "p")]
    assert [slot.policy for slot in store.slots("high")] == ["high"]
