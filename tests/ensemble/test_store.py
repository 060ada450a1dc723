"""The record of a run: planned once, each slot whole or not at all, one writer."""

import pytest

from ensemble.store import Graded, Sample, Slot, Store, StoreError
from grading.types import Judgement, Verdict
from policies.types import Completion

SLOTS = [Slot(number, "low", "p", number, 100 + number) for number in range(4)]
COMPLETION = Completion("print(1) # ü \ud800", "stop", 5, 7, 0.5)


def sample(slot):
    return Sample(slot, COMPLETION, 1.0)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "run.sqlite") as store:
        store.plan(SLOTS, {"problems": "hash"})
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
    assert store.verdicts()["judge_description"].tolist() == ["strict", "weak"]
    assert store.progress().loc["low"].tolist() == [4, 2, 2, 14]


def test_a_group_of_samples_is_stored_whole_or_not_at_all(store):
    broken = Sample(Slot(99, "low", "p", 99, 1), Completion("x", None, 1, 1, 0.1), 1.0)
    with pytest.raises(Exception, match="NOT NULL"):
        store.add_samples([sample(SLOTS[0]), broken])
    assert store.owed("low") == {0, 1, 2, 3}


def test_a_second_writer_is_told_and_a_reader_is_let_in(store, tmp_path):
    with pytest.raises(StoreError, match="another process is working on"):
        Store(tmp_path / "run.sqlite")
    with Store(tmp_path / "run.sqlite", read_only=True) as reader:
        assert reader.about() == {"problems": "hash"}


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "nothing.sqlite", read_only=True)
    (tmp_path / "run.sqlite").write_text("not a database, but long enough to be looked at as one\n" * 40)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path / "run.sqlite")
