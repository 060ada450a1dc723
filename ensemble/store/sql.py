"""The queries of a run's record, in SQL.

Each query reads a table in the order of its key, and only the tables it needs: texts only where samples are read.
`CROSS JOIN` fixes the order of the tables, as SQLite documents.
"""

import sqlite3
from functools import cache

import pandas as pd

from alphamix.ensemble.outcomes.table import FAILURES
from alphamix.ensemble.store.rows import FINAL_CAUSES, JUDGEMENT_COLUMNS, SAMPLE_COLUMNS
from alphamix.grading.nested_coverage import tests_required
from alphamix.grading.types import Verdict

CELLS = "SELECT cell, policy, problem FROM cells"
FIX_ALL = "UPDATE cells SET num_fixed = (SELECT COUNT(*) FROM slots WHERE slots.cell = cells.cell)"
FIX = (
    "UPDATE cells SET num_fixed = "
    "MAX(num_fixed, MIN(?, (SELECT COUNT(*) FROM slots WHERE slots.cell = cells.cell))) WHERE policy = ?"
)
_SLOT = "slot, cell, sample_index, seed"
SLOTS = f"SELECT {_SLOT} FROM cells CROSS JOIN slots USING (cell) WHERE policy = ? ORDER BY slot"
FIND = f"SELECT {_SLOT} FROM cells CROSS JOIN slots USING (cell) WHERE policy = ? AND problem = ? AND sample_index = ?"
_UNSAMPLED = (
    "FROM cells CROSS JOIN slots USING (cell) "
    "WHERE policy = ? AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.slot = slots.slot)"
)
_UNTRIED = f"{_UNSAMPLED} AND NOT EXISTS (SELECT 1 FROM failures WHERE failures.slot = slots.slot)"
_FAILED = f"{_UNSAMPLED} AND EXISTS (SELECT 1 FROM failures WHERE failures.slot = slots.slot AND failed < ?)"
OWED = f"SELECT slot {_UNSAMPLED}"
OWED_SLOTS = f"SELECT {_SLOT} {_UNTRIED} ORDER BY slot"
FAILED_SLOTS = f"SELECT {_SLOT} {_FAILED} ORDER BY slot"

FAIL = (
    "INSERT INTO failures VALUES (?, ?, ?, 1, ?) ON CONFLICT (slot) DO UPDATE "
    "SET cause = excluded.cause, message = excluded.message, tries = tries + 1, failed = excluded.failed"
)
LOSE = (
    "INSERT INTO lost_costs VALUES (?, 1, ?, ?) ON CONFLICT (slot) DO UPDATE SET attempts = attempts + 1, "
    "lost_tokens = lost_tokens + excluded.lost_tokens, lost_seconds = lost_seconds + excluded.lost_seconds"
)
GIVE_UP = (
    f"INSERT INTO failures SELECT slot, 'gone', ?, 0, ? {_UNSAMPLED} ON CONFLICT (slot) DO UPDATE "
    "SET cause = excluded.cause, message = excluded.message, failed = excluded.failed WHERE cause <> 'rejected'"
)
_FINAL = f"cause IN ({', '.join(map(repr, FINAL_CAUSES))})"
FORGET_PASSING_FAILURES = f"DELETE FROM failures WHERE NOT {_FINAL}"
_FAILURES = (
    "FROM failures CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "WHERE NOT EXISTS (SELECT 1 FROM samples WHERE samples.slot = failures.slot)"
)
FAILURE_COUNTS = (
    f"SELECT policy, cause, message, COUNT(*) AS slots {_FAILURES} GROUP BY policy, cause, message "
    "ORDER BY slots DESC, policy, cause, message"
)
REJECTED_CELLS = f"SELECT DISTINCT policy, problem {_FAILURES} AND {_FINAL}"
TRIES = f"SELECT cause, message, tries {_FAILURES} AND slot = ?"

_SAMPLE = (
    f"SELECT {_SLOT}, text, "
    "COALESCE((SELECT kind FROM answer_kinds WHERE answer_kinds.slot = samples.slot), 'text') AS kind, "
    f"{SAMPLE_COLUMNS} FROM samples CROSS JOIN slots USING (slot) CROSS JOIN texts USING (slot) "
)
_NO_VERDICT = "NOT EXISTS (SELECT 1 FROM verdicts WHERE verdict_set = ? AND verdicts.slot = samples.slot)"
SAMPLE = f"{_SAMPLE} WHERE samples.slot = ?"
SAMPLES = f"{_SAMPLE} WHERE samples.slot > ? ORDER BY samples.slot LIMIT ?"
UNGRADED = f"{_SAMPLE} WHERE samples.slot > ? AND {_NO_VERDICT} ORDER BY samples.slot LIMIT ?"
SAMPLES_OF = f"{_SAMPLE} WHERE samples.slot IN (SELECT value FROM json_each(?))"
UNGRADED_NUMBERS = (
    "SELECT slot FROM samples CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    f"WHERE {_NO_VERDICT} ORDER BY problem, slot"
)

ENDINGS = (
    "SELECT policy, ending, COUNT(*) FROM transcripts CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "WHERE ending <> 'submitted' GROUP BY policy, ending"
)
PROMPT = "SELECT prompt FROM prompts WHERE id = ? AND hash = ?"
ADD_PROMPT = "INSERT INTO prompts (id, hash, messages) VALUES (?, ?, ?) RETURNING prompt"
TRANSCRIPT_OF = (
    "SELECT prompts.id, prompts.messages, text, ending, transcripts.messages, turns, calls, prompt_tokens, "
    "new_prompt_tokens, cached_tokens, completion_tokens, tool_characters, seconds, tool_seconds "
    "FROM transcripts CROSS JOIN prompts USING (prompt) CROSS JOIN samples USING (slot) CROSS JOIN texts USING (slot) "
    "WHERE slot = ?"
)

VERDICT = f"SELECT {JUDGEMENT_COLUMNS} FROM verdicts WHERE verdict_set = ? AND slot = ?"
GRADED = (
    f"SELECT {_SLOT}, failure, description, {JUDGEMENT_COLUMNS} "
    "FROM verdicts CROSS JOIN slots USING (slot) CROSS JOIN judges USING (judge) WHERE verdict_set = ? ORDER BY slot"
)
IMPORT_FAILURES = (
    f"SELECT {JUDGEMENT_COLUMNS} FROM verdicts WHERE verdict_set = ? AND verdict = '{Verdict.RE}' "
    "AND message LIKE 'ModuleNotFoundError%'"
)
JUDGES = (
    "SELECT description FROM (SELECT judge, COUNT(*) AS verdicts FROM verdicts WHERE verdict_set = ? GROUP BY judge) "
    "JOIN judges USING (judge) ORDER BY verdicts DESC, judge"
)
VERDICTS = (
    "SELECT slot, policy, problem, verdict, failure, completion_tokens, seconds "
    "FROM verdicts CROSS JOIN samples USING (slot) CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "WHERE verdict_set = ? ORDER BY slot"
)
VERDICT_SETS = (
    "SELECT name, about, created, (SELECT COUNT(*) FROM verdicts WHERE verdicts.verdict_set = sets.verdict_set), "
    "is_current FROM verdict_sets AS sets ORDER BY verdict_set"
)
PROGRESS = (
    "SELECT policy, SUM(planned) AS planned, SUM(sampled) AS sampled, SUM(graded) AS graded, SUM(tokens) AS tokens, "
    "SUM(seconds) AS seconds, SUM(rejected) AS rejected, SUM(failed) AS failed "
    "FROM (SELECT cell, COUNT(*) AS planned, COUNT(samples.slot) AS sampled, COUNT(verdicts.slot) AS graded, "
    "COALESCE(SUM(completion_tokens), 0) + COALESCE(SUM(lost_tokens), 0) AS tokens, "
    "COALESCE(SUM(seconds), 0.0) + COALESCE(SUM(lost_seconds), 0.0) AS seconds, "
    f"COUNT(failures.slot) FILTER (WHERE samples.slot IS NULL AND {_FINAL}) AS rejected, "
    f"COUNT(failures.slot) FILTER (WHERE samples.slot IS NULL AND NOT {_FINAL}) AS failed "
    "FROM slots LEFT JOIN samples USING (slot) LEFT JOIN failures ON failures.slot = slots.slot "
    "LEFT JOIN lost_costs ON lost_costs.slot = slots.slot "
    "LEFT JOIN verdicts ON verdicts.verdict_set = ? AND verdicts.slot = slots.slot GROUP BY cell) "
    "JOIN cells USING (cell) GROUP BY policy ORDER BY MIN(cell)"
)
CELL_COSTS = (
    "SELECT policy, problem, costs.* FROM (SELECT cell, COUNT(*) AS n, AVG(prompt_tokens) AS prompt_tokens, "
    "AVG(completion_tokens) AS completion_tokens, AVG(seconds) AS seconds, AVG(LENGTH(text)) AS text_bytes, "
    "AVG(cpu_s) AS cpu_s FROM samples CROSS JOIN slots USING (slot) CROSS JOIN texts USING (slot) "
    "LEFT JOIN verdicts ON verdicts.verdict_set = ? AND verdicts.slot = samples.slot GROUP BY cell) AS costs "
    "JOIN cells USING (cell) ORDER BY cell"
)
TIMES = (
    "SELECT created, seconds, completion_tokens "
    "FROM samples CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "WHERE seconds NOTNULL AND completion_tokens NOTNULL AND (?1 IS NULL OR policy = ?1) ORDER BY created"
)
RECENT = (
    "SELECT policy, SUM(samples), SUM(tokens), MIN(began), MAX(last), SUM(counted) "
    "FROM (SELECT cell, COUNT(*) FILTER (WHERE created >= :since) AS samples, "
    "COALESCE(SUM(completion_tokens) FILTER (WHERE created >= :since), 0) AS tokens, "
    "MIN(created - COALESCE(seconds, 0)) FILTER (WHERE created >= :since) AS began, "
    "MAX(created) AS last, COUNT(completion_tokens) AS counted "
    "FROM samples CROSS JOIN slots USING (slot) GROUP BY cell) "
    "JOIN cells USING (cell) GROUP BY policy"
)
VERDICT_COUNTS = (
    "SELECT policy, verdict, SUM(count) AS count "
    "FROM (SELECT cell, verdict, COUNT(*) AS count FROM verdicts CROSS JOIN slots USING (slot) "
    "WHERE verdict_set = ? GROUP BY cell, verdict) "
    "JOIN cells USING (cell) GROUP BY policy, verdict"
)
ANSWER_KINDS = (
    "SELECT policy, kind, COUNT(*) FROM answer_kinds CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "GROUP BY policy, kind"
)
_ACCEPTED = f"(verdict = '{Verdict.AC}' OR (:below_1 AND tests_passed >= tests_required(num_tests)))"
TALLY = (
    "SELECT policy, problem, counts.* FROM (SELECT cell, COUNT(*) AS n, SUM(accepted) AS c, "
    + "".join(f"COUNT(*) FILTER (WHERE failure = '{failure}' AND NOT accepted) AS {failure}, " for failure in FAILURES)
    + "AVG(completion_tokens) AS tokens, AVG(seconds) AS seconds "
    f"FROM (SELECT slot, failure, {_ACCEPTED} AS accepted FROM verdicts WHERE verdict_set = :verdict_set) "
    "CROSS JOIN samples USING (slot) CROSS JOIN slots USING (slot) CROSS JOIN cells USING (cell) "
    "WHERE sample_index < num_fixed GROUP BY cell) AS counts JOIN cells USING (cell) ORDER BY cell"
)
SIZES = (
    "SELECT policy, problem, COUNT(*) AS planned, num_fixed AS fixed FROM slots CROSS JOIN cells USING (cell) "
    "GROUP BY cell ORDER BY cell"
)
DRAWS = (
    f"SELECT policy, problem, sample_index, {_ACCEPTED} AS accepted FROM verdicts CROSS JOIN slots USING (slot) "
    "CROSS JOIN cells USING (cell) WHERE verdict_set = :verdict_set ORDER BY slot"
)
COSTS = (
    "SELECT policy, AVG(tokens) AS tokens, AVG(seconds) AS seconds FROM (SELECT policy, "
    "AVG(completion_tokens) AS tokens, AVG(seconds) AS seconds FROM samples CROSS JOIN slots USING (slot) "
    "CROSS JOIN cells USING (cell) WHERE sample_index < ? GROUP BY cell) GROUP BY policy"
)


def accepted(db: sqlite3.Connection, query: str, level: float, verdict_set: int) -> pd.DataFrame:
    """Return the rows of `TALLY` or `DRAWS`. Raises GradingError if the level is not above 0 and at most 1."""
    tests_required(level, 1)  # raise here: SQLite would hide the message of an error inside a query

    @cache
    def required(num_tests: int) -> int:
        return tests_required(level, num_tests)

    db.create_function("tests_required", 1, required, deterministic=True)
    return pd.read_sql_query(query, db, params={"below_1": level != 1.0, "verdict_set": verdict_set})
