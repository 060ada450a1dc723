"""The record of one run, in one SQLite file: every planned slot, its sample, its verdict.

What was asked for is on disk before it is asked for: slots are planned first, and what is missing is owed. Every
write is one transaction, so a run killed at any moment has each sample whole or not at all. Nothing here samples,
grades or computes.
"""

import fcntl
import json
import sqlite3
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from ensemble.errors import EnsembleError
from grading.types import Failure, Judgement, Verdict
from policies.types import Completion

STORE_NAME = "run.sqlite"
"""The record of a run inside its folder."""

_SCHEMA = """
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
"""
_FORGEABLE_AND_PASSED_TESTS = """
ALTER TABLE verdicts ADD COLUMN forgeable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE verdicts ADD COLUMN passed_tests TEXT;
"""
_STEPS = (_SCHEMA, _FORGEABLE_AND_PASSED_TESTS)
"""What makes a record, or brings an older one up to date: its version says how many of these it has seen."""
SCHEMA_VERSION = len(_STEPS)


class StoreError(EnsembleError):
    """A run's record cannot be used as asked: the message says why, then what to do."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One numbered place for one sample of one policy at one problem."""

    number: int
    policy: str
    problem: str
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion in its slot."""

    slot: Slot
    completion: Completion
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict on the sample in a slot."""

    slot: Slot
    judgement: Judgement
    failure: Failure | None


class Store:
    """One run's record. Open it in one process at a time; others may read."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with ExitStack() as opening:
            if not read_only:
                opening.enter_context(_sole_writer(path))
            try:
                mode = "ro" if read_only else "rwc"
                uri = f"{path.resolve().as_uri()}?mode={mode}"
                self._db = opening.enter_context(closing(sqlite3.connect(uri, uri=True, isolation_level=None)))
                self._prepare(read_only)
            except sqlite3.DatabaseError as error:
                raise StoreError(
                    f"{path} cannot be opened as a run's record ({error}): name a run's folder, or remove the file "
                    "if it is damaged"
                ) from error
            self._resources = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let other processes in. Safe to call twice."""
        self._resources.close()

    def _prepare(self, read_only: bool) -> None:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} was made by a newer alphamix (format {version}): upgrade to read it")
        if read_only and 0 < version < SCHEMA_VERSION:  # 0: a run that has only just begun
            raise StoreError(
                f"{self.path} was made by an older alphamix (format {version}): "
                f"`alphamix report {self.path.parent}` brings it up to date"
            )
        if read_only:
            return
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        if version < SCHEMA_VERSION:
            steps = "".join(_STEPS[version:])
            self._db.executescript(f"BEGIN; {steps} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")

    def about(self) -> dict[str, str]:
        """What the plan was made from, as given to `plan`; empty before that."""
        return dict(self._db.execute("SELECT key, value FROM about"))

    def plan(self, slots: Iterable[Slot], about: dict[str, str]) -> None:
        """Write down every slot, once and for all."""
        with self._transaction():
            self._db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            self._db.executemany("INSERT INTO slots VALUES (?, ?, ?, ?, ?)", map(astuple, slots))

    def slots(self, policy: str) -> list[Slot]:
        """All planned slots of a policy, in order."""
        rows = self._db.execute("SELECT * FROM slots WHERE policy = ? ORDER BY slot", (policy,))
        return [Slot(*row) for row in rows]

    def owed(self, policy: str) -> set[int]:
        """Numbers of the slots of a policy that have no sample yet."""
        rows = self._db.execute(
            "SELECT slot FROM slots LEFT JOIN samples USING (slot) WHERE policy = ? AND samples.slot IS NULL",
            (policy,),
        )
        return {slot for (slot,) in rows}

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Store samples, all of them or none. A slot that already has one keeps it."""
        rows = [
            (
                sample.slot.number,
                zlib.compress(sample.completion.text.encode("utf-8", "surrogatepass")),
                sample.completion.finish_reason,
                sample.completion.prompt_tokens,
                sample.completion.completion_tokens,
                sample.completion.seconds,
                sample.created,
            )
            for sample in samples
        ]
        with self._transaction():
            self._db.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slot) DO NOTHING", rows)

    def add_verdicts(self, graded: Sequence[Graded], judge: str) -> None:
        """Store verdicts, all of them or none, stamped with a description of the judge."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO judges (description) VALUES (?)", (judge,))
            (judge_number,) = self._db.execute("SELECT judge FROM judges WHERE description = ?", (judge,)).fetchone()
            self._db.executemany(
                f"INSERT INTO verdicts (slot, {_JUDGEMENT}, failure, judge) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slot) DO NOTHING",
                [(one.slot.number, *_row(one.judgement), one.failure, judge_number) for one in graded],
            )

    def ungraded(self) -> Iterator[Sample]:
        """Samples that have no verdict yet."""
        return self._samples("WHERE slot NOT IN (SELECT slot FROM verdicts)")

    def samples(self) -> Iterator[Sample]:
        """All samples, in the order of the plan."""
        return self._samples("")

    def graded(self) -> Iterator[tuple[Graded, str]]:
        """All verdicts, in the order of the plan, each with the description of its judge."""
        rows = self._db.execute(
            f"SELECT slots.*, failure, description, {_JUDGEMENT} "
            "FROM slots JOIN verdicts USING (slot) JOIN judges USING (judge) ORDER BY slot"
        )
        for number, policy, problem, index, seed, failure, description, *row in rows:
            slot = Slot(number, policy, problem, index, seed)
            yield Graded(slot, _judgement(row), None if failure is None else Failure(failure)), description

    def verdicts(self) -> pd.DataFrame:
        """What outcomes are counted from: one row per verdict, in the order of the plan, with the sample's cost."""
        return pd.read_sql_query(
            "SELECT slot, policy, problem, verdict, failure, completion_tokens, seconds "
            "FROM slots JOIN samples USING (slot) JOIN verdicts USING (slot) ORDER BY slot",
            self._db,
        )

    def progress(self) -> pd.DataFrame:
        """Per policy: slots planned, sampled and graded, completion tokens so far."""
        return pd.read_sql_query(
            "SELECT policy, COUNT(*) AS planned, COUNT(samples.slot) AS sampled, COUNT(verdicts.slot) AS graded, "
            "COALESCE(SUM(completion_tokens), 0) AS tokens "
            "FROM slots LEFT JOIN samples USING (slot) LEFT JOIN verdicts USING (slot) "
            "GROUP BY policy ORDER BY MIN(slot)",
            self._db,
            index_col="policy",
        )

    def _samples(self, where: str) -> Iterator[Sample]:
        rows = self._db.execute(f"SELECT * FROM slots JOIN samples USING (slot) {where} ORDER BY slot")
        for *slot, text, finish_reason, prompt_tokens, completion_tokens, seconds, created in rows:
            completion = Completion(
                zlib.decompress(text).decode("utf-8", "surrogatepass"),
                finish_reason,
                prompt_tokens,
                completion_tokens,
                seconds,
            )
            yield Sample(Slot(*slot), completion, created)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


@contextmanager
def _sole_writer(path: Path) -> Generator[None]:
    """Hold a lock that the kernel lets go of however this process ends."""
    with path.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(
                f"another process is working on {path.parent}: wait for it, or give another --output-dir"
            ) from None
        yield


_JUDGEMENT = "verdict, tests_passed, num_tests, first_failed_test, cpu_s, peak_rss_mb, message, forgeable, passed_tests"
"""The columns that hold a judgement, named as its fields and in their order."""


def _row(judgement: Judgement) -> tuple[Any, ...]:
    *plain, passed_tests = astuple(judgement)
    return *plain, None if passed_tests is None else json.dumps(passed_tests)


def _judgement(row: Sequence[Any]) -> Judgement:
    verdict, *plain, forgeable, passed_tests = row
    passed = None if passed_tests is None else tuple(json.loads(passed_tests))
    return Judgement(Verdict(verdict), *plain, forgeable=bool(forgeable), passed_tests=passed)


class _Transaction:
    """All writes of a block, or none."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if error is None else "ROLLBACK")
