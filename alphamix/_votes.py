"""Majority votes from a table of answers, where no verifier can pick an answer."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from alphamix import _checks as checks
from alphamix.ensemble.mixture.cross_fitting import cross_fits
from alphamix.ensemble.mixture.vote_arms import compare_votes
from alphamix.ensemble.outcomes.answers import answers_from_table, read_answers
from alphamix.ensemble.outcomes.files import Missing
from alphamix.ensemble.outcomes.table import MAX_SAMPLES
from alphamix.ensemble.statistics.intervals import Resampling


def majority_vote(
    source: str | Path | pd.DataFrame,
    budget: int,
    *,
    missing: Missing = "error",
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Choose whose samples should vote where nothing can verify an answer, and estimate how often that is right.

    Args:
        source: CSV or Parquet file, or a pandas frame, with the columns `problem`, `policy`, `answer` and `correct` (0
            or 1), and one row per sample. Answers are the same if their texts are; a sample without one votes for none.
        budget: Number of samples that vote on each problem.
        missing: What to do about cells without samples: refuse them (`error`), or leave out every problem
            (`drop-problems`) or policy (`drop-policies`) that has one.
        level: Level of the intervals.
        seed: Seed of the divisions and the intervals.

    Returns:
        One row for each of the arms `mixture`, `equal` and `best_single`, as far as there are samples: `arm`,
        `allocation` (samples by policy), `accuracy` (share of problems on which the vote is right) with `low` and
        `high`, and `gain` over the best single policy with `gain_low` and `gain_high`. Both are cross-fitted over
        problems, and NaN where they are undefined.

    Raises:
        OutcomesError: this is not such a table, or cells are missing.
        BudgetError: there are too few samples for the budget.

    Example:
        >>> import pandas as pd
        >>> answers = pd.DataFrame({"problem": ["p", "q"] * 6, "policy": ["x"] * 6 + ["y"] * 6,
        ...                         "answer": ["1", "2"] * 5 + ["3", "2"], "correct": [1, 1] * 5 + [0, 1]})
        >>> votes = alphamix.majority_vote(answers, budget=3)
        >>> votes.arm.tolist()
        ['mixture', 'equal', 'best_single']
    """
    checks.one_of("missing", missing, get_args(Missing))
    num_samples = checks.whole_number("budget", budget, 1, MAX_SAMPLES, "number of samples")
    first = checks.whole_number("seed", seed, 0)
    resampling = Resampling(checks.between("level", level, 0, 1, "0.95"), seed=first)
    if isinstance(source, pd.DataFrame):
        answers = answers_from_table(source, "the frame", missing)
    else:
        path = checks.path("source", source, "the path of a CSV or Parquet file, or a pandas frame")
        answers = read_answers(path, missing)
    comparison = compare_votes(answers, num_samples, cross_fits(first)["problems"], resampling)
    rows: list[dict[str, object]] = []
    for name, arm in comparison.arms.items():
        row: dict[str, object] = {"arm": name, "allocation": dict(arm.allocation)}
        gain = comparison.gains.get(name)
        for what, start, estimates in (("accuracy", "", comparison.accuracy[name]), ("gain", "gain_", gain)):
            honest = estimates.honest.get("problems") if estimates else None
            low, high = (honest and honest.interval) or (np.nan, np.nan)
            row |= {what: honest.value if honest else np.nan, f"{start}low": low, f"{start}high": high}
        rows.append(row)
    return pd.DataFrame(rows)
