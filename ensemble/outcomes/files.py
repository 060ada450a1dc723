"""Tables of outcomes as files: `problem,policy,n,c` and, where known, failure classes, costs, `stopped` and `group`.

A file is CSV in UTF-8, which may be compressed, or Parquet if its name ends in `.parquet`. Invalid tables are refused
here, once for all: a cell that was never sampled never counts as zero. Unknown columns are ignored. Names are text,
taken literally: 1 and 01 are two problems, and so are two names that differ by a space.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alphamix.atomic import whole_file
from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.outcomes.table import FAILURES, MAX_SAMPLES, Outcomes, OutcomesError
from alphamix.text_lines import open_plain

Missing = Literal["error", "drop-problems", "drop-policies"]
"""What to do about cells without samples: refuse them, or leave out every problem, or every policy, that has one."""

_KEYS = ["problem", "policy"]
_COUNTS = ["n", "c"]
_COSTS = ["tokens", "seconds"]
_GROUP = "group"
_MAX_NAMES_LENGTH = 60
"""Characters of column names that a message shows."""


def read_outcomes(path: Path, missing: Missing = "error") -> Outcomes:
    """Read a table of outcomes. Policies and problems keep the order in which they first appear.

    Raises:
        OutcomesError: the file is not a table of outcomes, its values are impossible, or cells are missing.
    """
    return outcomes_from_table(read_table(path, "outcomes"), str(path), missing)


def read_table(path: Path, what: str) -> pd.DataFrame:
    """Read a table with one row per line; `what` it holds is told in errors.

    Raises:
        OutcomesError: the file cannot be read as CSV or Parquet.
    """
    try:
        return pd.read_parquet(path) if _is_parquet(path) else _read_csv(path)
    except ImportError:
        raise OutcomesError(f"{path} needs the package pyarrow: pip install 'alphamix[parquet]'") from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise OutcomesError(
            f"{path} cannot be read ({cause}): give a table of {what} as CSV in UTF-8, or as Parquet named *.parquet"
        ) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _read_csv(path: Path) -> pd.DataFrame:
    text = dict.fromkeys([*_KEYS, _GROUP, "answer"], str)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # Without `index_col=False`, rows with more cells than the first line would be shifted by some columns.
            with open_plain(path) as file:
                return pd.read_csv(file, dtype=text, keep_default_na=False, na_values=[""], index_col=False)
        except pd.errors.ParserWarning:
            raise OutcomesError(
                f"{path} has rows with more cells than the first line has names: quote names that contain commas"
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
    table = pd.DataFrame({name: matrix.ravel() for name, matrix in matrices.items()}, index=index).reset_index()
    if outcomes.groups is None:
        return table[[*_KEYS, *matrices]]
    table[_GROUP] = np.tile(outcomes.groups, len(outcomes.policies))
    return table[[*_KEYS, _GROUP, *matrices]]


def write_outcomes(outcomes: Outcomes, path: Path) -> None:
    """Write one row per cell, with the columns that are known; the file appears whole or not at all."""
    write_table(to_frame(outcomes), path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet; the file appears whole or not at all."""
    with whole_file(path) as beside:
        if _is_parquet(path):
            table.to_parquet(beside, index=False)
        else:
            table.to_csv(beside, index=False, float_format="%.6g")


def outcomes_from_table(table: pd.DataFrame, source: str, missing: Missing = "error") -> Outcomes:
    """Build outcomes from a long table with one row per cell.

    Raises:
        OutcomesError: as `read_outcomes`; `source` names the table in the message.
    """
    check_columns(table, source)
    if table.empty:
        raise OutcomesError(f"{source} has no rows: grade some samples first")
    table = with_text_keys(table, source)
    _refuse_doubles(table, source)
    counted = [name for name in (*_COUNTS, *FAILURES, "stopped") if name in table]
    costly = [name for name in _COSTS if name in table]
    numbers = {name: whole_numbers(table, name, source) for name in counted}
    numbers |= {name: _costs(table, name, source) for name in costly}
    _check_sums(table, numbers, source)
    outcomes = replace(_fill(table, numbers, costly), groups=groups_of(table, source))
    return _without_holes(outcomes, source, missing)


def check_columns(table: pd.DataFrame, source: str, needed: Sequence[str] = (*_KEYS, *_COUNTS)) -> None:
    """Refuse a table that lacks a column or has one twice. Raises OutcomesError."""
    columns = list(map(str, table.columns))
    lacking = [name for name in needed if name not in columns]
    if lacking:
        known = ", ".join(map(repr, columns))
        known = f"{known[:_MAX_NAMES_LENGTH]}…" if len(known) > _MAX_NAMES_LENGTH else known
        raise OutcomesError(
            f"{source} lacks the columns {', '.join(lacking)} and has {known}: name the columns {','.join(needed)} (in "
            "CSV in the first line, separated by commas)"
        )
    double = next((name for name in (*needed, "n", *FAILURES, *_COSTS, "stopped") if columns.count(name) > 1), None)
    if double is not None:
        raise OutcomesError(f"{source} has {columns.count(double)} columns named {double!r}: keep one of them")


def with_text_keys(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the table with problems and policies as text. Raises OutcomesError if a row lacks one."""
    for key in _KEYS:
        blank = table[key].isna() | (table[key].astype(str).str.strip() == "")
        if blank.any():
            raise OutcomesError(f"{source} has no {key} in row {int(blank.argmax()) + 1}: fill it in")
    return table.assign(**{key: table[key].map(str).astype(object) for key in _KEYS})


def _refuse_doubles(table: pd.DataFrame, source: str) -> None:
    double = table.duplicated(_KEYS)
    if double.any():
        problem, policy = table.loc[double, _KEYS].iloc[0]
        raise OutcomesError(f"{source} has two rows for problem {problem!r} and policy {policy!r}: keep one of them")


def _numbers(table: pd.DataFrame, column: str, source: str) -> Floats:
    if table[column].dtype.kind in "mM":  # pandas would convert these to nanoseconds
        raise OutcomesError(f"{source} has dates or durations in the column {column}: give numbers")
    if (
        table[column].map(lambda value: isinstance(value, complex)).any()
    ):  # numpy's too: pandas would take the real part
        raise OutcomesError(f"{source} has complex numbers in the column {column}: give real numbers")
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    is_text = np.isnan(numbers) & table[column].notna().to_numpy()
    refuse_rows(is_text, table, column, source, ", which is not a number: correct it")
    return numbers


def whole_numbers(table: pd.DataFrame, column: str, source: str) -> Floats:
    """Return a column of counts. Raises OutcomesError if one is no whole number from 0 to `MAX_SAMPLES`."""
    numbers = _numbers(table, column, source)
    whole = np.isfinite(numbers) & (numbers >= 0) & (numbers == np.floor(numbers))
    refuse_rows(~whole, table, column, source, ": counts are whole numbers of 0 or more, correct it")
    too_many = f": counts go up to {MAX_SAMPLES:,}, correct it or use fewer samples"
    refuse_rows(numbers > MAX_SAMPLES, table, column, source, too_many)
    return numbers


def _costs(table: pd.DataFrame, column: str, source: str) -> Floats:
    numbers = _numbers(table, column, source)
    refuse_rows(np.isinf(numbers) | (numbers < 0), table, column, source, ": costs are 0 or more, correct it")
    return numbers


def _check_sums(table: pd.DataFrame, numbers: dict[str, Floats], source: str) -> None:
    refuse_rows(numbers["c"] > numbers["n"], table, "c", source, ", which is more than n: correct the row")
    failed = sum((numbers[name] for name in FAILURES if name in numbers), np.zeros(len(table)))
    too_few = ", less than accepted and failed samples together: correct the row"
    refuse_rows(numbers["c"] + failed > numbers["n"], table, "n", source, too_few)


def refuse_rows(wrong: Bools, table: pd.DataFrame, column: str, source: str, reason: str) -> None:
    """Refuse a column with wrong values. Raises OutcomesError, which names the first of them."""
    if wrong.any():
        row = table.iloc[int(wrong.argmax())]
        value = "nothing" if pd.api.types.is_scalar(row[column]) and pd.isna(row[column]) else row[column]
        shown = value if str(value).isprintable() else repr(value)
        cell = f"{column} = {shown} for policy {row['policy']!r} on problem {row['problem']!r}"
        raise OutcomesError(f"{source} has {cell}{reason}")


def _fill(table: pd.DataFrame, numbers: dict[str, Floats], costly: list[str]) -> Outcomes:
    """Arrange the columns as matrices. A cell that the table does not name gets n = 0."""
    policies, problems = tuple(table["policy"].unique()), tuple(table["problem"].unique())
    m, p = pd.Categorical(table["policy"], policies).codes, pd.Categorical(table["problem"], problems).codes

    def matrix(name: str, kind: type, empty: float) -> Any:
        filled_MP = np.full((len(policies), len(problems)), empty, kind)
        filled_MP[m, p] = numbers[name].astype(kind)
        return filled_MP

    counts: dict[str, Ints] = {name: matrix(name, np.int64, 0) for name in numbers if name not in costly}
    return Outcomes(
        problems=problems,
        policies=policies,
        num_samples_MP=counts["n"],
        num_correct_MP=counts["c"],
        num_failures_MP={name: counts[name] for name in FAILURES if name in counts},
        costs_MP={name: matrix(name, np.float64, np.nan) for name in costly},
        stopped_MP=counts["stopped"] > 0 if "stopped" in counts else None,
    )


def groups_of(table: pd.DataFrame, source: str) -> tuple[str, ...] | None:
    """Return the group of each problem, in the order in which problems first appear; None without such a column.

    Raises:
        OutcomesError: a problem lacks a group, or has two.
    """
    if _GROUP not in table or table[_GROUP].isna().all():
        return None
    lacking = table[_GROUP].isna()
    if lacking.any():
        problem = table.loc[lacking, "problem"].iloc[0]
        raise OutcomesError(f"{source} has no group for problem {problem!r}: fill in the column group, or remove it")
    named = table[["problem"]].assign(group=table[_GROUP].map(str)).drop_duplicates()
    split = named["problem"].duplicated()
    if split.any():
        problem = named.loc[split, "problem"].iloc[0]
        first, second = named.loc[named["problem"] == problem, "group"].iloc[:2]
        raise OutcomesError(
            f"{source} puts problem {problem!r} into the groups {first!r} and {second!r}: give each problem one group"
        )
    return tuple(named["group"])


def _without_holes(outcomes: Outcomes, source: str, missing: Missing) -> Outcomes:
    hole_MP = outcomes.num_samples_MP == 0
    if not hole_MP.any():
        return outcomes
    m, p = np.argwhere(hole_MP)[0]
    first = f"policy {outcomes.policies[m]!r} on problem {outcomes.problems[p]!r}"
    if missing == "error":
        number = int(hole_MP.sum())
        cells = "1 cell" if number == 1 else f"{number} cells"
        raise OutcomesError(
            f"{source} has no samples of {first} ({cells} missing): draw them, or leave out what lacks samples by "
            "`--missing drop-problems` or `--missing drop-policies`, in Python by missing='drop-problems' or "
            "missing='drop-policies'"
        )
    by_policy = missing == "drop-policies"
    has_hole = hole_MP.any(axis=1 if by_policy else 0)
    if has_hole.all():
        raise OutcomesError(
            f"every {'policy' if by_policy else 'problem'} in {source} lacks samples somewhere (first: {first}), so "
            f"nothing would be left: draw them, or leave out {'problems' if by_policy else 'policies'} instead"
        )
    names = outcomes.policies if by_policy else outcomes.problems
    kept = np.flatnonzero(~has_hole)
    whole = outcomes.select(policies=kept) if by_policy else outcomes.select(problems=kept)
    left_out = tuple(names[hole] for hole in np.flatnonzero(has_hole))
    return replace(whole, left_out=left_out, left_out_are="policies" if by_policy else "problems")
