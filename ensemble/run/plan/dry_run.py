"""The plan of a run as plain values, before anything is drawn."""

from typing import Any

import numpy as np

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.resolved import Design
from alphamix.ensemble.mixture.arms import BestSingle
from alphamix.ensemble.run.plan.resolved_arms import Arms, known_arms
from alphamix.ensemble.run.plan.stages import check


def describe(design: Design) -> dict[str, Any]:
    """Return what a run would draw, before it begins; None stands for what only its pilot can show."""
    check(design)
    arms = known_arms(design)
    policies, problems = design.policies, len(design.problems)
    first_M = np.full(len(policies), max(design.allocation.pilot, design.samples)) if arms is None else arms.fixed_M
    samples = int(first_M.sum()) * problems
    beyond = None if arms is None else _most_beyond(arms, first_M)
    most = None if beyond is None else samples + beyond * problems
    max_tokens_M = np.array([design.max_tokens[policy] for policy in policies])
    most_tokens = None if beyond is None else int(first_M @ max_tokens_M + beyond * max_tokens_M.max()) * problems
    return {
        "policies": list(policies),
        "problems": problems,
        "budget_per_problem": design.budget.amount,
        "currency": design.budget.currency,
        "budget_of_the_run": design.budget.run.amounts,
        "arms": {name: None if arms is None else _allocations(arms, name) for name in design.allocation.arms},
        "samples_per_problem": dict(zip(policies, first_M.tolist(), strict=True)),
        "samples": samples,
        "samples_are": _what_samples_are(samples, most),
        "most_samples": most,
        "most_tokens": most_tokens,
    }


def _allocations(arms: Arms, name: str) -> Any:
    """Return samples per problem by policy, or for an adaptive arm the most that it may spend."""
    if name == "singles" and arms.singles is not None:
        return dict(zip(arms.policies, arms.singles.samples_M().tolist(), strict=True))
    if name in arms.splits:
        counts = zip(arms.policies, arms.splits[name].allocation_M(arms.policies).tolist(), strict=True)
        return {policy: count for policy, count in counts if count}
    return {"adaptive": list(arms.members), "at_most": arms.budget.total}


def _most_beyond(arms: Arms, fixed_M: Ints) -> int:
    """Return the most samples per problem that adaptive arms draw beyond the fixed ones: all on one policy each."""
    beyond_M = BestSingle(arms.budget).samples_M() - fixed_M
    return len(arms.adaptive) * max(0, int(beyond_M[np.isin(arms.policies, arms.members)].max()))


def _what_samples_are(samples: int, most: int | None) -> str:
    if most is None:
        return "the pilot, which measures what samples cost; arms are sized by that"
    if most > samples:
        return "those of fixed number; adaptive arms draw more where they need them"
    return "all that is drawn"
