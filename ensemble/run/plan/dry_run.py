"""The plan of a run in words and numbers, before anything is drawn."""

from typing import Any

import numpy as np

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.mixture.arms import BestSingle
from alphamix.ensemble.run.plan.resolved_arms import Arms, known_arms
from alphamix.ensemble.run.plan.stages import check


def describe(inputs: Inputs) -> dict[str, Any]:
    """What a run would draw, for people and machines, before it begins; None is what only its pilot can tell."""
    check(inputs)
    section, arms = inputs.experiment, known_arms(inputs)
    policies, problems = inputs.registry.names, len(inputs.problems)
    pilot, at_least = section.allocation.pilot, section.sampling.samples or 0
    first_M = np.full(len(policies), max(pilot, at_least)) if arms is None else arms.fixed_M
    samples = int(first_M.sum()) * problems
    most = None if arms is None else samples + _most_beyond(arms, first_M) * problems
    return {
        "policies": list(policies),
        "problems": problems,
        "budget_per_problem": section.budget.amount,
        "currency": section.budget.currency,
        "budget_of_the_run": section.budget.run.limits,
        "arms": {name: None if arms is None else _allocations(arms, name) for name in section.allocation.arms},
        "samples_per_problem": dict(zip(policies, first_M.tolist(), strict=True)),
        "samples": samples,
        "samples_are": _what_samples_are(samples, most),
        "most_samples": most,
        "most_tokens": None if most is None else most * section.sampling.max_tokens,
    }


def _allocations(arms: Arms, name: str) -> Any:
    """Samples per problem by policy; of an adaptive arm what it may spend at most."""
    if name == "singles" and arms.singles is not None:
        return dict(zip(arms.policies, arms.singles.samples_M().tolist(), strict=True))
    if name in arms.splits:
        counts = zip(arms.policies, arms.splits[name].allocation_M(arms.policies).tolist(), strict=True)
        return {policy: count for policy, count in counts if count}
    return {"adaptive": list(arms.members), "at_most": arms.budget.total}


def _most_beyond(arms: Arms, fixed_M: Ints) -> int:
    """Samples per problem that adaptive arms draw at most beyond the fixed ones: each of them all on one policy."""
    beyond_M = BestSingle(arms.budget).samples_M() - fixed_M
    return len(arms.adaptive) * max(0, int(beyond_M[np.isin(arms.policies, arms.members)].max()))


def _what_samples_are(samples: int, most: int | None) -> str:
    if most is None:
        return "the pilot, which tells what samples cost; arms are sized by that"
    if most > samples:
        return "those of fixed number; adaptive arms draw more where they need them"
    return "all that is drawn"
