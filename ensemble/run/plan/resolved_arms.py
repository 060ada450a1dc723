"""The arms of an experiment once costs are known, and what those of fixed size draw.

A sample costs 1 where the budget is in samples. Otherwise costs are given, or measured once on the pilot of the run.
Axes: `M` policies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.adaptive.halving import SuccessiveHalving
from alphamix.ensemble.adaptive.state import Strategy
from alphamix.ensemble.adaptive.strategies import Optimised, Thompson
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Design
from alphamix.ensemble.experiment.schema import MOST_SAMPLES
from alphamix.ensemble.mixture.arms import BestSingle, Split
from alphamix.ensemble.store import Store


@dataclass(frozen=True)
class Arms:
    """The arms of an experiment, at a budget whose costs are known."""

    policies: tuple[str, ...]
    """Policies that are sampled."""
    members: tuple[str, ...]
    """Policies that adaptive arms may use."""
    budget: Budget
    singles: BestSingle | None
    """Each policy alone, if that is among the arms."""
    splits: Mapping[str, Split]
    """Fixed shares, by name of the arm."""
    adaptive: Mapping[str, Strategy]
    """Strategies over the members, by name of the arm."""
    pilot: int
    """Samples on each problem of every policy that no arm of fixed size uses, and of every member of `optimised`."""
    at_least: int
    """Minimum number of samples of every policy on each problem, whatever the arms."""

    @classmethod
    def of(cls, design: Design, cost_M: Floats) -> "Arms":
        """Resolve the arms that an experiment names.

        Args:
            design: of the run.
            cost_M: `[M]` cost of a sample of each policy.

        Raises:
            ExperimentError: the budget does not pay for an arm, or is absurdly large.
        """
        section, policies = design.allocation, design.policies
        budget = Budget(design.budget.amount, cost_M, design.budget.currency)
        _check_budget(policies, budget)
        splits = {"equal": Split.equal(design.members, budget)} if "equal" in section.arms else {}
        splits |= {name: Split(weights, budget) for name, weights in design.weights.items() if name in section.arms}
        strategies: dict[str, Strategy] = {
            "optimised": Optimised(section.pilot),
            "thompson": Thompson(section.batch),
            "halving": SuccessiveHalving(),
        }
        adaptive = {name: strategy for name, strategy in strategies.items() if name in section.arms}
        singles = BestSingle(budget) if "singles" in section.arms else None
        if singles is not None:
            _check_singles(policies, singles)
        for name, split in splits.items():
            _check_split(name, split, policies)
        return cls(policies, design.members, budget, singles, splits, adaptive, section.pilot, design.samples)

    @property
    def fixed_M(self) -> Ints:
        """`[M]` samples of each policy on each problem that are drawn whatever the verdicts: the fixed arms' union."""
        needed_M = np.zeros(len(self.policies), np.int64)
        if self.singles is not None:
            needed_M = self.singles.samples_M()
        for split in self.splits.values():
            needed_M = np.maximum(needed_M, split.allocation_M(self.policies))
        in_pilot_M = needed_M == 0
        if "optimised" in self.adaptive:
            in_pilot_M |= np.isin(self.policies, self.members)
        return np.maximum(needed_M, np.where(in_pilot_M, max(self.pilot, self.at_least), self.at_least))

    @property
    def members_budget(self) -> Budget:
        """The budget with the costs of the members alone."""
        rows = [self.policies.index(member) for member in self.members]
        return Budget(self.budget.total, self.budget.cost_M[rows], self.budget.currency)


def _check_budget(policies: Sequence[str], budget: Budget) -> None:
    least, m = float(budget.cost_M.min()), int(budget.cost_M.argmin())
    what = f"budget.{budget.currency} = {budget.total:g} per problem"
    if least > budget.total * (1 + 1e-9):
        raise ExperimentError(
            f"{what} does not pay for one sample of any policy, not even of {policies[m]!r}, which costs {least:g}: "
            "raise it"
        )
    if budget.total > MOST_SAMPLES * least:
        raise ExperimentError(
            f"{what} pays for {budget.total / least:.3g} samples of policy {policies[m]!r}, which cost {least:g} each; "
            f"more than {MOST_SAMPLES:.0e} are refused: lower it, or correct budget.costs"
        )


def _check_singles(policies: Sequence[str], singles: BestSingle) -> None:
    budget, samples_M = singles.budget, singles.samples_M()
    if np.any(samples_M == 0):
        m = int(samples_M.argmin())
        raise ExperimentError(
            f"budget.{budget.currency} = {budget.total:g} per problem does not pay for one sample of policy "
            f"{policies[m]!r}, which costs {budget.cost_M[m]:g}: raise it, or leave the policy out"
        )


def _check_split(name: str, split: Split, policies: Sequence[str]) -> None:
    """Check that the equal split reaches all its members; with given weights, a small share may round to nothing."""
    split_M = split.allocation_M(policies)
    missed = [policy for policy in split.weights if not split_M[policies.index(policy)]]
    if missed and (name == "equal" or not split_M.any()):
        costs = split.budget.cost_M[[policies.index(policy) for policy in split.weights]]
        raise ExperimentError(
            f"budget.{split.budget.currency} = {split.budget.total:g} per problem does not pay for one sample of each "
            f"policy of the arm {name!r}, {costs.sum():g} together: raise it, or name fewer"
        )


def known_arms(design: Design, store: Store | None = None) -> Arms | None:
    """Resolve the arms; return None while costs still have to be measured on the pilot.

    Args:
        design: of the run.
        store: the run's record, whose pilot is measured where costs are not given.

    Raises:
        ExperimentError: the samples of the pilot lack their costs, or the budget does not pay for an arm.
    """
    names, budget = design.policies, design.budget
    if budget.currency == "samples":
        return Arms.of(design, np.ones(len(names)))
    if budget.costs is not None:
        return Arms.of(design, np.array([budget.costs[name] for name in names]))
    pilot = design.allocation.pilot
    sizes = None if store is None else store.sizes()
    if store is None or sizes is None or sizes.empty or sizes["fixed"].min() < pilot:
        return None
    costs = store.mean_costs(pilot)[budget.currency]
    cost_M = np.array([costs.get(name, np.nan) for name in names], np.float64)
    if not np.all(cost_M > 0):
        name = names[int((~(cost_M > 0)).argmax())]
        raise ExperimentError(
            f"the budget is in {budget.currency}, but the first samples of policy {name!r} do not report theirs: give "
            f"budget.costs, or a budget in samples"
        )
    return Arms.of(design, cost_M)
