"""All numbers of a report, computed once: tables, figures, the page and `summary.json` only show them.

Pure: outcomes in, one record out. Axes: `M` policies, `P` problems.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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
from alphamix.ensemble.mixture.compare_arms import Comparison, Honesty, compare, equal_gains
from alphamix.ensemble.mixture.cross_fitting import CrossFit, Division
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, means_over_problems
from alphamix.ensemble.statistics.pass_at_k import coverage, pass_at_k
from alphamix.ensemble.statistics.trend_test import Trend

_CURVE_POINTS = 24


@dataclass(frozen=True)
class Forgeable:
    """Where acceptance rests on code that ran beside the program (`Problem.is_forgeable`)."""

    problems: int
    samples: int
    """Graded samples of these problems."""
    accepted: int


@dataclass(frozen=True)
class Analysis:
    """Everything that a run has to say."""

    outcomes: Outcomes
    budget: Budget
    """Per problem, of every arm."""
    resampling: Resampling
    """How intervals are made."""
    alphas: dict[str, float | None]
    pass_at_k: dict[str, dict[int, Estimate | None]]
    """By policy and k; None where k is more than its samples."""
    frontier: dict[str, dict[str, Estimate]]
    """By policy and failure class."""
    front: dict[str, FrontPoint]
    """Who is dominated; empty where failure classes are unknown."""
    trends: dict[str, Trend]
    """Of the solve rate and each failure class along α; empty without a line."""
    moderate: ModerateRange | None
    comparison: Comparison
    """The best mixture, the equal split and the best single policy at the budget."""
    curves: dict[str, dict[float, float]]
    """Coverage by what is spent per problem: of each policy alone, and of each split under its name, as far as samples
    go."""
    pair_samples: int
    """Samples of each policy of a pair: half of what the budget pays for, or of what there is if that is less."""
    pairs: list[Pair]
    """Every ordered pair of policies; none where `pair_samples` is 0."""
    solved_by_one: dict[str, list[UniqueSolve]]
    solved_by_extrapolation: list[UniqueSolve]
    claims: list[Claim]
    forgeable: Forgeable

    @property
    def level(self) -> float:
        """Of all intervals."""
        return self.resampling.level

    @property
    def best_single(self) -> str | None:
        """The policy that all problems together choose; None where no single policy can be scored at the budget."""
        single = self.comparison.arms.get("best_single")
        return None if single is None else next(iter(single.allocation))

    @property
    def gains(self) -> list[list[float]]:
        """What samples of a second policy (column) add to as many of a first (row); 0 for more of the same.

        Empty where `pair_samples` is 0.
        """
        if not self.pair_samples:
            return []
        gain = {(pair.first, pair.second): pair.gain.value for pair in self.pairs}
        policies = self.outcomes.policies
        return [[gain.get((first, second), 0.0) for second in policies] for first in policies]

    def policies_along_alpha(self) -> list[str]:
        """Policies that have an α, in its order."""
        on_line = [(alpha, name) for name, alpha in self.alphas.items() if alpha is not None]
        return [name for _, name in sorted(on_line)]


def analyse(
    outcomes: Outcomes,
    alphas: Mapping[str, float | None],
    splits: Mapping[str, Split],
    budget: Budget,
    played: Mapping[str, Arm],
    section: AnalysisSection,
    forgeable: Collection[str],
) -> Analysis:
    """Compute everything.

    Args:
        outcomes: counts with failure classes.
        alphas: α by policy, None where a policy has none.
        splits: arms that spend in fixed shares, by name.
        budget: per problem, of every arm.
        played: adaptive arms, by name.
        section: which k, how sure, how many folds.
        forgeable: problems whose acceptance a program could forge.

    Raises:
        BudgetError: the budget pays for no sample.
        OutcomesError: n depends on what was drawn.
    """
    resampling = section.resampling
    honesty = Honesty(_crossfits(section), resampling)
    try:
        comparison = compare(outcomes, budget, honesty, splits, played=played)
    except BudgetError:  # no arm drew so much of so many policies that a mixture of them could be scored
        comparison = compare(outcomes, budget, honesty, splits, played=played, is_pilot=True)
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
        curves=_curves(outcomes, splits, budget),
        pair_samples=pair_samples,
        pairs=pairs(outcomes, pair_samples, resampling) if pair_samples else [],
        solved_by_one=solved_by_one(outcomes),
        solved_by_extrapolation=solved_by_extrapolation(outcomes, alphas),
        claims=examine(outcomes, alphas, _equal_gains(outcomes, splits, honesty), resampling),
        forgeable=_count_forgeable(outcomes, forgeable),
    )


def summary(analysis: Analysis, run: str, judge: Mapping[str, Any], owed: int) -> dict[str, Any]:
    """The content of `summary.json`. Shares are in [0, 1], unknown values null.

    Intervals stand under `policies`; `pass_at_k` and `frontier` at the top are the curves behind the pictures.
    """
    outcomes = analysis.outcomes
    comparison = analysis.comparison
    arms = {name: _arm_summary(comparison, name) for name in comparison.arms}
    gain = comparison.gains.get("equal")
    return {
        "run": run,
        "budget": analysis.budget.amount,
        "currency": analysis.budget.currency,
        "costs": dict(zip(outcomes.policies, analysis.budget.cost_M.tolist(), strict=True)),
        "problems": len(outcomes.problems),
        "policies": {name: _policy_summary(analysis, name) for name in outcomes.policies},
        "pass_at_k": analysis.curves,
        "frontier": [_point(analysis, name) for name in analysis.policies_along_alpha()],
        "front": {policy: asdict(point) for policy, point in analysis.front.items()},
        "trends": {name: asdict(one) for name, one in analysis.trends.items()},
        "moderate_range": asdict(analysis.moderate) if analysis.moderate else None,
        "arms": arms,
        "ensemble": arms.get("equal"),
        "best_single": {"policy": analysis.best_single, **arms.get("best_single", {})},
        "gain": {
            "naive": _value(gain.naive if gain else None),
            "honest": _value(gain.honest.get("problems") if gain else None),
            "interval": _interval(gain.honest.get("problems") if gain else None),
        },
        "undefined": comparison.undefined,
        "complementarity": {
            "policies": list(outcomes.policies),
            "samples_each": analysis.pair_samples,
            "gain": analysis.gains,
            "pairs": [asdict(pair) for pair in analysis.pairs],
            "contributions": {policy: asdict(one) for policy, one in comparison.contributions.items()},
            "solved_by_extrapolation": [asdict(solve) for solve in analysis.solved_by_extrapolation],
            "only_solver": {
                policy: [solve.problem for solve in solves] for policy, solves in analysis.solved_by_one.items()
            },
        },
        "claims": [asdict(claim) for claim in analysis.claims],
        "forgeable": asdict(analysis.forgeable),
        "owed": owed,
        "judge": dict(judge),
    }


def _policy_summary(analysis: Analysis, policy: str) -> dict[str, Any]:
    outcomes = analysis.outcomes
    m = outcomes.row(policy)
    return {
        "alpha": analysis.alphas[policy],
        "n": int(outcomes.num_samples_MP[m].sum()),
        "pass_at_k": {
            str(k): None if estimate is None else asdict(estimate) for k, estimate in analysis.pass_at_k[policy].items()
        },
        "frontier": {name: asdict(estimate) for name, estimate in analysis.frontier[policy].items()},
        "tokens": float(outcomes.costs_MP["tokens"][m].mean()),
        "seconds": float(outcomes.costs_MP["seconds"][m].mean()),
    }


def _point(analysis: Analysis, policy: str) -> dict[str, Any]:
    rates = {name: estimate.value for name, estimate in analysis.frontier[policy].items()}
    return {
        "policy": policy,
        "alpha": analysis.alphas[policy],
        "solved": _solve_rate(analysis.outcomes, policy),
        **rates,
    }


def _solve_rate(outcomes: Outcomes, policy: str) -> float:
    return float(outcomes.solve_rate_MP[outcomes.row(policy)].mean())


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
    """At each of a few amounts, whoever can spend it within the samples there are; at least one sample of each."""
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
            is_whole = name in outcomes.policies or np.all(k_M[[outcomes.row(one) for one in splits[name].weights]])
            if k_M.any() and is_whole and np.all(k_M <= outcomes.num_samples_MP.min(axis=1)):
                covered_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, k_M)
                curves.setdefault(name, {})[amount] = float(covered_P.mean())
    return curves


def _half(outcomes: Outcomes, budget: Budget) -> int:
    """Samples per policy that half the budget pays for, of whichever it is, and that are there."""
    affordable = int((budget.total / 2 / budget.cost_M).min() + 1e-9)
    return min(affordable, int(outcomes.num_samples_MP.min()) // 2)


def _equal_gains(outcomes: Outcomes, splits: Mapping[str, Split], honesty: Honesty) -> dict[Currency, Estimate | None]:
    equal = splits.get("equal")
    if equal is None:
        return {}
    return equal_gains(outcomes, int(equal.allocation_M(outcomes.policies).sum()), honesty, list(equal.weights))


def _crossfits(section: AnalysisSection) -> dict[Division, CrossFit]:
    return {
        "problems": CrossFit("problems", section.folds, section.repeats, section.seed),
        "samples": CrossFit("samples", section.sample_folds, section.repeats, section.seed),
    }


def _arm_summary(comparison: Comparison, name: str) -> dict[str, Any]:
    """An arm; `honest` is across problems, `honest_by_samples` on this benchmark, `cost` what an adaptive arm spent."""
    figures, arm = comparison.coverage[name], comparison.arms[name]
    return {
        "allocation": dict(arm.allocation),
        "naive": figures.naive.value,
        "honest": _value(figures.honest.get("problems")),
        "interval": _interval(figures.honest.get("problems")),
        "honest_by_samples": _value(figures.honest.get("samples")),
        "cost": None if arm.cost is None else asdict(arm.cost),
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _interval(estimate: Estimate | None) -> tuple[float, float] | None:
    return None if estimate is None else estimate.interval
