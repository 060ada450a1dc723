"""All numbers of a run's report, computed once from outcomes. Tables, figures, the page and `summary.json` show them.

Axes: `M` policies, `P` problems.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alphamix.ensemble.analysis.compare_settings import SettingsComparison, compare_settings
from alphamix.ensemble.analysis.complementarity import Pair, UniqueSolve, pairs, solved_by_extrapolation, solved_by_one
from alphamix.ensemble.analysis.failure_frontier import (
    FrontPoint,
    ModerateRange,
    frontier,
    moderate_range,
    pareto,
    trends,
)
from alphamix.ensemble.analysis.paper_claims import Claim, examine
from alphamix.ensemble.budget import Budget, BudgetError, Currency
from alphamix.ensemble.experiment.schema import AnalysisSection
from alphamix.ensemble.mixture.arms import Arm, BestSingle, Split
from alphamix.ensemble.mixture.compare_arms import Comparison, compare, equal_gains
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, Division, cross_fits
from alphamix.ensemble.mixture.gain_location import FEW_BUDGETS, GainLocation, locate_gain
from alphamix.ensemble.mixture.gains import StrictGain
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, means_over_problems
from alphamix.ensemble.statistics.pass_at_k import coverage, pass_at_k
from alphamix.ensemble.statistics.trend_test import Trend

_CURVE_POINTS = 24
"""Number of amounts at which curves of coverage are computed."""


@dataclass(frozen=True)
class Forgeable:
    """Counts of problems whose acceptance a hostile program could forge (`Problem.is_forgeable`)."""

    problems: int
    samples: int
    """Number of graded samples of these problems."""
    accepted: int
    """Number of accepted samples of these problems."""


@dataclass(frozen=True)
class Analysis:
    """All results of a run."""

    outcomes: Outcomes
    budget: Budget
    """Budget per problem of every arm."""
    resampling: Resampling
    """How intervals are made."""
    alphas: dict[str, float | None]
    """α of each policy, None where a policy has none."""
    pass_at_k: dict[str, dict[int, Estimate | None]]
    """pass@k by policy and k; None where the policy has fewer than k samples."""
    frontier: dict[str, dict[str, Estimate]]
    """Failure rates by policy and failure class."""
    front: dict[str, FrontPoint]
    """Dominance between policies; empty where failure classes are unknown."""
    trends: dict[str, Trend]
    """Trends of the solve rate and each failure class along α; empty without a line of α."""
    moderate: ModerateRange | None
    """Range of α in which answers are intact; None where it is unknown."""
    comparison: Comparison
    """All arms at the budget."""
    run_settings: RunSettings
    """The settings of the run, by which its policies are told apart."""
    settings: SettingsComparison | None
    """Comparison of the settings; None in a run of one setting."""
    curves: dict[str, dict[float, float]]
    """Coverage by amount spent per problem, of each policy alone and of each split, as far as there are samples."""
    pair_samples: int
    """Samples of each policy in a pair: half of what the budget pays for, or half of the smallest n if that is less."""
    pairs: list[Pair]
    """Comparison of every ordered pair of policies; empty where `pair_samples` is 0."""
    solved_by_one: dict[str, list[UniqueSolve]]
    """Problems that only one policy solved, by policy."""
    solved_by_extrapolation: list[UniqueSolve]
    """Problems that only policies outside 0 ≤ α ≤ 1 solved."""
    gain_location: GainLocation | None
    """Where the gain lies along the budget; None where the outcomes cannot tell."""
    claims: list[Claim]
    forgeable: Forgeable

    @property
    def best_single(self) -> str | None:
        """The best single policy on all problems; None where no single policy can be scored at the budget."""
        single = self.comparison.arms.get("best_single")
        return None if single is None else next(iter(single.allocation))

    @property
    def gains(self) -> list[list[float]]:
        """What a second policy (column) adds to a first (row), with 0 on the diagonal; empty without pairs."""
        if not self.pair_samples:
            return []
        gain = {(pair.first, pair.second): pair.gain.value for pair in self.pairs}
        policies = self.outcomes.policies
        return [[gain.get((first, second), 0.0) for second in policies] for first in policies]

    def shown_as(self, outcomes: Outcomes, budget: Budget) -> "Analysis":
        """Return the same results with policies in the order of this table and budget."""
        splits = {name: curve for name, curve in self.curves.items() if name not in outcomes.policies}
        return replace(
            self,
            outcomes=outcomes,
            budget=budget,
            pass_at_k=outcomes.in_order(self.pass_at_k),
            frontier=outcomes.in_order(self.frontier),
            front=outcomes.in_order(self.front),
            comparison=self.comparison.shown_as(outcomes, budget),
            curves=outcomes.in_order(self.curves) | splits,
            pairs=sorted(self.pairs, key=lambda pair: outcomes.rows([pair.first, pair.second])),
            solved_by_one=outcomes.in_order(self.solved_by_one),
        )

    def policies_along_alpha(self) -> list[str]:
        """Return the policies that have an α, in ascending order of it."""
        on_line = [(alpha, name) for name, alpha in self.alphas.items() if alpha is not None]
        return [name for _, name in sorted(on_line)]

    def lines_along_alpha(self) -> dict[str, list[str]]:
        """Return the policies that have an α, in ascending order of it, by the setting; all under "" in one setting."""
        lines: dict[str, list[str]] = {}
        for name in self.policies_along_alpha():
            lines.setdefault(self.setting_of(name), []).append(name)
        return lines

    def setting_of(self, policy: str) -> str:
        """Return the setting that the name of a policy says; empty in a run of one setting."""
        return (self.run_settings.split(policy).setting or "") if self.run_settings.are_several else ""


def analyse(
    outcomes: Outcomes,
    alphas: Mapping[str, float | None],
    splits: Mapping[str, Split],
    budget: Budget,
    played: Mapping[str, Arm],
    section: AnalysisSection,
    forgeable: Collection[str],
    unplayed: Mapping[str, str] | None = None,
    settings: RunSettings | None = None,
) -> Analysis:
    """Compute all results of a run.

    Args:
        outcomes: counts with failure classes.
        alphas: α by policy, None where a policy has none.
        splits: arms that spend in fixed shares, by name.
        budget: budget per problem of every arm.
        played: adaptive arms, already scored, by name, with problems in canonical order.
        section: the values of k, and how intervals and cross-fitting are made.
        forgeable: problems whose acceptance a program could forge.
        unplayed: adaptive arms that could not be scored, and why.
        settings: of the run, by which its policies are told apart.

    Raises:
        BudgetError: the budget pays for no sample.
        OutcomesError: n depends on what was drawn.
    """
    table = outcomes.canonical()
    order_M = outcomes.rows(table.policies)
    splits = {name: split.reordered(order_M) for name, split in splits.items()}
    settings = settings or RunSettings(())
    found = _analyse(table, alphas, splits, budget.reordered(order_M), played, section, forgeable, settings)
    comparison = replace(found.comparison, undefined={**found.comparison.undefined, **(unplayed or {})})
    return replace(found, comparison=comparison).shown_as(outcomes, budget)


def _analyse(
    outcomes: Outcomes,
    alphas: Mapping[str, float | None],
    splits: Mapping[str, Split],
    budget: Budget,
    played: Mapping[str, Arm],
    section: AnalysisSection,
    forgeable: Collection[str],
    settings: RunSettings,
) -> Analysis:
    resampling = section.resampling.with_groups(outcomes.groups)
    folds: dict[Division, int] = {"problems": section.folds, "samples": section.sample_folds}
    options = CrossFitOptions(cross_fits(section.seed, section.repeats, folds), resampling)
    try:
        comparison = compare(outcomes, budget, options, splits, played=played)
    except BudgetError:  # too few samples were drawn to score any mixture at this budget
        comparison = compare(outcomes, budget, options, splits, played=played, is_pilot=True)
    gains: dict[Currency, StrictGain | None] = {}
    if "equal" in splits:
        num_samples = int(splits["equal"].allocation_M(outcomes.policies).sum())
        gains = equal_gains(outcomes, num_samples, options, list(splits["equal"].weights))
    pair_samples = _half(outcomes, budget)
    return Analysis(
        outcomes=outcomes,
        budget=budget,
        resampling=resampling,
        alphas=dict(alphas),
        pass_at_k=_pass_at_k(outcomes, section.pass_at, resampling),
        frontier=frontier(outcomes, resampling),
        front=pareto(outcomes, resampling),
        trends=trends(outcomes, alphas, resampling),
        moderate=moderate_range(outcomes, alphas, resampling),
        comparison=comparison,
        run_settings=settings,
        settings=compare_settings(outcomes, settings, budget, section.pass_at, options),
        curves=_curves(outcomes, splits, budget),
        pair_samples=pair_samples,
        pairs=pairs(outcomes, pair_samples, resampling) if pair_samples else [],
        solved_by_one=solved_by_one(outcomes),
        solved_by_extrapolation=solved_by_extrapolation(outcomes, alphas),
        gain_location=_gain_location(outcomes, splits, budget, resampling),
        claims=examine(outcomes, alphas, gains, resampling),
        forgeable=_count_forgeable(outcomes, forgeable),
    )


def _gain_location(
    outcomes: Outcomes, splits: Mapping[str, Split], budget: Budget, resampling: Resampling
) -> GainLocation | None:
    """Locate the gain, with a budget in another currency as the samples that the first split gets for it."""
    samples = int(budget.total)
    if budget.currency != "samples":
        split = next(iter(splits.values()), Split.equal(outcomes.policies, budget))
        samples = max(1, int(split.allocation_M(outcomes.policies).sum()))
    try:
        return locate_gain(outcomes, samples, resampling, FEW_BUDGETS)
    except OutcomesError:
        return None


def _count_forgeable(outcomes: Outcomes, forgeable: Collection[str]) -> Forgeable:
    is_forgeable_P = np.isin(outcomes.problems, list(forgeable))
    return Forgeable(
        int(is_forgeable_P.sum()),
        int(outcomes.num_samples_MP[:, is_forgeable_P].sum()),
        int(outcomes.num_correct_MP[:, is_forgeable_P].sum()),
    )


def _pass_at_k(
    outcomes: Outcomes, pass_at: Sequence[int], resampling: Resampling
) -> dict[str, dict[int, Estimate | None]]:
    estimates: dict[str, dict[int, Estimate | None]] = {policy: {} for policy in outcomes.policies}
    for k in sorted(set(pass_at)):
        defined_M = outcomes.num_samples_MP.min(axis=1) >= k
        rows = np.flatnonzero(defined_M)
        counts = outcomes.num_samples_MP[rows], outcomes.num_correct_MP[rows]
        known = iter(means_over_problems(pass_at_k(*counts, k), resampling, lowest=0) if len(rows) else [])
        for policy, is_defined in zip(outcomes.policies, defined_M, strict=True):
            estimates[policy][k] = next(known) if is_defined else None
    return estimates


def _curves(outcomes: Outcomes, splits: Mapping[str, Split], budget: Budget) -> dict[str, dict[float, float]]:
    """Return coverage by amount spent, for the policies and splits that have the samples to spend it."""
    smallest = float(budget.cost_M.min())
    spaced = np.geomspace(smallest, max(budget.total, smallest), _CURVE_POINTS).tolist()
    amounts = sorted({round(amount) for amount in spaced}) if budget.currency == "samples" else spaced
    alone_MM = np.eye(len(outcomes.policies), dtype=np.int64)
    curves: dict[str, dict[float, float]] = {}
    for amount in amounts:
        part = Budget(amount, budget.cost_M, budget.currency)
        singles_MM = alone_MM * BestSingle(part).samples_M()
        spent = dict(zip(outcomes.policies, singles_MM, strict=True))
        spent |= {name: Split(split.weights, part).allocation_M(outcomes.policies) for name, split in splits.items()}
        for name, k_M in spent.items():
            # A split that gives some member no sample would be another arm.
            is_whole = name in outcomes.policies or np.all(k_M[outcomes.rows(list(splits[name].weights))])
            if k_M.any() and is_whole and np.all(k_M <= outcomes.num_samples_MP.min(axis=1)):
                covered_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, k_M)
                curves.setdefault(name, {})[amount] = float(covered_P.mean())
    return curves


def _half(outcomes: Outcomes, budget: Budget) -> int:
    """Return how many samples of any policy half the budget pays for, or half the smallest n if that is less."""
    affordable = int((budget.total / 2 / budget.cost_M).min() + 1e-9)
    return min(affordable, int(outcomes.num_samples_MP.min()) // 2)
