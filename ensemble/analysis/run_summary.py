"""The content of `summary.json`, the machine-readable numbers of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.mixture.compare_arms import Comparison
from alphamix.ensemble.mixture.gains import naive_and_honest
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.store import Ending
from alphamix.policies.types import AnswerKind


@dataclass(frozen=True)
class RunRemarks:
    """What a reader of a run's figures should know about its samples."""

    owed: int = 0
    """Planned samples that are missing or not judged, but may still come."""
    rejected: int = 0
    """Planned samples that cannot be drawn: the policy refused the request, or is gone."""
    answer_kinds: Mapping[str, Mapping[AnswerKind, int]] = field(default_factory=dict)
    """Number of answers that are not text, by kind, of each policy that gave any."""
    endings: Mapping[str, Mapping[Ending, int]] = field(default_factory=dict)
    """Number of attempts of several turns that did not submit by themselves, by how they ended, of each policy."""
    missing_modules: Mapping[str, int] = field(default_factory=dict)
    """Number of programs that failed for want of a module, by its name."""
    errata: Mapping[str, str] = field(default_factory=dict)
    """What is known to be wrong with a problem, by its id."""


def summary(analysis: Analysis, run: str, judge: Mapping[str, Any], remarks: RunRemarks) -> dict[str, Any]:
    """Return the content of `summary.json`. Shares are in [0, 1], and unknown values are null.

    Estimates with intervals are under `policies`; `pass_at_k` and `frontier` at the top level are the curves that are
    drawn.
    """
    outcomes, comparison = analysis.outcomes, analysis.comparison
    table = outcomes.canonical()  # rounding depends on the order of problems
    arms = {name: _arm_summary(comparison, name) for name in comparison.arms}
    content = {
        "run": run,
        "budget": analysis.budget.amount,
        "currency": analysis.budget.currency,
        "costs": dict(zip(outcomes.policies, analysis.budget.cost_M.tolist(), strict=True)),
        "problems": len(outcomes.problems),
        "left_out": {outcomes.left_out_are: outcomes.left_out} if outcomes.left_out else {},
        "policies": {name: _policy_summary(analysis, table, name) for name in outcomes.policies},
        "pass_at_k": analysis.curves,
        "frontier": [_point(analysis, table, name) for name in analysis.policies_along_alpha()],
        "front": analysis.front,
        "trends": analysis.trends,
        "moderate_range": analysis.moderate,
        "settings": analysis.settings,
        "arms": arms,
        "ensemble": arms.get("equal"),
        "best_single": {"policy": analysis.best_single, **arms.get("best_single", {})},
        "gain": naive_and_honest(comparison.gains.get("equal"), "problems"),
        "undefined": comparison.undefined,
        "complementarity": {
            "policies": outcomes.policies,
            "samples_each": analysis.pair_samples,
            "gain": analysis.gains,
            "pairs": analysis.pairs,
            "contributions": comparison.contributions,
            "solved_by_extrapolation": analysis.solved_by_extrapolation,
            "only_solver": {
                policy: [solve.problem for solve in solves] for policy, solves in analysis.solved_by_one.items()
            },
        },
        "gain_location": analysis.gain_location,
        "claims": analysis.claims,
        "forgeable": analysis.forgeable,
        "owed": remarks.owed,
        "rejected": remarks.rejected,
        "answer_kinds": remarks.answer_kinds,
        "endings": remarks.endings,
        "missing_modules": remarks.missing_modules,
        "errata": remarks.errata,
        "judge": judge,
    }
    return to_jsonable_python(content)


def _policy_summary(analysis: Analysis, table: Outcomes, policy: str) -> dict[str, Any]:
    m = table.row(policy)
    mean_costs = {cost: float(cost_MP[m].mean()) for cost, cost_MP in table.costs_MP.items()}
    return {
        "alpha": analysis.alphas[policy],
        "n": int(table.num_samples_MP[m].sum()),
        "pass_at_k": analysis.pass_at_k[policy],
        "frontier": analysis.frontier[policy],
        "tokens": mean_costs.get("tokens"),
        "seconds": mean_costs.get("seconds"),
    }


def _point(analysis: Analysis, table: Outcomes, policy: str) -> dict[str, Any]:
    return {
        "policy": policy,
        "alpha": analysis.alphas[policy],
        "solved": float(table.solve_rate_MP[table.row(policy)].mean()),
        **{name: estimate.value for name, estimate in analysis.frontier[policy].items()},
    }


def _arm_summary(comparison: Comparison, name: str) -> dict[str, Any]:
    """Return one arm: `honest` is cross-fitted by problems, and `cost` is what an adaptive arm spent."""
    estimates, arm = comparison.coverage[name], comparison.arms[name]
    return {
        "allocation": arm.allocation,
        **naive_and_honest(estimates, "problems"),
        "honest_by_samples": naive_and_honest(estimates, "samples")["honest"],
        "cost": arm.cost,
    }
