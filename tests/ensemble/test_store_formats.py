"""Records of other formats are left alone, and refused with a reason."""

import sqlite3
from contextlib import closing

import pytest

from alphamix.ensemble.store import SCHEMA_VERSION, Slot, Store, StoreError
from alphamix.ensemble.store.rows import compress

ABOUT = {"problems": "hash"}
SLOTS = [Slot(number, "low", "p", number, 100 + number) for number in range(3)]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            SCHEMA_VERSION + 1,
            rf"newer alphamix \(its format is {SCHEMA_VERSION + 1}, this one reads 3 to {SCHEMA_VERSION}\)",
        ),
        (1, r"before the first release \(its format is 1, this one reads 3 to 5\): run the experiment again"),
        (2, r"before the first release \(its format is 2, this one reads 3 to 5\): run the experiment again"),
    ],
)
def test_a_record_of_another_format_is_left_alone(tmp_path, version, message, read_only):
    path = tmp_path / "run.sqlite"
    with Store(path) as store:
        store.plan(SLOTS, ABOUT)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Store(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "run.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(StoreError, match="no run's record: give another folder"):
        Store(path)
    with pytest.raises(StoreError, match="contains no run yet"):
        Store(path, read_only=True)


def test_texts_are_smaller_than_they_were():
    text = "We add both numbers and print them.\n```python\nprint(sum(map(int, input().split())))\n```\n" * 20
    assert len(compress(text)) < len(text) / 5
