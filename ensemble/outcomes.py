"""The table of counts per problem and policy: n graded samples, c accepted, and why the others failed.

All analysis starts here. Axes: `M` policies, `P` problems. A cell that was never sampled is an error, never a zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.errors import EnsembleError
from ensemble.pass_at_k import Floats, Ints

FAILURES = ("optimisation", "correctness", "format", "exhausted")


class OutcomesError(EnsembleError):
    """A table of outcomes does not hold: the message says why, then what to do."""


@dataclass(frozen=True)
class Outcomes:
    """Counts of one experiment, every policy on every problem."""

    problems: tuple[str, ...]
    policies: tuple[str, ...]
    num_samples_MP: Ints
    """`[M, P]` graded samples."""
    num_correct_MP: Ints
    """`[M, P]` accepted samples."""
    num_failures_MP: Mapping[str, Ints]
    """`[M, P]` by failure class; empty where the classes are unknown."""
    costs_MP: Mapping[str, Floats]
    """`[M, P]` means per sample of `tokens` and `seconds`; empty where unknown."""

    @property
    def solve_rate_MP(self) -> Floats:
        """`[M, P]` share of accepted samples."""
        return self.num_correct_MP / self.num_samples_MP

    def row(self, policy: str) -> int:
        """Index of a policy on the axis M."""
        return self.policies.index(policy)

    def to_csv(self, path: Path) -> None:
        """Write `problem,policy,n,c` and the columns that are known, one row per cell."""
        matrices = {
            "n": self.num_samples_MP,
            "c": self.num_correct_MP,
            **self.num_failures_MP,
            **self.costs_MP,
        }
        index = pd.MultiIndex.from_product([self.policies, self.problems], names=["policy", "problem"])
        table = pd.DataFrame({name: matrix.ravel() for name, matrix in matrices.items()}, index=index)
        table = table.reset_index()[["problem", "policy", *matrices]]
        table.to_csv(path, index=False, float_format="%.6g")

    @classmethod
    def read_csv(cls, path: Path) -> "Outcomes":
        """Read what `to_csv` wrote, or any table with the columns `problem,policy,n,c`.

        Raises:
            OutcomesError: columns or cells are missing or double, or counts are none.
        """
        try:
            table = pd.read_csv(path, dtype={"problem": str, "policy": str})
        except (OSError, ValueError) as error:
            raise OutcomesError(f"{path} cannot be read as CSV ({error}): give a table of outcomes") from error
        return cls.from_table(table, str(path))

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str) -> "Outcomes":
        """Build from a long table with one row per cell; policies and problems keep their first-seen order.

        Raises:
            OutcomesError: as `read_csv`; `source` names the table in the message.
        """
        missing = {"problem", "policy", "n", "c"} - set(table.columns)
        if missing:
            raise OutcomesError(f"{source} lacks the columns {sorted(missing)}: add them")
        if table.empty:
            raise OutcomesError(f"{source} holds no rows: grade some samples first")
        double = table.duplicated(["problem", "policy"])
        if double.any():
            problem, policy = table.loc[double, ["problem", "policy"]].iloc[0]
            raise OutcomesError(f"{source} has two rows for problem {problem!r} and policy {policy!r}: keep one")
        policies, problems = table["policy"].unique(), table["problem"].unique()
        wide = table.set_index(["policy", "problem"]).reindex(pd.MultiIndex.from_product([policies, problems]))
        gaps = wide.index[wide["n"].isna()]
        if len(gaps):
            raise OutcomesError(
                f"{source} has no row for policy {gaps[0][0]!r} on problem {gaps[0][1]!r} "
                f"({len(gaps)} cells missing): sample them, or leave out the policy or the problem"
            )
        shape = (len(policies), len(problems))

        def counts(column: str) -> Ints:
            values = wide[column].to_numpy(np.float64)
            if not np.all((values >= 0) & (values == np.floor(values))):
                raise OutcomesError(f"column {column!r} of {source} holds values that are no counts: correct them")
            return values.astype(np.int64).reshape(shape)

        n_MP, c_MP = counts("n"), counts("c")
        for wrong, reason, cure in (
            (n_MP < 1, "no graded sample", "sample it, or leave out the policy or the problem"),
            (c_MP > n_MP, "more accepted than graded samples", "correct the row"),
        ):
            if wrong.any():
                m, p = np.argwhere(wrong)[0]
                raise OutcomesError(
                    f"{source}: policy {policies[m]!r} on problem {problems[p]!r} has {reason} "
                    f"(n = {n_MP[m, p]}, c = {c_MP[m, p]}): {cure}"
                )
        return cls(
            problems=tuple(problems),
            policies=tuple(policies),
            num_samples_MP=n_MP,
            num_correct_MP=c_MP,
            num_failures_MP={name: counts(name) for name in FAILURES if name in wide},
            costs_MP={
                name: wide[name].to_numpy(np.float64).reshape(shape) for name in ("tokens", "seconds") if name in wide
            },
        )
