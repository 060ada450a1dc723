"""Records of earlier formats: what they hold is read, and carried over whole; newer ones are left alone."""

import json
import sqlite3
import zlib
from contextlib import closing

import pytest

from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.store import RUN_SET, SCHEMA_VERSION, Graded, Sample, Slot, Store, StoreError
from alphamix.ensemble.store.rows import compress
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

FORMAT_1 = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE slots (
    slot INTEGER PRIMARY KEY, policy TEXT NOT NULL, problem TEXT NOT NULL, sample_index INTEGER NOT NULL,
    seed INTEGER NOT NULL, UNIQUE (policy, problem, sample_index)
);
CREATE TABLE samples (
    slot INTEGER PRIMARY KEY REFERENCES slots, completion BLOB NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL
);
CREATE TABLE verdicts (
    slot INTEGER PRIMARY KEY REFERENCES samples, verdict TEXT NOT NULL, failure TEXT, tests_passed INTEGER NOT NULL,
    num_tests INTEGER NOT NULL, first_failed_test INTEGER, cpu_s REAL NOT NULL, peak_rss_mb REAL NOT NULL,
    message TEXT NOT NULL, judge INTEGER NOT NULL REFERENCES judges
);
CREATE TABLE judges (judge INTEGER PRIMARY KEY, description TEXT NOT NULL UNIQUE);
PRAGMA journal_mode=WAL;
"""
FORMAT_2 = """
ALTER TABLE verdicts ADD COLUMN forgeable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE verdicts ADD COLUMN passed_tests TEXT;
"""
ABOUT = {"problems": "hash", "sampling.setting": '"reasoning"', "policies.low": "hash", "policies.high": "hash"}
SLOTS = [
    Slot(6 * m + 3 * p + index, policy, problem, index, 100 + index)
    for m, policy in enumerate(["low", "high"])
    for p, problem in enumerate(["z", "a"])
    for index in range(3)
]
SAMPLES = [Sample(slot, Completion(f"print({slot.number}) # \ud800", "stop", 5, 7, 0.5), 1.5) for slot in SLOTS[:10]]
GRADED = [
    Graded(slot, Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5, forgeable=True, passed_tests=(True,) * 3), None)
    if slot.number % 2
    else Graded(slot, Judgement(Verdict.WA, 2, 3, 2, 0.02, 2.5, "answered 'ü'"), Failure.CORRECTNESS)
    for slot in SLOTS[:9]
]


def write_older(path, version):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)
        db.executemany("INSERT INTO about VALUES (?, ?)", ABOUT.items())
        db.executemany(
            "INSERT INTO slots VALUES (?, ?, ?, ?, ?)",
            [(slot.number, slot.policy, slot.problem, slot.index, slot.seed) for slot in SLOTS],
        )
        db.executemany(
            "INSERT INTO samples VALUES (?, ?, 'stop', 5, 7, 0.5, 1.5)",
            [(s.slot.number, zlib.compress(s.completion.text.encode("utf-8", "surrogatepass"))) for s in SAMPLES],
        )
        db.execute("INSERT INTO judges VALUES (1, 'the judge')")
        for one in GRADED:
            judged = one.judgement
            row = (one.slot.number, judged.verdict, one.failure, judged.tests_passed, 3, judged.first_failed_test)
            db.execute(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
                (*row, judged.cpu_s, judged.peak_rss_mb, judged.message),
            )
        if version > 1:
            db.executescript(FORMAT_2)
            for one in GRADED:
                passed = one.judgement.passed_tests and json.dumps(one.judgement.passed_tests)
                db.execute(
                    "UPDATE verdicts SET forgeable = ?, passed_tests = ? WHERE slot = ?",
                    (one.judgement.forgeable, passed, one.slot.number),
                )
        db.execute(f"PRAGMA user_version={version}")
        db.commit()


def check_content(store):
    assert store.about() == ABOUT
    assert [slot for policy in ("low", "high") for slot in store.slots(policy)] == SLOTS
    assert store.owed("low") == set()
    assert store.owed("high") == {10, 11}
    assert list(store.owed_slots("high")) == SLOTS[10:]
    assert list(store.samples()) == SAMPLES
    assert list(store.ungraded()) == SAMPLES[9:]
    assert store.ungraded_numbers() == [9]
    assert list(store.samples_of([8, 0])) == [SAMPLES[8], SAMPLES[0]]
    assert store.verdicts()["slot"].tolist() == list(range(9))
    assert {policy: (came.samples, came.counted) for policy, came in store.recent(0.0).items()} == {
        "low": (6, 6),
        "high": (4, 4),
    }
    assert {policy: counts.total() for policy, counts in store.verdict_counts().items()} == {"low": 6, "high": 3}
    progress = store.progress()
    assert progress.index.tolist() == ["low", "high"]
    assert progress.to_numpy().tolist() == [[6, 6, 6, 42, 3.0], [6, 4, 3, 28, 2.0]]
    (verdict_set,) = store.verdict_sets()
    assert (verdict_set.name, verdict_set.graded, verdict_set.is_current) == (RUN_SET, 9, True)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_record_of_format_2_opens_with_all_that_it_holds(tmp_path, read_only):
    path = tmp_path / "run.sqlite"
    write_older(path, 2)
    before = path.read_bytes()
    with Store(path, read_only=read_only) as store:
        check_content(store)
        assert list(store.graded()) == [(one, "the judge") for one in GRADED]
        table = store.tally(0.6)
        assert table[["policy", "problem", "n", "c"]].to_numpy().tolist() == [
            ["low", "z", 3, 3],
            ["low", "a", 3, 3],
            ["high", "z", 3, 3],
        ]
    assert (path.read_bytes() == before) == read_only


def test_a_record_of_format_1_is_brought_up_to_date_by_a_writer(tmp_path):
    path = tmp_path / "run.sqlite"
    write_older(path, 1)
    with pytest.raises(StoreError, match=r"older alphamix \(format 1\): `alphamix report .*` brings it up to date"):
        Store(path, read_only=True)
    Store(path).close()
    with Store(path, read_only=True) as store:
        check_content(store)
        assert [(one.judgement.verdict, one.judgement.message) for one, _ in store.graded()] == [
            (one.judgement.verdict, one.judgement.message) for one in GRADED
        ]


def test_a_record_that_was_brought_up_to_date_goes_on(tmp_path):
    path = tmp_path / "run.sqlite"
    write_older(path, 2)
    with Store(path) as store:
        completion = Completion("new", "length", 1, 2, 0.25)
        store.add_samples([Sample(slot, completion, 2.0) for slot in SLOTS])
        assert [sample.completion.text for sample in store.samples()][-3:] == [SAMPLES[9].completion.text, "new", "new"]
        store.add_verdicts([Graded(slot, GRADED[1].judgement, None) for slot in SLOTS], "a newer judge")
        assert count_outcomes(store).num_samples_MP.tolist() == [[3, 3], [3, 3]]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_an_upgrade_that_is_cut_off_leaves_the_older_record(tmp_path, monkeypatch):
    path = tmp_path / "run.sqlite"
    write_older(path, 2)
    broken = "CREATE TABLE IF NOT EXISTS torn (x); INSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr("alphamix.ensemble.store.schema._STEPS", {2: broken})
    with pytest.raises(StoreError, match="nowhere"):
        Store(path)
    monkeypatch.undo()
    with Store(path, read_only=True) as store:
        check_content(store)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_record_is_left_alone(tmp_path, read_only):
    path = tmp_path / "run.sqlite"
    with Store(path) as store:
        store.plan(SLOTS, ABOUT)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    message = f"newer alphamix .its format is {SCHEMA_VERSION + 1}, this one reads up to {SCHEMA_VERSION}.: upgrade"
    with pytest.raises(StoreError, match=message):
        Store(path, read_only=read_only)


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "run.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(StoreError, match="no run's record: give another folder"):
        Store(path)
    with pytest.raises(StoreError, match="holds no run yet"):
        Store(path, read_only=True)


def test_texts_are_smaller_than_they_were():
    text = "We add both numbers and print them.\n```python\nprint(sum(map(int, input().split())))\n```\n" * 20
    assert len(compress(text)) < len(text) / 5
