"""The tables of a run's record.

Texts are stored apart from the rest of a sample, and names apart from slots, so that counting reads neither. In each
cell the first `num_fixed` slots were planned in advance, and those beyond because of what had been drawn (adaptive
arms): pass@k is estimated from the former alone.

Format 4 added the tables of failures and of kinds of answers, and format 5 those of prompts and transcripts. An older
record gets them when a process opens it for writing; for a reader they are empty.
"""

import sqlite3
from itertools import chain
from pathlib import Path

from alphamix.ensemble.store.rows import StoreError

RUN_SET = "run"
"""Name of the set of verdicts that the run itself makes."""

_ADDED_TABLES = {
    4: (
        "CREATE {kind} failures (slot INTEGER PRIMARY KEY REFERENCES slots, cause TEXT NOT NULL, "
        "message TEXT NOT NULL, tries INTEGER NOT NULL, failed REAL NOT NULL);",
        "CREATE {kind} answer_kinds (slot INTEGER PRIMARY KEY REFERENCES samples, kind TEXT NOT NULL);",
    ),
    5: (
        "CREATE {kind} prompts (prompt INTEGER PRIMARY KEY, id TEXT NOT NULL, hash TEXT NOT NULL, "
        "messages BLOB NOT NULL, UNIQUE (id, hash));",
        # One plain answer, which is the sample's text, takes the place of null messages.
        "CREATE {kind} transcripts (slot INTEGER PRIMARY KEY REFERENCES samples, "
        "prompt INTEGER NOT NULL REFERENCES prompts, ending TEXT NOT NULL, turns INTEGER NOT NULL, "
        "calls INTEGER NOT NULL, new_prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, "
        "tool_characters INTEGER NOT NULL, tool_seconds REAL NOT NULL, messages BLOB);",
        "CREATE {kind} lost_costs (slot INTEGER PRIMARY KEY REFERENCES slots, attempts INTEGER NOT NULL, "
        "lost_tokens INTEGER NOT NULL, lost_seconds REAL NOT NULL);",
    ),
}
"""Tables by the format that added them."""

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

SCHEMA_VERSION = 5
_OLDEST_VERSION = 3


def prepare_reading(db: sqlite3.Connection, path: Path) -> None:
    """Check that a record can be read, and complete an older one by empty tables in memory. Raises StoreError."""
    version = _version(db)
    if version == 0:
        raise StoreError(f"{path} contains no run yet: wait until it has begun, or start it again")
    _check_version(version, path)
    if version < SCHEMA_VERSION:
        db.executescript("PRAGMA temp_store = MEMORY; " + _new_tables("TEMP TABLE", version))


def make_tables(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new record, or those that an older one lacks, all or none.

    Raises StoreError if an existing record cannot be used.
    """
    version = _version(db)
    if version:
        _check_version(version, path)
        if version < SCHEMA_VERSION:
            _change(db, _new_tables("TABLE", version))
    elif db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,):
        raise StoreError(f"{path} is a database, but no run's record: give another folder")
    else:
        _change(db, _TABLES + _new_tables("TABLE", _OLDEST_VERSION))


def _new_tables(kind: str, version: int) -> str:
    """Return the statements that make the tables that a format lacks."""
    lacking = chain.from_iterable(tables for added, tables in _ADDED_TABLES.items() if added > version)
    return " ".join(table.format(kind=kind) for table in lacking)


def _change(db: sqlite3.Connection, statements: str) -> None:
    db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _check_version(version: int, path: Path) -> None:
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer alphamix (its format is {version}, this one reads {_OLDEST_VERSION} to "
            f"{SCHEMA_VERSION}): upgrade alphamix to read it"
        )
    if version < _OLDEST_VERSION:
        raise StoreError(
            f"{path} was made by an alphamix from before the first release (its format is {version}, this one reads "
            f"{_OLDEST_VERSION} to {SCHEMA_VERSION}): run the experiment again in another folder"
        )
