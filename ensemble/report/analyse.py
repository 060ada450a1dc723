"""All numbers of a report, computed once: tables, figures, the page and `summary.json` only show them.

Pure: outcomes in, one record out. Axes: `M` policies, `P` problems.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.claims import Claim, examine
from ensemble.complementarity import Pair, UniqueSolve, pairs, solved_by_extrapolation, solved_by_one
from ensemble.experiment import AnalysisSection
from ensemble.frontier import FrontPoint, ModerateRange, frontier, moderate_range, pareto, trends
from ensemble.intervals import Estimate, Resampling, means_over_problems
from ensemble.mixture.arms import Split
from ensemble.mixture.comparison import Comparison, Honesty, compare, equal_gains
from ensemble.mixture.crossfit import CrossFit, Division
from ensemble.mixture.search import Budget
from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import coverage, pass_at_k
from ensemble.trend import Trend

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
    budget: int
    resampling: Resampling
    """How intervals are made."""
    alphas: dict[str, float | None]
    pass_at_k: dict[str, dict[int, Estimate]]
    """By policy and k."""
    frontier: dict[str, dict[str, Estimate]]
    """By policy and failure class."""
    front: dict[str, FrontPoint]
    """Who is dominated; empty where failure classes are unknown."""
    trends: dict[str, Trend]
    """Of the solve rate and each failure class along α; empty without a line."""
    moderate: ModerateRange | None
    comparison: Comparison
    """The best mixture, the equal split and the best single policy at the budget."""
    curves: dict[str, dict[int, float]]
    """Coverage by samples per problem: of each policy alone, and of the equal split under the name `equal`."""
    pairs: list[Pair]
    """Every ordered pair of policies, at half the budget each."""
    solved_by_one: dict[str, list[UniqueSolve]]
    solved_by_extrapolation: list[UniqueSolve]
    claims: list[Claim]
    forgeable: Forgeable

    @property
    def level(self) -> float:
        """Of all intervals."""
        return self.resampling.level

    @property
    def best_single(self) -> str:
        """The policy that all problems together choose."""
        return next(iter(self.comparison.arms["best_single"].allocation))

    @property
    def gains(self) -> list[list[float]]:
        """What half the budget on a second policy (column) adds to a first (row); 0 for more of the same."""
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
    members: Sequence[str],
    budget: int,
    section: AnalysisSection,
    forgeable: Collection[str],
) -> Analysis:
    """Compute everything.

    Args:
        outcomes: counts with failure classes.
        alphas: α by policy, None where a policy has none.
        members: policies of the equal split.
        budget: samples per problem of every arm.
        section: which k, how sure, how many folds.
        forgeable: problems whose acceptance a program could forge.

    Raises:
        UndefinedError: a cell has fewer samples than the budget or a k.
    """
    resampling = Resampling(section.level, section.resamples, section.seed)
    honesty = Honesty(_crossfits(section), resampling)
    comparison = compare(outcomes, Budget.of_samples(budget, len(outcomes.policies)), honesty, members)
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
        curves=_curves(outcomes, members, budget),
        pairs=pairs(outcomes, budget // 2, resampling),
        solved_by_one=solved_by_one(outcomes),
        solved_by_extrapolation=solved_by_extrapolation(outcomes, alphas),
        claims=examine(outcomes, alphas, equal_gains(outcomes, budget, honesty, members), resampling),
        forgeable=_count_forgeable(outcomes, forgeable),
    )


def summary(analysis: Analysis, run: str, judge: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `summary.json`. Shares are in [0, 1], unknown values null.

    Intervals stand under `policies`; `pass_at_k` and `frontier` at the top are the curves behind the pictures.
    """
    outcomes = analysis.outcomes
    comparison = analysis.comparison
    arms = {name: _arm_summary(comparison, name) for name in comparison.arms}
    gain = comparison.gains["equal"]
    return {
        "run": run,
        "budget": analysis.budget,
        "problems": len(outcomes.problems),
        "policies": {name: _policy_summary(analysis, name) for name in outcomes.policies},
        "pass_at_k": analysis.curves,
        "frontier": [_point(analysis, name) for name in analysis.policies_along_alpha()],
        "front": {policy: asdict(point) for policy, point in analysis.front.items()},
        "trends": {name: asdict(one) for name, one in analysis.trends.items()},
        "moderate_range": asdict(analysis.moderate) if analysis.moderate else None,
        "arms": arms,
        "ensemble": arms["equal"],
        "best_single": {"policy": analysis.best_single, **arms["best_single"]},
        "gain": {
            "naive": gain.naive.value,
            "honest": _value(gain.honest.get("problems")),
            "interval": _interval(gain.honest.get("problems")),
        },
        "undefined": comparison.undefined,
        "complementarity": {
            "policies": list(outcomes.policies),
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
        "owed": 0,
        "judge": dict(judge),
    }


def _policy_summary(analysis: Analysis, policy: str) -> dict[str, Any]:
    outcomes = analysis.outcomes
    m = outcomes.row(policy)
    return {
        "alpha": analysis.alphas[policy],
        "n": int(outcomes.num_samples_MP[m].sum()),
        "pass_at_k": {str(k): asdict(estimate) for k, estimate in analysis.pass_at_k[policy].items()},
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


def _pass_at_k(outcomes: Outcomes, pass_at: Sequence[int], resampling: Resampling) -> dict[str, dict[int, Estimate]]:
    counts = outcomes.num_samples_MP, outcomes.num_correct_MP
    estimates = {k: means_over_problems(pass_at_k(*counts, k), resampling) for k in sorted(set(pass_at))}
    return {
        policy: {k: estimate_M[m] for k, estimate_M in estimates.items()} for m, policy in enumerate(outcomes.policies)
    }


def _curves(outcomes: Outcomes, members: Sequence[str], budget: int) -> dict[str, dict[int, float]]:
    budgets = sorted({round(k) for k in np.geomspace(1, budget, _CURVE_POINTS)})
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    singles_KM = {k: pass_at_k(n_MP, c_MP, k).mean(axis=1) for k in budgets}
    curves = {
        policy: {k: float(single_M[m]) for k, single_M in singles_KM.items()}
        for m, policy in enumerate(outcomes.policies)
    }
    curves["equal"] = {}
    whole = [k for k in budgets if k >= len(members)]
    limit_M = n_MP.min(axis=1)
    for k in whole:
        split = Split.equal(members, Budget.of_samples(k, len(outcomes.policies)))
        curves["equal"][k] = float(coverage(n_MP, c_MP, split.choose(outcomes, limit_M)).mean())
    return curves


def _crossfits(section: AnalysisSection) -> dict[Division, CrossFit]:
    return {
        "problems": CrossFit("problems", section.folds, section.repeats, section.seed),
        "samples": CrossFit("samples", section.sample_folds, section.repeats, section.seed),
    }


def _arm_summary(comparison: Comparison, name: str) -> dict[str, Any]:
    """An arm; `honest` is across problems, `honest_by_samples` on this benchmark."""
    figures = comparison.coverage[name]
    return {
        "allocation": comparison.arms[name].allocation,
        "naive": figures.naive.value,
        "honest": _value(figures.honest.get("problems")),
        "interval": _interval(figures.honest.get("problems")),
        "honest_by_samples": _value(figures.honest.get("samples")),
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _interval(estimate: Estimate | None) -> tuple[float, float] | None:
    return None if estimate is None else estimate.interval
