"""The arms of an experiment at a budget whose costs are known, and what those of fixed size draw.

Costs are 1 where the budget is in samples; else they are given, or the pilot of the run's record tells them, once and
for all. Axes: `M` policies.
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
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.experiment.schema import MOST_SAMPLES
from alphamix.ensemble.mixture.arms import BestSingle, Split
from alphamix.ensemble.store import Store


@dataclass(frozen=True)
class Arms:
    """The arms of an experiment, at a budget whose costs are known."""

    policies: tuple[str, ...]
    """All that are sampled."""
    members: tuple[str, ...]
    """Policies that adaptive arms may use."""
    budget: Budget
    singles: BestSingle | None
    """Each policy alone, where that is among the arms."""
    splits: Mapping[str, Split]
    """Fixed shares, by name of the arm."""
    adaptive: Mapping[str, Strategy]
    """Strategies over the members, by name of the arm."""
    pilot: int
    """Samples of a policy on each problem of which no arm says more; of `optimised`, of every member."""
    at_least: int
    """Samples of every policy on each problem, whatever the arms."""

    @classmethod
    def of(cls, inputs: Inputs, cost_M: Floats) -> "Arms":
        """Resolve the arms that an experiment names.

        Raises:
            ExperimentError: the budget does not pay for an arm, or for more than anyone can want.
        """
        section, policies = inputs.experiment.allocation, inputs.registry.names
        budget = Budget(inputs.experiment.budget.amount, cost_M, inputs.experiment.budget.currency)
        _check_budget(policies, budget)
        splits = {"equal": Split.equal(inputs.members, budget)} if "equal" in section.arms else {}
        splits |= {name: Split(weights, budget) for name, weights in inputs.weights.items() if name in section.arms}
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
        at_least = inputs.experiment.sampling.samples or 0
        return cls(policies, inputs.members, budget, singles, splits, adaptive, section.pilot, at_least)

    @property
    def fixed_M(self) -> Ints:
        """`[M]` samples of each policy on each problem that are drawn whatever comes out: the union of fixed arms."""
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
        """With the costs of the members alone."""
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
            f"{policies[m]!r}, which costs {budget.cost_M[m]:g}: raise it, or leave out the policy"
        )


def _check_split(name: str, split: Split, policies: Sequence[str]) -> None:
    """The equal split must reach all its members; in a split by weights a small one may round to nothing."""
    split_M = split.allocation_M(policies)
    missed = [policy for policy in split.weights if not split_M[policies.index(policy)]]
    if missed and (name == "equal" or not split_M.any()):
        costs = split.budget.cost_M[[policies.index(policy) for policy in split.weights]]
        raise ExperimentError(
            f"budget.{split.budget.currency} = {split.budget.total:g} per problem does not pay for one sample of each "
            f"policy of the arm {name!r}, {costs.sum():g} together: raise it, or name fewer"
        )


def known_arms(inputs: Inputs, store: Store | None = None) -> Arms | None:
    """Resolve the arms, by a run's record where only its pilot tells what samples cost; None before that is there.

    Raises:
        ExperimentError: the samples of the pilot do not say what they cost, or the budget does not pay for an arm.
    """
    names, budget = inputs.registry.names, inputs.experiment.budget
    if budget.currency == "samples":
        return Arms.of(inputs, np.ones(len(names)))
    if budget.costs is not None:
        return Arms.of(inputs, np.array([budget.costs[name] for name in names]))
    pilot = inputs.experiment.allocation.pilot
    sizes = None if store is None else store.sizes()
    if store is None or sizes is None or sizes.empty or sizes["fixed"].min() < pilot:
        return None
    costs = store.mean_costs(pilot)[budget.currency]
    cost_M = np.array([costs.get(name, np.nan) for name in names], np.float64)
    if not np.all(cost_M > 0):
        name = names[int((~(cost_M > 0)).argmax())]
        raise ExperimentError(
            f"the budget is in {budget.currency}, but the first samples of policy {name!r} do not tell theirs: give "
            f"budget.costs, or a budget in samples"
        )
    return Arms.of(inputs, cost_M)
