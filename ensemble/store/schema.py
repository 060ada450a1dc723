"""The tables of a run's record, and what makes older formats readable.

Texts stand apart from the rest of a sample, and names apart from slots, so that counting reads neither. Of each cell
the first `num_fixed` slots were planned whatever was drawn, those beyond because of what was drawn (adaptive arms):
pass@k is estimated from the former alone. A writer brings an older file up to date; a reader, who may change nothing,
sees one of format 2 through views.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path

from alphamix.ensemble.store.rows import StoreError

RUN_SET = "run"
"""The set of verdicts that the run itself gives."""

_TABLES = f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cells (
    cell INTEGER PRIMARY KEY, policy TEXT NOT NULL, problem TEXT NOT NULL, num_fixed INTEGER NOT NULL,
    UNIQUE (policy, problem)
);
CREATE TABLE slots (
    slot INTEGER PRIMARY KEY, cell INTEGER NOT NULL REFERENCES cells DEFERRABLE INITIALLY DEFERRED,
    sample_index INTEGER NOT NULL, seed INTEGER NOT NULL, UNIQUE (cell, sample_index)
);
CREATE TABLE samples (
    slot INTEGER PRIMARY KEY REFERENCES slots, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
    completion_tokens INTEGER, seconds REAL, created REAL NOT NULL, is_code INTEGER NOT NULL
);
CREATE TABLE texts (slot INTEGER PRIMARY KEY REFERENCES samples, text BLOB NOT NULL);
CREATE TABLE judges (judge INTEGER PRIMARY KEY, description TEXT NOT NULL UNIQUE);
CREATE TABLE verdict_sets (
    verdict_set INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, about TEXT NOT NULL, created REAL NOT NULL,
    is_current INTEGER NOT NULL
);
CREATE UNIQUE INDEX one_is_current ON verdict_sets (is_current) WHERE is_current;
INSERT INTO verdict_sets VALUES (1, '{RUN_SET}', '{{}}', unixepoch(), 1);
CREATE TABLE verdicts (
    verdict_set INTEGER NOT NULL REFERENCES verdict_sets, slot INTEGER NOT NULL REFERENCES samples,
    verdict TEXT NOT NULL, failure TEXT, tests_passed INTEGER NOT NULL, num_tests INTEGER NOT NULL,
    first_failed_test INTEGER, cpu_s REAL NOT NULL, peak_rss_mb REAL NOT NULL, message TEXT NOT NULL,
    forgeable INTEGER NOT NULL, passed_tests TEXT, judge INTEGER NOT NULL REFERENCES judges,
    PRIMARY KEY (verdict_set, slot)
) WITHOUT ROWID;
"""

_FROM_1_TO_2 = """
ALTER TABLE verdicts ADD COLUMN forgeable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE verdicts ADD COLUMN passed_tests TEXT;
"""
_OLD_TABLES = ("about", "slots", "samples", "judges", "verdicts")  # of format 2
_CELLS_OF_2 = "SELECT policy, problem, COUNT(*) AS num_fixed FROM {slots} GROUP BY policy, problem ORDER BY MIN(slot)"
_VERDICTS_OF_2 = (
    "SELECT 1 AS verdict_set, slot, verdict, failure, tests_passed, num_tests, first_failed_test, cpu_s, peak_rss_mb, "
    "message, forgeable, passed_tests, judge FROM {verdicts}"
)
_SAMPLES_OF_2 = (
    "SELECT slot, finish_reason, prompt_tokens, completion_tokens, seconds, created, 0 AS is_code FROM {samples}"
)
_SLOTS_OF_2 = "SELECT slot, cell, sample_index, seed FROM {slots} JOIN cells USING (policy, problem)"
_FROM_2_TO_3 = (
    "".join(f"ALTER TABLE {table} RENAME TO old_{table};" for table in _OLD_TABLES)
    + _TABLES
    + f"""
INSERT INTO about SELECT * FROM old_about WHERE key <> 'samples';
INSERT INTO cells (policy, problem, num_fixed) {_CELLS_OF_2.format(slots="old_slots")};
INSERT INTO slots {_SLOTS_OF_2.format(slots="old_slots")} ORDER BY slot;
INSERT INTO samples {_SAMPLES_OF_2.format(samples="old_samples")};
INSERT INTO texts SELECT slot, completion FROM old_samples;
INSERT INTO judges SELECT * FROM old_judges;
INSERT INTO verdicts {_VERDICTS_OF_2.format(verdicts="old_verdicts")};
"""
    + "".join(f"DROP TABLE old_{table};" for table in ("verdicts", "judges", "samples", "slots", "about"))
)
_STEPS = {0: _TABLES, 1: _FROM_1_TO_2 + _FROM_2_TO_3, 2: _FROM_2_TO_3}
"""What brings each earlier format up to date; 0 is an empty file."""
SCHEMA_VERSION = 3

_VIEWS_OF_2 = f"""
PRAGMA temp_store=MEMORY;
CREATE TEMP TABLE cells (cell INTEGER PRIMARY KEY, policy, problem, num_fixed, UNIQUE (policy, problem));
INSERT INTO cells (policy, problem, num_fixed) {_CELLS_OF_2.format(slots="main.slots")};
CREATE TEMP VIEW slots AS {_SLOTS_OF_2.format(slots="main.slots")};
CREATE TEMP VIEW samples AS {_SAMPLES_OF_2.format(samples="main.samples")};
CREATE TEMP VIEW texts AS SELECT slot, completion AS text FROM main.samples;
CREATE TEMP TABLE verdict_sets AS SELECT 1 AS verdict_set, '{RUN_SET}' AS name, '{{}}' AS about, 0.0 AS created,
    1 AS is_current;
CREATE TEMP VIEW verdicts AS {_VERDICTS_OF_2.format(verdicts="main.verdicts")};
"""


def prepare_for_reading(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a format that cannot be read; show format 2 as if it were of today."""
    version = _version(db, path)
    if version == SCHEMA_VERSION:
        return
    if version == 2:
        db.executescript(_VIEWS_OF_2)
        return
    if version == 0:
        raise StoreError(f"{path} holds no run yet: wait until it has begun, or start it again")
    raise StoreError(
        f"{path} was made by an older alphamix (format {version}): `alphamix report {path.parent}` brings it up to date"
    )


def prepare_for_writing(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of an older format up to date: all of it or nothing."""
    version = _version(db, path)
    if version == 0 and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,):
        raise StoreError(f"{path} is a database, but no run's record: give another folder")
    if version < SCHEMA_VERSION:
        db.executescript(f"BEGIN IMMEDIATE; {_STEPS[version]} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        if version:
            with suppress(sqlite3.OperationalError):  # a disk that has no room to make the file smaller
                db.execute("VACUUM")


def _version(db: sqlite3.Connection, path: Path) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer alphamix (its format is {version}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade alphamix to read it"
        )
    return version
