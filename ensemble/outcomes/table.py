"""The table of counts per problem and policy: n graded samples, c of them accepted, and why the others failed.

All analysis starts here. Every policy has samples on every problem, since `outcomes.files` refuses tables with missing
cells, but n may differ from cell to cell. Axes: `M` policies, `P` problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite
from typing import Literal, TypeVar

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError, Currency
from alphamix.ensemble.errors import EnsembleError

FAILURES = ("optimisation", "correctness", "format", "exhausted")
Cost = Literal["tokens", "seconds"]
_Value = TypeVar("_Value")


MAX_SAMPLES = 10**6
"""Greatest number of samples of one policy on one problem: as far as estimates are tested, and far less than would
exhaust memory."""


class OutcomesError(EnsembleError):
    """A table of outcomes is invalid or insufficient. The message gives the cause, then the cure."""


_LEAST_SHARE = 0.1
"""Share of all problems that must look like copies: a few agree by chance, such as those that one policy solves."""
_MIN_BITS = 20.0
"""Information in the counts of one problem below which two problems may well agree by chance."""


@dataclass(frozen=True)
class Outcomes:
    """Counts of one experiment, for every policy on every problem."""

    problems: tuple[str, ...]
    policies: tuple[str, ...]
    num_samples_MP: Ints
    """`[M, P]` graded samples."""
    num_correct_MP: Ints
    """`[M, P]` accepted samples."""
    num_failures_MP: Mapping[str, Ints]
    """`[M, P]` failed samples by failure class; empty where the classes are unknown."""
    costs_MP: Mapping[str, Floats]
    """`[M, P]` mean `tokens` and `seconds` per sample, as far as they are known; NaN in single cells that lack them."""
    stopped_MP: Bools | None = None
    """`[M, P]` whether drawing stopped because of what was drawn, as in adaptive runs; None where every n was fixed."""
    groups: tuple[str, ...] | None = None
    """Group of each problem, such as its contest or template; None where problems are independent of each other."""
    left_out: tuple[str, ...] = ()
    """Policies or problems that were left out because some of their cells have no samples."""
    left_out_are: Literal["problems", "policies"] = "problems"

    @property
    def solve_rate_MP(self) -> Floats:
        """Share of accepted samples, `[M, P]`."""
        return self.num_correct_MP / self.num_samples_MP

    @property
    def group_P(self) -> Ints:
        """Index of the group of each problem, `[P]`; without groups, each problem is one."""
        if self.groups is None:
            return np.arange(len(self.problems))
        return np.unique(self.groups, return_inverse=True)[1]

    @property
    def num_lookalikes(self) -> int:
        """Number of problems that have the counts of another one, of another group, for every policy.

        Problems on which no sample or every sample was accepted do not count. The number is 0 where chance may explain
        it.
        """
        n_MP, c_MP = self.num_samples_MP, self.num_correct_MP
        if np.log2(n_MP.mean() + 1) * len(self.policies) < _MIN_BITS:
            return 0
        telling_P = (c_MP.sum(axis=0) > 0) & (c_MP.sum(axis=0) < n_MP.sum(axis=0))
        cells_KP, group_P = np.concatenate([n_MP, c_MP])[:, telling_P], self.group_P[telling_P]
        _, kind_P = np.unique(cells_KP, axis=1, return_inverse=True)
        groups_of_kind = np.bincount(np.unique([kind_P.ravel(), group_P], axis=1)[0].astype(np.int64))
        number = int((groups_of_kind[kind_P.ravel()] > 1).sum())
        return number if number >= _LEAST_SHARE * len(self.problems) else 0

    def row(self, policy: str) -> int:
        """Return the index of a policy on the axis M."""
        return self.policies.index(policy)

    def rows(self, policies: Sequence[str]) -> list[int]:
        """Return the indices of policies that a user named.

        Raises:
            OutcomesError: a policy is unknown; the message names the nearest known one.
        """
        for policy in policies:
            if policy not in self.policies:
                near = get_close_matches(str(policy), self.policies, n=1, cutoff=0)
                raise OutcomesError(f"unknown policy {policy!r} in the outcomes: did you mean {near[0]!r}?")
        return [self.row(policy) for policy in policies]

    def columns(self, problems: Sequence[str]) -> Ints:
        """Return the indices of problems on the axis P."""
        place = {problem: p for p, problem in enumerate(self.problems)}
        return np.array([place[problem] for problem in problems], np.int64)

    def select(self, *, policies: Sequence[int] | Ints | None = None, problems: Ints | None = None) -> "Outcomes":
        """Return the outcomes of the policies and problems with these indices, in this order."""
        rows = np.arange(len(self.policies)) if policies is None else np.asarray(policies, np.int64)
        columns = np.arange(len(self.problems)) if problems is None else problems
        cells = np.ix_(rows, columns)
        return replace(
            self,
            problems=tuple(self.problems[p] for p in columns),
            policies=tuple(self.policies[m] for m in rows),
            num_samples_MP=self.num_samples_MP[cells],
            num_correct_MP=self.num_correct_MP[cells],
            num_failures_MP={name: failed_MP[cells] for name, failed_MP in self.num_failures_MP.items()},
            costs_MP={name: cost_MP[cells] for name, cost_MP in self.costs_MP.items()},
            stopped_MP=None if self.stopped_MP is None else self.stopped_MP[cells],
            groups=None if self.groups is None else tuple(self.groups[p] for p in columns),
        )

    def canonical(self) -> "Outcomes":
        """Return the same outcomes with policies and problems in alphabetical order.

        Ties, random draws and rounding depend on an order, and no figure may depend on that of the table. So analyses
        work on this, and `in_order` returns what they found to the order of the table.
        """
        return self.select(
            policies=np.argsort(np.array(self.policies), kind="stable"),
            problems=np.argsort(np.array(self.problems), kind="stable"),
        )

    def in_order(self, by_policy: Mapping[str, _Value]) -> dict[str, _Value]:
        """Return values by policy in the order of this table, for the policies that have one."""
        return {policy: by_policy[policy] for policy in self.policies if policy in by_policy}

    def mean_cost_M(self, cost: Cost) -> Floats:
        """Return the cost of one sample of each policy, `[M]`, as the mean over problems.

        Raises:
            OutcomesError: the cost of some cell is unknown, or the samples of some policy cost nothing.
        """
        cost_MP = self.costs_MP.get(cost)
        if cost_MP is None:
            raise OutcomesError(f"the outcomes have no column {cost!r}: add it, or give the budget in samples")
        wrong_M = ~(cost_MP.mean(axis=1) > 0)
        if wrong_M.any():
            policy = self.policies[int(wrong_M.argmax())]
            raise OutcomesError(
                f"the {cost} of policy {policy!r} are unknown on some problem, or all 0: fill in the column, or leave "
                "the policy out"
            )
        # In ascending order, so that rounding does not depend on the order of problems.
        return np.sort(cost_MP, axis=1).mean(axis=1)

    def budget(self, total: float, currency: Currency = "samples") -> Budget:
        """Return a budget per problem for the policies of this table.

        Raises:
            BudgetError: the total is no number of samples, or pays for more than can be meant.
            OutcomesError: the table does not say what samples cost in the currency.
        """
        if not isfinite(total):
            raise BudgetError(f"a budget of {total} {currency} is not a finite number: give a finite number")
        if currency == "samples":
            if total != int(total):
                raise BudgetError(f"a budget of {total:g} samples is not a whole number: give a whole number")
            if total > MAX_SAMPLES:
                raise BudgetError(f"a budget of {total:g} samples is too large: give at most {MAX_SAMPLES:,}")
            return Budget.of_samples(int(total), len(self.policies))
        cost_M = self.mean_cost_M(currency)
        if total > MAX_SAMPLES * cost_M.min():
            cheapest = self.policies[int(cost_M.argmin())]
            raise BudgetError(
                f"a budget of {total:g} {currency} pays for more than {MAX_SAMPLES:,} samples of {cheapest!r}: lower it"
            )
        return Budget(total, cost_M, currency)

    def check_fixed_size(self) -> None:
        """Refuse outcomes whose n depends on what was drawn, since no estimator of pass@k is unbiased for them.

        Raises:
            OutcomesError: some cell stopped early; the message names the first.
        """
        if self.stopped_MP is None or not self.stopped_MP.any():
            return
        m, p = np.argwhere(self.stopped_MP)[0]
        raise OutcomesError(
            f"drawing stopped early in {int(self.stopped_MP.sum())} cells (first: policy {self.policies[m]!r} on "
            f"problem {self.problems[p]!r}), so their counts are biased and pass@k is undefined: report coverage at "
            "cost, or draw a fixed number of samples"
        )
