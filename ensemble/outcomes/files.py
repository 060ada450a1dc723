"""Tables of outcomes as files: `problem,policy,n,c` and, where known, failure classes, costs and `stopped`.

CSV in UTF-8, or Parquet by the name of the file. What does not hold is refused here, once: a cell that was never
sampled is never a zero. Columns that we don't know are left alone. Names are text, kept as they are: 1 and 01 are two
problems, and so are two names that differ by a space.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.atomic_files import appearing
from alphamix.ensemble.outcomes.table import FAILURES, MOST_SAMPLES, Outcomes, OutcomesError

Missing = Literal["error", "drop-problems", "drop-policies"]
"""What to do about cells without samples: refuse, or leave out every problem, or every policy, that has one."""

_KEYS = ["problem", "policy"]
_COUNTS = ["n", "c"]
_COSTS = ["tokens", "seconds"]
_NAMES_IN_MESSAGE = 60
"""Characters."""


def read_outcomes(path: Path, missing: Missing = "error") -> Outcomes:
    """Read a table of outcomes; policies and problems keep their first-seen order.

    Raises:
        OutcomesError: the file is no such table, or what it says cannot be; cells are missing.
    """
    try:
        table = pd.read_parquet(path) if _is_parquet(path) else _read_csv(path)
    except ImportError:
        raise OutcomesError(f"{path} needs the package pyarrow: pip install 'alphamix[parquet]'") from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise OutcomesError(
            f"{path} cannot be read ({cause}): give a table of outcomes, CSV in UTF-8, or Parquet named *.parquet"
        ) from error
    return outcomes_from_table(table, str(path), missing)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _read_csv(path: Path) -> pd.DataFrame:
    """Without `index_col=False`, rows with more cells than the first line would move by some columns."""
    text = dict.fromkeys(_KEYS, str)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""], index_col=False)
        except pd.errors.ParserWarning:
            raise OutcomesError(
                f"{path} has rows with more cells than its first line has names: quote names that hold commas"
            ) from None


def to_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Return one row per cell, with the columns that are known."""
    matrices: dict[str, Any] = {
        "n": outcomes.num_samples_MP,
        "c": outcomes.num_correct_MP,
        **outcomes.num_failures_MP,
        **outcomes.costs_MP,
    }
    if outcomes.stopped_MP is not None:
        matrices["stopped"] = outcomes.stopped_MP.astype(np.int64)
    index = pd.MultiIndex.from_product([outcomes.policies, outcomes.problems], names=["policy", "problem"])
    table = pd.DataFrame({name: matrix.ravel() for name, matrix in matrices.items()}, index=index)
    return table.reset_index()[[*_KEYS, *matrices]]


def write_outcomes(outcomes: Outcomes, path: Path) -> None:
    """Write one row per cell, with the columns that are known; the file appears whole or not at all."""
    table = to_frame(outcomes)
    with appearing(path) as beside:
        if _is_parquet(path):
            table.to_parquet(beside, index=False)
        else:
            table.to_csv(beside, index=False, float_format="%.6g")


def outcomes_from_table(table: pd.DataFrame, source: str, missing: Missing = "error") -> Outcomes:
    """Build from a long table with one row per cell.

    Raises:
        OutcomesError: as `read_outcomes`; `source` names the table in the message.
    """
    _check_columns(table, source)
    if table.empty:
        raise OutcomesError(f"{source} holds no rows: grade some samples first")
    table = _with_text_keys(table, source)
    counted = [name for name in (*_COUNTS, *FAILURES, "stopped") if name in table]
    costly = [name for name in _COSTS if name in table]
    numbers = {name: _counts(table, name, source) for name in counted}
    numbers |= {name: _costs(table, name, source) for name in costly}
    _check_sums(table, numbers, source)
    policies, problems = (_first_seen(table[key]) for key in ("policy", "problem"))
    place = _places(table, policies, problems)
    outcomes = _fill(policies, problems, place, numbers, counted, costly)
    return _without_holes(outcomes, source, missing)


def _check_columns(table: pd.DataFrame, source: str) -> None:
    columns = list(map(str, table.columns))
    lacking = [name for name in (*_KEYS, *_COUNTS) if name not in columns]
    if lacking:
        known = ", ".join(map(repr, columns))
        known = f"{known[:_NAMES_IN_MESSAGE]}…" if len(known) > _NAMES_IN_MESSAGE else known
        raise OutcomesError(
            f"{source} lacks the columns {', '.join(lacking)}; its columns are {known}: name them problem,policy,n,c "
            "(in a CSV file in the first line, with commas)"
        )


def _with_text_keys(table: pd.DataFrame, source: str) -> pd.DataFrame:
    for key in _KEYS:
        blank = table[key].isna() | (table[key].astype(str).str.strip() == "")
        if blank.any():
            raise OutcomesError(f"{source} names no {key} in row {int(blank.argmax()) + 1}: fill it in")
    table = table.assign(**{key: table[key].map(str).astype(object) for key in _KEYS})
    double = table.duplicated(_KEYS)
    if double.any():
        problem, policy = table.loc[double, _KEYS].iloc[0]
        raise OutcomesError(f"{source} has two rows for problem {problem!r} and policy {policy!r}: keep one")
    return table


def _numbers(table: pd.DataFrame, column: str, source: str) -> Floats:
    if table[column].dtype.kind in "mM":  # which pandas would read as nanoseconds
        raise OutcomesError(f"{source} has dates or durations in the column {column}: give numbers")
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    words = np.isnan(numbers) & table[column].notna().to_numpy()
    if words.any():
        raise OutcomesError(f"{_cell(table, words, column, source)}, which is no number: correct it")
    return numbers


def _counts(table: pd.DataFrame, column: str, source: str) -> Floats:
    numbers = _numbers(table, column, source)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise OutcomesError(f"{_cell(table, wrong, column, source)}: counts are whole numbers from 0, correct it")
    wrong = numbers > MOST_SAMPLES
    if wrong.any():
        raise OutcomesError(
            f"{_cell(table, wrong, column, source)}: counts go up to {MOST_SAMPLES:,}, correct it or count fewer"
        )
    return numbers


def _costs(table: pd.DataFrame, column: str, source: str) -> Floats:
    numbers = _numbers(table, column, source)
    wrong = np.isinf(numbers) | (numbers < 0)
    if wrong.any():
        raise OutcomesError(f"{_cell(table, wrong, column, source)}: costs are 0 or more, correct it")
    return numbers


def _check_sums(table: pd.DataFrame, numbers: dict[str, Floats], source: str) -> None:
    wrong = numbers["c"] > numbers["n"]
    if wrong.any():
        raise OutcomesError(f"{_cell(table, wrong, 'c', source)}, more than its n: correct the row")
    failed = sum((numbers[name] for name in FAILURES if name in numbers), np.zeros(len(table)))
    wrong = numbers["c"] + failed > numbers["n"]
    if wrong.any():
        raise OutcomesError(f"{_cell(table, wrong, 'n', source)}, fewer than accepted and failed: correct the row")


def _cell(table: pd.DataFrame, wrong: Any, column: str, source: str) -> str:
    row = table.iloc[int(np.argmax(wrong))]
    value = "nothing" if pd.api.types.is_scalar(row[column]) and pd.isna(row[column]) else row[column]
    shown = value if str(value).isprintable() else repr(value)
    return f"{source} says {column} = {shown} for policy {row['policy']!r} on problem {row['problem']!r}"


def _first_seen(column: pd.Series) -> tuple[str, ...]:
    return tuple(column.unique())


def _places(table: pd.DataFrame, policies: Sequence[str], problems: Sequence[str]) -> tuple[Any, Any]:
    """Row and column in the matrices for each row of the table."""
    return (
        pd.Categorical(table["policy"], categories=list(policies)).codes,
        pd.Categorical(table["problem"], categories=list(problems)).codes,
    )


def _fill(
    policies: tuple[str, ...],
    problems: tuple[str, ...],
    place: tuple[Any, Any],
    numbers: dict[str, Floats],
    counted: list[str],
    costly: list[str],
) -> Outcomes:
    """Matrices of the table; a cell that it does not name has n = 0."""
    shape = (len(policies), len(problems))

    def matrix(name: str, kind: type, empty: float) -> Any:
        filled = np.full(shape, empty, kind)
        filled[place] = numbers[name].astype(kind)
        return filled

    counts: dict[str, Ints] = {name: matrix(name, np.int64, 0) for name in counted}
    return Outcomes(
        problems=problems,
        policies=policies,
        num_samples_MP=counts["n"],
        num_correct_MP=counts["c"],
        num_failures_MP={name: counts[name] for name in FAILURES if name in counts},
        costs_MP={name: matrix(name, np.float64, np.nan) for name in costly},
        stopped_MP=counts["stopped"] > 0 if "stopped" in counts else None,
    )


def _without_holes(outcomes: Outcomes, source: str, missing: Missing) -> Outcomes:
    hole_MP = outcomes.num_samples_MP == 0
    if not hole_MP.any():
        return outcomes
    m, p = np.argwhere(hole_MP)[0]
    first = f"policy {outcomes.policies[m]!r} on problem {outcomes.problems[p]!r}"
    if missing == "error":
        raise OutcomesError(
            f"{source} has no samples of {first} ({int(hole_MP.sum())} cells missing): sample them, or leave out what "
            "lacks them with --missing drop-problems or --missing drop-policies"
        )
    by_policy = missing == "drop-policies"
    has_hole = hole_MP.any(axis=1 if by_policy else 0)
    if has_hole.all():
        raise OutcomesError(
            f"{source}: every {'policy' if by_policy else 'problem'} lacks samples somewhere (first: {first}), so "
            "nothing would be left: sample them, or drop the others"
        )
    names = outcomes.policies if by_policy else outcomes.problems
    kept = np.flatnonzero(~has_hole)
    whole = outcomes.select(policies=kept) if by_policy else outcomes.select(problems=kept)
    return replace(whole, left_out=tuple(names[hole] for hole in np.flatnonzero(has_hole)))
