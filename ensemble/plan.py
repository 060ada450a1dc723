"""What a run draws: from the arms of an experiment to slots, a stage at a time.

First what is drawn whatever comes out: a pilot where it must tell what samples cost, then the union of what the arms of
fixed size need, each draw once however many arms share it. Then, round by round, what adaptive arms ask for beyond
that. Each stage follows from the settings and the record alone, so a run that was killed plans the same again.
Axes: `M` policies, `P` problems.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ensemble.adaptive.arms import play_arm
from ensemble.adaptive.draws import Draws, follow
from ensemble.adaptive.halving import SuccessiveHalving
from ensemble.adaptive.strategies import Optimised, Thompson
from ensemble.adaptive.tally import AdaptiveError, Strategy, Tally
from ensemble.experiment import Experiment, ExperimentError
from ensemble.inputs import Inputs
from ensemble.intervals import Resampling
from ensemble.mixture.arms import Arm, BestSingle, Split
from ensemble.mixture.search import Budget
from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import Floats, Ints
from ensemble.sampling import plan_slots
from ensemble.store import RUN_SET, Store


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

    @classmethod
    def of(cls, inputs: Inputs, cost_M: Floats) -> "Arms":
        """Resolve the arms that an experiment names."""
        section, policies = inputs.experiment.allocation, inputs.registry.names
        budget = Budget(inputs.experiment.budget.amount, cost_M, inputs.experiment.budget.currency)
        splits = {"equal": Split.equal(inputs.members, budget)} if "equal" in section.arms else {}
        splits |= {name: Split(weights, budget) for name, weights in inputs.weights.items() if name in section.arms}
        strategies: dict[str, Strategy] = {
            "optimised": Optimised(section.pilot),
            "thompson": Thompson(section.batch),
            "halving": SuccessiveHalving(),
        }
        adaptive = {name: strategy for name, strategy in strategies.items() if name in section.arms}
        singles = BestSingle(budget) if "singles" in section.arms else None
        return cls(policies, inputs.members, budget, singles, splits, adaptive)

    def fixed_M(self, pilot: int, at_least: int) -> Ints:
        """`[M]` samples of each policy on each problem that are drawn whatever comes out: the union of fixed arms.

        Args:
            pilot: what a policy gets at least of which no arm says more; of `optimised`, every member.
            at_least: what every policy gets at least.
        """
        needed_M = np.zeros(len(self.policies), np.int64)
        if self.singles is not None:
            needed_M = self._affordable(self.singles.samples_M())
        for split in self.splits.values():
            needed_M = np.maximum(needed_M, split.allocation_M(self.policies))
        in_pilot_M = needed_M == 0
        if "optimised" in self.adaptive:
            in_pilot_M |= np.isin(self.policies, self.members)
        return np.maximum(needed_M, np.where(in_pilot_M, max(pilot, at_least), at_least))

    @property
    def members_budget(self) -> Budget:
        """With the costs of the members alone."""
        rows = [self.policies.index(member) for member in self.members]
        return Budget(self.budget.total, self.budget.cost_M[rows], self.budget.currency)

    def _affordable(self, samples_M: Ints) -> Ints:
        if np.any(samples_M == 0):
            m = int(samples_M.argmin())
            raise ExperimentError(
                f"budget.{self.budget.currency} = {self.budget.total:g} per problem does not pay for one sample of "
                f"policy {self.policies[m]!r}, which costs {self.budget.cost_M[m]:g}: raise it, or leave out the policy"
            )
        return samples_M


def known_arms(inputs: Inputs, store: Store | None = None) -> Arms | None:
    """Resolve the arms, by a run's record where only its pilot tells what samples cost; None before that is there.

    Raises:
        ExperimentError: the samples of the pilot do not say what they cost.
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


def check(inputs: Inputs) -> None:
    """Refuse a budget that does not pay for an arm, or limits of the run that cannot hold what is sure to be drawn.

    Raises:
        ExperimentError: with the numbers.
    """
    budget, problems = inputs.experiment.budget, len(inputs.problems)
    arms = known_arms(inputs)
    if arms is not None:
        fixed_M = arms.fixed_M(inputs.experiment.allocation.pilot, inputs.experiment.sampling.samples or 0)
        samples, least = int(fixed_M.sum()) * problems, float(fixed_M @ arms.budget.cost_M) * problems
        _first_steps(inputs, arms)
    else:
        samples, least = inputs.experiment.allocation.pilot * len(inputs.registry.names) * problems, 0.0
    for currency, limit in budget.run.limits.items():
        needed = samples if currency == "samples" else least if currency == budget.currency else 0.0
        if limit < needed:
            raise ExperimentError(
                f"budget.run.{currency} = {limit:g}, but {problems} problems with budget.{budget.currency} = "
                f"{budget.amount:g} each take {needed:g} for the arms {', '.join(inputs.experiment.allocation.arms)}: "
                "raise it, lower the budget, or name fewer arms"
            )


def _first_steps(inputs: Inputs, arms: Arms) -> None:
    start = Tally.empty(len(inputs.problems), arms.members_budget)
    for name, strategy in arms.adaptive.items():
        try:
            strategy.ask(start)
        except AdaptiveError as error:
            raise ExperimentError(f"allocation.arms names {name!r}: {error}") from error


def extend(store: Store, inputs: Inputs) -> bool:
    """Plan what the next stage draws, once nothing is owed; say whether there was anything left to plan.

    Raises:
        ExperimentError, AdaptiveError: the budget does not pay for what an arm needs.
    """
    arms = known_arms(inputs, store)
    section = inputs.experiment.allocation
    policies, problems = inputs.registry.names, [problem.id for problem in inputs.problems]
    sizes = store.sizes()
    planned_MP, fixed_MP = (_matrix(sizes, column, policies, problems) for column in ("planned", "fixed"))
    if arms is None:
        fixed_M = np.full(len(policies), section.pilot)
    else:
        fixed_M = arms.fixed_M(section.pilot, inputs.experiment.sampling.samples or 0)
    if np.any(fixed_M[:, None] > fixed_MP):
        fixed = dict(zip(policies, fixed_M.tolist(), strict=True))
        _add(store, inputs, planned_MP, np.maximum(planned_MP, fixed_M[:, None]), fixed)
        return True
    if arms is None or not arms.adaptive:
        return False
    needed_MP = _needed(store, inputs, arms, planned_MP)
    if not np.any(needed_MP > planned_MP):
        return False
    _add(store, inputs, planned_MP, np.maximum(planned_MP, needed_MP), {})
    return True


def describe(inputs: Inputs) -> dict[str, Any]:
    """What a run would draw, for people and machines, before it begins; None is what only its pilot can tell."""
    check(inputs)
    section, arms = inputs.experiment, known_arms(inputs)
    policies, problems = inputs.registry.names, len(inputs.problems)
    pilot, at_least = section.allocation.pilot, section.sampling.samples or 0
    first_M = np.full(len(policies), max(pilot, at_least)) if arms is None else arms.fixed_M(pilot, at_least)
    samples = int(first_M.sum()) * problems
    return {
        "policies": list(policies),
        "problems": problems,
        "budget_per_problem": section.budget.amount,
        "currency": section.budget.currency,
        "budget_of_the_run": section.budget.run.limits,
        "arms": {name: None if arms is None else _allocations(arms, name) for name in section.allocation.arms},
        "samples_per_problem": dict(zip(policies, first_M.tolist(), strict=True)),
        "samples": samples,
        "samples_are": _what_samples_are(arms),
        "most_tokens": samples * section.sampling.max_tokens,
    }


def _allocations(arms: Arms, name: str) -> Any:
    """Samples per problem by policy; of an adaptive arm what it may spend at most."""
    if name == "singles" and arms.singles is not None:
        return dict(zip(arms.policies, arms.singles.samples_M().tolist(), strict=True))
    if name in arms.splits:
        counts = zip(arms.policies, arms.splits[name].allocation_M(arms.policies).tolist(), strict=True)
        return {policy: count for policy, count in counts if count}
    return {"adaptive": list(arms.members), "at_most": arms.budget.total}


def _what_samples_are(arms: Arms | None) -> str:
    if arms is None:
        return "the pilot, which tells what samples cost; arms are sized by that"
    if arms.adaptive and arms.singles is None:
        return "those of fixed number; adaptive arms draw more where they need them"
    return "all that is drawn"


def played_arms(store: Store, inputs: Inputs, arms: Arms, outcomes: Outcomes, resampling: Resampling) -> dict[str, Arm]:
    """Score the adaptive arms of a finished run, by name.

    Raises:
        AdaptiveError: the run is not finished.
    """
    if not arms.adaptive:
        return {}
    rows = [outcomes.row(member) for member in arms.members]
    draws = _draws(store, arms.members, outcomes.problems)
    return {
        name: play_arm(
            strategy,
            outcomes.select(policies=rows),
            arms.members_budget,
            draws,
            _seed(inputs.experiment, name),
            resampling,
        )
        for name, strategy in arms.adaptive.items()
    }


def _needed(store: Store, inputs: Inputs, arms: Arms, planned_MP: Ints) -> Ints:
    """`[M, P]` what adaptive arms need at their next steps, over all of them."""
    problems = [problem.id for problem in inputs.problems]
    draws = _draws(store, arms.members, problems)
    rows = [arms.policies.index(member) for member in arms.members]
    needed_MP = np.zeros_like(planned_MP)
    for name, strategy in arms.adaptive.items():
        start = Tally.empty(len(problems), arms.members_budget, _seed(inputs.experiment, name))
        try:
            _, asked_MP = follow(strategy, draws, start)
        except AdaptiveError as error:
            raise ExperimentError(f"allocation.arms names {name!r}: {error}") from error
        if asked_MP is not None:
            needed_MP[rows] = np.maximum(needed_MP[rows], asked_MP)
    return needed_MP


def _add(store: Store, inputs: Inputs, planned_MP: Ints, end_MP: Ints, fixed: Mapping[str, int]) -> None:
    slots = plan_slots(
        inputs.registry.names,
        inputs.problems,
        end_MP,
        inputs.experiment.sampling.seed,
        planned=planned_MP,
        first_number=store.next_number(),
    )
    store.extend(slots, fixed)


def _draws(store: Store, policies: Sequence[str], problems: Sequence[str]) -> Draws:
    table = store.draws(verdict_set=RUN_SET)
    table = table[table["policy"].isin(policies)]
    most = int(table["sample_index"].max()) + 1 if len(table) else 0
    accepted_MPT = np.zeros((len(policies), len(problems), most), np.bool_)
    held_MP = np.zeros((len(policies), len(problems)), np.int64)
    m, p = _codes(table, policies, problems)
    accepted_MPT[m, p, table["sample_index"]] = table["accepted"] != 0
    np.add.at(held_MP, (m, p), 1)
    return Draws(accepted_MPT, held_MP)


def _matrix(table: pd.DataFrame, column: str, policies: Sequence[str], problems: Sequence[str]) -> Ints:
    matrix_MP = np.zeros((len(policies), len(problems)), np.int64)
    matrix_MP[_codes(table, policies, problems)] = table[column]
    return matrix_MP


def _codes(table: pd.DataFrame, policies: Sequence[str], problems: Sequence[str]) -> tuple[Ints, Ints]:
    m = pd.Categorical(table["policy"], categories=list(policies)).codes
    p = pd.Categorical(table["problem"], categories=list(problems)).codes
    return m.astype(np.int64), p.astype(np.int64)


def _seed(experiment: Experiment, arm: str) -> int:
    """Of an adaptive arm's own randomness: another for each arm."""
    return int.from_bytes(hashlib.sha256(f"{experiment.sampling.seed}\0{arm}".encode()).digest()[:4], "little")
