"""Tables of answers: what each policy answered on each problem, how often, and how often that was accepted.

Without a verifier an ensemble can still vote: the answer that most samples give is taken. A table of answers has the
columns `problem`, `policy`, `answer` and `c`, and where rows stand for several samples `n`. Answers are the same if
their texts are; so they must be brought into one form before (numbers as numbers, programs as a digest of what they
print). An empty answer is a sample that gave none, and votes for nothing. Axes: `M` policies, `A` answers of a problem.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alphamix.ensemble.arrays import Bools, Ints
from alphamix.ensemble.outcomes.files import (
    Missing,
    check_columns,
    outcomes_from_table,
    read_table,
    refuse_rows,
    whole_numbers,
)
from alphamix.ensemble.outcomes.table import Outcomes

_CELL = ["problem", "policy"]


@dataclass(frozen=True)
class ProblemAnswers:
    """All answers to one problem, in alphabetical order."""

    num_given_MA: Ints
    """`[M, A]` samples that gave each answer."""
    num_correct_MA: Ints
    """`[M, A]` accepted samples among them: all or none, unless a judge sees more than the answer."""
    is_vote_A: Bools
    """`[A]` False for the empty answer."""


@dataclass(frozen=True)
class Answers:
    """Answers of every policy to every problem, in alphabetical order of both."""

    outcomes: Outcomes
    """The same samples, counted without their answers."""
    by_problem: tuple[ProblemAnswers, ...]
    """In the order of `outcomes.problems`."""


def read_answers(path: Path, missing: Missing = "error") -> Answers:
    """Read a table of answers.

    Raises:
        OutcomesError: the file is not a table of answers, its values are impossible, or cells are missing.
    """
    return answers_from_table(read_table(path, "answers"), str(path), missing)


def answers_from_table(table: pd.DataFrame, source: str, missing: Missing = "error") -> Answers:
    """Build answers from a table. Rows of the same policy, problem and answer are added up.

    Raises:
        OutcomesError: as `read_answers`; `source` names the table in the message.
    """
    check_columns(table, source, ("problem", "policy", "answer", "c"))
    table = table if "n" in table else table.assign(n=1)
    table = table.assign(n=whole_numbers(table, "n", source), c=whole_numbers(table, "c", source))
    too_many = ", which is more than n: correct the row"
    refuse_rows((table["c"] > table["n"]).to_numpy(), table, "c", source, too_many)
    text = table["answer"].where(table["answer"].notna(), "").map(str)
    table = table.assign(answer=text.where(text.str.strip() != "", ""))
    accepted_nothing = ((table["answer"] == "") & (table["c"] > 0)).to_numpy()
    refuse_rows(accepted_nothing, table, "c", source, " without an answer: fill in the answer, or correct the row")
    outcomes = outcomes_from_table(_counted(table), source, missing).canonical()
    given = table.assign(**{key: table[key].map(str) for key in _CELL})
    by_problem = dict(iter(given.groupby("problem")))
    return Answers(outcomes, tuple(_answers(by_problem[problem], outcomes) for problem in outcomes.problems))


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, with its group where the table has one; rows that lack a key stay as they are."""
    keys = [*_CELL, "group"] if "group" in table else _CELL
    return table.groupby(keys, dropna=False, sort=False)[["n", "c"]].sum().reset_index()


def _answers(given: pd.DataFrame, outcomes: Outcomes) -> ProblemAnswers:
    counts = given.pivot_table(index="policy", columns="answer", values=["n", "c"], aggfunc="sum", fill_value=0)
    counts = counts.reindex(list(outcomes.policies), fill_value=0)
    answers = counts["n"].columns
    return ProblemAnswers(
        counts["n"].to_numpy(np.int64),
        counts["c"][answers].to_numpy(np.int64),
        (answers != "").astype(np.bool_),
    )


