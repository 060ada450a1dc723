"""Tables of answers: what each sample of each policy answered, and whether that was accepted.

Without a verifier an ensemble can still vote: the answer that most samples give is taken. A table of answers has one
row per sample and the columns `problem`, `policy`, `answer` and `correct`, and where problems belong together `group`.
Answers are the same if their texts are, apart from spaces around them, so they must be brought into one form before. A
sample with an empty answer gave none. Axes: `M` policies, `A` answers of one problem, of which the first is none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.outcomes.files import (
    Missing,
    check_columns,
    groups_of,
    outcomes_from_table,
    read_table,
    refuse_rows,
    whole_numbers,
    with_text_keys,
)
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError


class ProblemAnswers(NamedTuple):
    """The answers to one problem: none, then all others in alphabetical order."""

    num_given_MA: Ints
    """`[M, A]` samples that gave each answer."""
    num_correct_MA: Ints
    """`[M, A]` accepted samples among them: all or none, unless a judge sees more than the answer."""


@dataclass(frozen=True)
class Answers:
    """The answers of every policy to every problem, both in alphabetical order, on which no result may depend."""

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
    """Build answers from a table with one row per sample.

    Raises:
        OutcomesError: as `read_answers`; `source` names the table in the message.
    """
    check_columns(table, source, ("problem", "policy", "answer", "correct"))
    if table.empty:
        raise OutcomesError(f"{source} has no rows: give one for each sample")
    table = with_text_keys(table, source)
    groups_of(table, source)
    correct = whole_numbers(table, "correct", source)
    refuse_rows(correct > 1, table, "correct", source, ": each row is one sample, so write 0 or 1")
    answer = table["answer"].map(lambda value: "" if pd.isna(value) else str(value).strip()).astype(object)
    accepted_nothing = (answer == "").to_numpy() & (correct > 0)
    refuse_rows(accepted_nothing, table, "correct", source, " without an answer: fill in the answer, or write 0")
    table = table.assign(answer=answer, correct=correct.astype(np.int64))
    outcomes = outcomes_from_table(_counted(table), source, missing).canonical()
    return Answers(outcomes, tuple(_by_problem(table[table["policy"].isin(outcomes.policies)], outcomes)))


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, with its group where the table has one."""
    columns = {"n": ("correct", "size"), "c": ("correct", "sum")}
    columns |= {"group": ("group", "first")} if "group" in table else {}
    return table.groupby(["problem", "policy"], sort=False).agg(**columns).reset_index()


def _by_problem(table: pd.DataFrame, outcomes: Outcomes) -> list[ProblemAnswers]:
    sample_m = pd.Categorical(table["policy"], outcomes.policies).codes
    answers, correct = table["answer"].to_numpy(object), table["correct"].to_numpy()
    rows_of_problem = table.groupby("problem").indices
    found: list[ProblemAnswers] = []
    for rows in (rows_of_problem[problem] for problem in outcomes.problems):
        names, place = np.unique(np.append("", answers[rows]), return_inverse=True)
        num_given_MA = np.zeros((len(outcomes.policies), len(names)), np.int64)
        num_correct_MA = np.zeros_like(num_given_MA)
        np.add.at(num_given_MA, (sample_m[rows], place[1:]), 1)
        np.add.at(num_correct_MA, (sample_m[rows], place[1:]), correct[rows])
        found.append(ProblemAnswers(num_given_MA, num_correct_MA))
    return found
