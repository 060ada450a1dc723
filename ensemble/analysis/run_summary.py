"""The content of `summary.json`, the machine-readable numbers of a run."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.mixture.compare_arms import Comparison, naive_and_honest
from alphamix.ensemble.outcomes.table import Outcomes


def summary(analysis: Analysis, run: str, judge: Mapping[str, Any], owed: int) -> dict[str, Any]:
    """Return the content of `summary.json`. Shares are in [0, 1], and unknown values are null.

    Estimates with intervals are under `policies`; `pass_at_k` and `frontier` at the top level are the curves that are
    drawn.
    """
    outcomes = analysis.outcomes
    comparison = analysis.comparison
    arms = {name: _arm_summary(comparison, name) for name in comparison.arms}
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
        "trends": {name: asdict(trend) for name, trend in analysis.trends.items()},
        "moderate_range": asdict(analysis.moderate) if analysis.moderate else None,
        "arms": arms,
        "ensemble": arms.get("equal"),
        "best_single": {"policy": analysis.best_single, **arms.get("best_single", {})},
        "gain": naive_and_honest(comparison.gains.get("equal"), "problems"),
        "undefined": comparison.undefined,
        "complementarity": {
            "policies": list(outcomes.policies),
            "samples_each": analysis.pair_samples,
            "gain": analysis.gains,
            "pairs": [asdict(pair) for pair in analysis.pairs],
            "contributions": {
                policy: asdict(contribution) for policy, contribution in comparison.contributions.items()
            },
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


def _mean_cost(outcomes: Outcomes, cost: str, m: int) -> float | None:
    """Return the mean cost of a sample of one policy, or None if the table does not say."""
    cost_MP = outcomes.costs_MP.get(cost)
    return None if cost_MP is None else float(cost_MP[m].mean())


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
        "tokens": _mean_cost(outcomes, "tokens", m),
        "seconds": _mean_cost(outcomes, "seconds", m),
    }


def _point(analysis: Analysis, policy: str) -> dict[str, Any]:
    return {
        "policy": policy,
        "alpha": analysis.alphas[policy],
        "solved": float(analysis.outcomes.solve_rate_MP[analysis.outcomes.row(policy)].mean()),
        **{name: estimate.value for name, estimate in analysis.frontier[policy].items()},
    }


def _arm_summary(comparison: Comparison, name: str) -> dict[str, Any]:
    """Return one arm: `honest` is cross-fitted by problems, and `cost` is what an adaptive arm spent."""
    estimates, arm = comparison.coverage[name], comparison.arms[name]
    return {
        "allocation": dict(arm.allocation),
        **naive_and_honest(estimates, "problems"),
        "honest_by_samples": naive_and_honest(estimates, "samples")["honest"],
        "cost": None if arm.cost is None else asdict(arm.cost),
    }
