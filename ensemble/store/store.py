"""The record of one run, as all other rooms use it.

A slot is on disk before its sample is asked for; a slot without a sample is owed. Every write is one transaction, so a
run that is killed at any moment has each sample whole or not at all. Samples are read a page at a time, so that writes
may come between. A run itself works on its own set of verdicts; counts are made from the current set (`VerdictSet`).
"""

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pandas as pd

from alphamix.ensemble.store import sql as queries
from alphamix.ensemble.store.connection import open_for_reading, open_for_writing, refusals_named
from alphamix.ensemble.store.rows import (
    JUDGEMENT_COLUMNS,
    FailureCount,
    Graded,
    Recent,
    Sample,
    Slot,
    StoreError,
    VerdictSet,
    compress,
    judgement_of,
    judgement_row,
    sample_of,
    sample_row,
    transcript_of,
    transcript_row,
)
from alphamix.ensemble.store.schema import RUN_SET
from alphamix.ensemble.store.transcripts import AttemptUsage, Ending, Transcript, as_json
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import AnswerKind, EngineFailure

STORE_NAME = "run.sqlite"
"""Name of the record inside a run's folder."""
_PAGE = 256
"""Number of samples that are read at once."""


class Store:
    """The record of one run. One process may open it for writing, and use it in one thread; others may read.

    Where a method takes a verdict set, None stands for the current one.

    Raises:
        StoreError: another process is writing it, it has another format, or it is not a record.
        StoreLostError: its folder is not writable.
    """

    def __init__(self, path: Path, *, read_only: bool = False, create: bool = True) -> None:
        self.path = path
        if (read_only or not create) and not path.is_file():
            raise StoreError(f"{path.parent} holds no run: give the folder of one, or start one with `alphamix run`")
        self._cells: dict[int, tuple[str, str]] = {}
        with ExitStack() as opening:
            self._db = (open_for_reading if read_only else open_for_writing)(path, opening)
            self._resources = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock. Safe to call twice."""
        self._resources.close()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Read the same state throughout a block, whatever other processes write meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Do all writes of a block, or none; inside another such block they are part of it.

        Raises:
            StoreLostError: the disk refuses.
        """
        if self._db.in_transaction:
            yield
            return
        with refusals_named(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back on a full disk
                    with suppress(sqlite3.OperationalError):
                        self._db.execute("ROLLBACK")
                raise

    # The plan

    def about(self) -> dict[str, str]:
        """Return what the plan was made from, as given to `plan`; empty before that."""
        return dict(self._db.execute("SELECT key, value FROM about"))

    def plan(self, slots: Iterable[Slot], about: Mapping[str, str]) -> None:
        """Store the first slots, all planned in advance, and what they were made from."""
        with self.transaction():
            self._db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            self._add_slots(slots)
            self._db.execute(queries.FIX_ALL)

    def extend(self, slots: Iterable[Slot], fixed: Mapping[str, int]) -> None:
        """Store more slots, with numbers from `next_number` on.

        Args:
            slots: none of which is stored yet.
            fixed: by policy, the number of slots of each cell that were planned in advance; those beyond were planned
                because of what had been drawn.
        """
        with self.transaction():
            self._add_slots(slots)
            self._db.executemany(queries.FIX, [(number, policy) for policy, number in fixed.items()])

    def next_number(self) -> int:
        """Return the number that the next slot gets."""
        (last,) = self._db.execute("SELECT MAX(slot) FROM slots").fetchone()
        return 0 if last is None else last + 1

    def sizes(self) -> pd.DataFrame:
        """Count the slots of each cell, and those of them that were planned in advance.

        Columns: `policy`, `problem`, `planned`, `fixed`, in the order of the plan.
        """
        return pd.read_sql_query(queries.SIZES, self._db)

    def cells(self) -> list[tuple[str, str]]:
        """Return every pair of policy and problem in the plan, in order."""
        return [(policy, problem) for _, policy, problem in self._db.execute(f"{queries.CELLS} ORDER BY cell")]

    def find(self, policy: str, problem: str, index: int) -> Slot | None:
        """Return a slot; None if it is not planned."""
        try:
            rows = self._db.execute(queries.FIND, (policy, problem, index))
        except (UnicodeEncodeError, OverflowError):  # half a surrogate pair or a number beyond SQLite's: never planned
            return None
        return next((self._slot(*row) for row in rows), None)

    def slots(self, policy: str) -> list[Slot]:
        """Return all slots of a policy, in order."""
        return list(self._slots(queries.SLOTS, policy))

    def owed(self, policy: str) -> set[int]:
        """Return the numbers of the slots of a policy that have no sample."""
        return {slot for (slot,) in self._db.execute(queries.OWED, (policy,))}

    def owed_slots(self, policy: str) -> Iterator[Slot]:
        """Yield the slots of a policy that have no sample, and for which asking has not failed, in order.

        Nothing may be written until the last was read.
        """
        return self._slots(queries.OWED_SLOTS, policy)

    def failed_slots(self, policy: str, before: float) -> Iterator[Slot]:
        """Yield the slots of a policy that have no sample because asking failed, the last time before a given time.

        Nothing may be written until the last was read.
        """
        return self._slots(queries.FAILED_SLOTS, policy, before)

    # Samples

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Store samples, all of them or none. A slot that already has one keeps it."""
        texts = [(sample.slot.number, compress(sample.completion.text)) for sample in samples]
        rows = [(sample.slot.number, *sample_row(sample)) for sample in samples]
        kinds = [(sample.slot.number, kind) for sample in samples if (kind := sample.completion.kind) != "text"]
        with self.transaction():
            self._db.executemany(f"INSERT INTO samples VALUES ({_places(7)}) ON CONFLICT DO NOTHING", rows)
            self._db.executemany("INSERT INTO texts VALUES (?, ?) ON CONFLICT DO NOTHING", texts)
            self._db.executemany("INSERT INTO answer_kinds VALUES (?, ?) ON CONFLICT DO NOTHING", kinds)
            transcripts = [self._transcript_row(sample) for sample in samples if sample.transcript is not None]
            self._db.executemany(f"INSERT INTO transcripts VALUES ({_places(10)}) ON CONFLICT DO NOTHING", transcripts)

    def samples(self) -> Iterator[Sample]:
        """Yield all samples, in the order of the plan."""
        return self._pages(queries.SAMPLES)

    def sample(self, slot: Slot) -> Sample | None:
        """Return the sample in a slot; None if there is none."""
        return next(map(self._sample, self._db.execute(queries.SAMPLE, (slot.number,))), None)

    def samples_of(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """Yield the samples in these slots, in this order."""
        for start in range(0, len(numbers), _PAGE):
            page = numbers[start : start + _PAGE]
            rows = self._db.execute(queries.SAMPLES_OF, (json.dumps(page),)).fetchall()
            row_of_number = {row[0]: row for row in rows}
            yield from (self._sample(row_of_number[number]) for number in page)

    def transcript(self, slot: Slot) -> Transcript | None:
        """Return how the sample in a slot came about; None if there is none, or it does not tell."""
        row = self._db.execute(queries.TRANSCRIPT_OF, (slot.number,)).fetchone()
        return None if row is None else transcript_of(row)

    # Failures

    def add_failures(self, failures: Iterable[tuple[Slot, EngineFailure]], now: float) -> None:
        """Store why asking for the samples of slots failed, and count the tries of each."""
        rows = [(slot.number, failure.cause, failure.message, now) for slot, failure in failures]
        with self.transaction():
            self._db.executemany(queries.FAIL, rows)

    def add_lost_costs(self, costs: Iterable[tuple[Slot, AttemptUsage]]) -> None:
        """Add what attempts cost that failed in a later turn: it is spent, although their slots are still owed."""
        rows = [(slot.number, usage.completion_tokens, usage.seconds) for slot, usage in costs]
        with self.transaction():
            self._db.executemany(queries.LOSE, rows)

    def give_up(self, policy: str, message: str, now: float) -> None:
        """Store that a policy is gone, for all of its slots that have no sample and were not rejected one by one."""
        with self.transaction():
            self._db.execute(queries.GIVE_UP, (message, now, policy))

    def forget_passing_failures(self) -> None:
        """Forget failures that asking again may cure, such as time-outs."""
        with self.transaction():
            self._db.execute(queries.FORGET_PASSING_FAILURES)

    def failures(self) -> list[FailureCount]:
        """Count the slots without a sample for which asking failed, the most frequent failure first."""
        return [FailureCount(*row) for row in self._db.execute(queries.FAILURE_COUNTS)]

    def failure(self, slot: Slot) -> tuple[str, str, int] | None:
        """Return cause, message and number of tries of a slot that has no sample; None if asking never failed."""
        return self._db.execute(queries.TRIES, (slot.number,)).fetchone()

    def rejected_cells(self) -> list[tuple[str, str]]:
        """Return each pair of policy and problem that has a slot which cannot be filled by asking again."""
        return list(self._db.execute(queries.REJECTED_CELLS))

    # Verdicts

    def ungraded(self, verdict_set: str = RUN_SET) -> Iterator[Sample]:
        """Yield the samples that have no verdict in a set, in the order of the plan."""
        return self._pages(queries.UNGRADED, self._set(verdict_set))

    def ungraded_numbers(self, verdict_set: str = RUN_SET) -> list[int]:
        """Return the numbers of slots whose samples have no verdict in a set, grouped by problem."""
        return [number for (number,) in self._db.execute(queries.UNGRADED_NUMBERS, (self._set(verdict_set),))]

    def add_verdicts(self, graded: Sequence[Graded], judge: str, verdict_set: str = RUN_SET) -> None:
        """Store verdicts in a set, all of them or none, with a description of the judge.

        A slot that already has a verdict in the set keeps it.
        """
        number = self._set(verdict_set)
        with self.transaction():
            self._db.execute("INSERT OR IGNORE INTO judges (description) VALUES (?)", (judge,))
            (judge_number,) = self._db.execute("SELECT judge FROM judges WHERE description = ?", (judge,)).fetchone()
            self._db.executemany(
                f"INSERT INTO verdicts (verdict_set, slot, {JUDGEMENT_COLUMNS}, failure, judge) "
                f"VALUES ({_places(13)}) ON CONFLICT DO NOTHING",
                [(number, row.slot.number, *judgement_row(row.judgement), row.failure, judge_number) for row in graded],
            )

    def verdict(self, slot: Slot, verdict_set: str | None = None) -> Judgement | None:
        """Return the verdict of a set on the sample in a slot; None if there is none."""
        rows = self._db.execute(queries.VERDICT, (self._set(verdict_set), slot.number))
        return next(map(judgement_of, rows), None)

    def graded(self, verdict_set: str | None = None) -> Iterator[tuple[Graded, str]]:
        """Yield all verdicts of a set, in the order of the plan, each with the description of its judge."""
        for number, cell, index, seed, failure, description, *row in self._db.execute(
            queries.GRADED, (self._set(verdict_set),)
        ):
            judgement, cause = judgement_of(row), None if failure is None else Failure(failure)
            yield Graded(self._slot(number, cell, index, seed), judgement, cause), description

    def judges(self, verdict_set: str | None = None) -> list[str]:
        """Return the descriptions of the judges of a set, the one with most verdicts first."""
        return [judge for (judge,) in self._db.execute(queries.JUDGES, (self._set(verdict_set),))]

    def verdict_sets(self) -> list[VerdictSet]:
        """Return all sets of verdicts, the run's own first."""
        return [
            VerdictSet(name, json.loads(about), created, graded, bool(is_current))
            for name, about, created, graded, is_current in self._db.execute(queries.VERDICT_SETS)
        ]

    def add_verdict_set(self, name: str, about: Mapping[str, Any]) -> None:
        """Add a set of verdicts, unless the same set exists.

        Args:
            name: of the set.
            about: what its verdicts depend on.

        Raises:
            StoreError: a set of this name depends on something else; the message says what differs.
        """
        about_of_set = {existing.name: existing.about for existing in self.verdict_sets()}
        if name not in about_of_set:
            with self.transaction():
                self._db.execute(
                    "INSERT INTO verdict_sets (name, about, created, is_current) VALUES (?, ?, ?, 0)",
                    (name, json.dumps(about), time.time()),
                )
            return
        before = about_of_set[name]
        differs = [key for key in {**before, **about} if before.get(key) != about.get(key)]
        if differs:
            changes = ", ".join(f"{key} {before.get(key)!r}, now {about.get(key)!r}" for key in differs)
            raise StoreError(
                f"the verdicts {name!r} were begun with other options ({changes}): give another --verdict-set"
            )

    def use_verdict_set(self, name: str) -> None:
        """Make a set the current one."""
        number = self._set(name)
        with self.transaction():
            self._db.execute("UPDATE verdict_sets SET is_current = 0 WHERE is_current")
            self._db.execute("UPDATE verdict_sets SET is_current = 1 WHERE verdict_set = ?", (number,))

    # Counts

    def verdicts(self, verdict_set: str | None = None) -> pd.DataFrame:
        """Return one row per verdict of a set, in the order of the plan, with the sample's cost."""
        return pd.read_sql_query(queries.VERDICTS, self._db, params=(self._set(verdict_set),))

    def tally(self, level: float = 1.0, verdict_set: str | None = None) -> pd.DataFrame:
        """Count verdicts of a set per policy and problem, in the order of the plan.

        Columns: `policy`, `problem`, `n`, `c`, one per failure class, and means per sample of `tokens` and `seconds`.
        A sample counts in c if it clears the coverage level, and in its failure class otherwise. Samples that were not
        planned in advance are left out: they were drawn because of earlier verdicts, and would bias c/n.

        Raises:
            GradingError: the level is not above 0 and at most 1.
        """
        table = queries.accepted(self._db, queries.TALLY, level, self._set(verdict_set))
        return table.drop(columns="cell")

    def draws(self, level: float = 1.0, verdict_set: str | None = None) -> pd.DataFrame:
        """Return whether each graded sample of a set clears a coverage level, in the order of the plan.

        Columns: `policy`, `problem`, `sample_index`, `accepted`.

        Raises:
            GradingError: the level is not above 0 and at most 1.
        """
        return queries.accepted(self._db, queries.DRAWS, level, self._set(verdict_set))

    def mean_costs(self, samples: int) -> pd.DataFrame:
        """Return the mean cost of a sample of each policy, over the first samples of each cell, averaged over problems.

        Columns: `tokens`, `seconds`; null where unknown.
        """
        return pd.read_sql_query(queries.COSTS, self._db, params=(samples,), index_col="policy")

    def progress(self, verdict_set: str = RUN_SET) -> pd.DataFrame:
        """Count per policy slots, samples, verdicts of a set, completion tokens and seconds of attempts.

        Tokens and seconds include those of attempts that failed.

        Columns: `planned`, `sampled`, `graded`, `tokens`, `seconds`; of the slots without a sample `rejected`, which
        cannot be filled by asking again, and `failed`, for which asking failed in another way.
        """
        return pd.read_sql_query(queries.PROGRESS, self._db, params=(self._set(verdict_set),), index_col="policy")

    def cell_costs(self, verdict_set: str | None = None) -> pd.DataFrame:
        """Return the mean cost of samples per policy and problem that has any, in the order of the plan.

        Columns: `policy`, `problem`, `n` samples, and means over those where it is known of `prompt_tokens`,
        `completion_tokens`, `seconds`, `text_bytes` (compressed) and `cpu_s` (of the set's verdicts).
        """
        table = pd.read_sql_query(queries.CELL_COSTS, self._db, params=(self._set(verdict_set),))
        return table.drop(columns="cell")

    def times(self, policy: str | None = None) -> pd.DataFrame:
        """Return `created`, `seconds` and `completion_tokens` of samples where they are known, in order of time.

        Samples are of one policy, or without a name of all.
        """
        return pd.read_sql_query(queries.TIMES, self._db, params=(policy,))

    def size(self) -> int:
        """Return the size of the record in bytes, once all writes are merged into its file."""
        (size,) = self._db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
        return size

    def recent(self, since: float) -> dict[str, Recent]:
        """Return what arrived of each policy that has samples since a time, in seconds since the epoch."""
        return {policy: Recent(*row) for policy, *row in self._db.execute(queries.RECENT, {"since": since})}

    def verdict_counts(self, verdict_set: str = RUN_SET) -> dict[str, Counter[Verdict]]:
        """Count the verdicts of a set by kind, per policy that has any."""
        counts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)
        for policy, verdict, count in self._db.execute(queries.VERDICT_COUNTS, (self._set(verdict_set),)):
            counts[policy][Verdict(verdict)] = count
        return dict(counts)

    def missing_modules(self, verdict_set: str | None = None) -> Counter[str]:
        """Count the programs of a set that failed for want of a module, by its name."""
        rows = self._db.execute(queries.IMPORT_FAILURES, (self._set(verdict_set),))
        return Counter(module for row in rows if (module := judgement_of(row).missing_module) is not None)

    def answer_kinds(self) -> dict[str, Counter[AnswerKind]]:
        """Count the answers that are not text, by kind, per policy that has any."""
        counts: defaultdict[str, Counter[AnswerKind]] = defaultdict(Counter)
        for policy, kind, count in self._db.execute(queries.ANSWER_KINDS):
            counts[policy][kind] = count
        return dict(counts)

    def endings(self) -> dict[str, Counter[Ending]]:
        """Count the attempts that submitted nothing by themselves, by how they ended, per policy that has any."""
        counts: defaultdict[str, Counter[Ending]] = defaultdict(Counter)
        for policy, ending, count in self._db.execute(queries.ENDINGS):
            counts[policy][ending] = count
        return dict(counts)

    # How rows become records

    def _slots(self, query: str, *parameters: Any) -> Iterator[Slot]:
        return (self._slot(*row) for row in self._db.execute(query, parameters))

    def _pages(self, query: str, *parameters: int) -> Iterator[Sample]:
        last = -(2**63)
        while page := self._db.execute(query, (last, *parameters, _PAGE)).fetchall():
            yield from map(self._sample, page)
            last = page[-1][0]

    def _add_slots(self, slots: Iterable[Slot]) -> None:
        cells: dict[tuple[str, str], int] = {
            (policy, problem): cell for cell, policy, problem in self._db.execute(queries.CELLS)
        }
        num_known = len(cells)
        rows = (
            (slot.number, cells.setdefault((slot.policy, slot.problem), len(cells)), slot.index, slot.seed)
            for slot in slots
        )
        self._db.executemany("INSERT INTO slots VALUES (?, ?, ?, ?)", rows)
        new = ((cell, *names) for names, cell in islice(cells.items(), num_known, None))
        self._db.executemany("INSERT INTO cells VALUES (?, ?, ?, 0)", new)
        self._cells = {}

    def _transcript_row(self, sample: Sample) -> tuple[Any, ...]:
        transcript = sample.transcript
        assert transcript is not None
        key = transcript.prompt, transcript.prompt_hash
        found = self._db.execute(queries.PROMPT, key).fetchone()
        if found is None:
            messages = compress(as_json(transcript.prompt_messages))
            found = self._db.execute(queries.ADD_PROMPT, (*key, messages)).fetchone()
        return transcript_row(sample.slot.number, found[0], transcript, sample.completion.text)

    def _sample(self, row: Sequence[Any]) -> Sample:
        number, cell, index, seed, text, kind, *rest = row
        return sample_of(self._slot(number, cell, index, seed), rest, text, kind)

    def _slot(self, number: int, cell: int, index: int, seed: int) -> Slot:
        if not self._cells:  # names are read once, so that all slots share the same strings
            self._cells = {cell: (policy, problem) for cell, policy, problem in self._db.execute(queries.CELLS)}
        return Slot(number, *self._cells[cell], index, seed)

    def _set(self, name: str | None) -> int:
        """Return the number of a set of verdicts: of the current one if `name` is None."""
        numbers: dict[str, int] = {}
        for number, known, is_current in self._db.execute("SELECT verdict_set, name, is_current FROM verdict_sets"):
            numbers[known] = number
            if known == name or (name is None and is_current):
                return number
        raise StoreError(f"{self.path} has no verdicts named {name!r}: give one of {', '.join(numbers)}")


def _places(count: int) -> str:
    return ", ".join("?" * count)
