"""Which policy is best by one sample of each problem, and which cannot be told from it.

Two questions are answered side by side. *These problems*: how likely is it that a policy has the highest mean solve
rate on the very problems of the table (`rate_posterior`)? *New problems*: is it behind the first on other problems of
this kind (a paired score interval)? The first has an answer long before the second.
"""

from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import NO_DIFFERENCE, Estimate, Resampling, means_over_problems
from alphamix.ensemble.statistics.rate_posterior import MeanRate, chances_first

_NOISE = 1e-12
"""Difference of two posterior means below which they are equal."""


@dataclass(frozen=True, slots=True)
class RankedPolicy:
    """A policy's place, and what is known about its solve rate."""

    policy: str
    rank: int
    """Number of policies with a higher posterior mean, plus 1; policies that are tied share it."""
    pass_at_1: float
    """Unbiased estimate of the mean solve rate."""
    mean: float
    """Posterior mean of the mean solve rate on these problems."""
    interval: tuple[float, float]
    """Credible interval for these problems."""
    chance_first: float
    """Chance that no other policy has a higher mean solve rate on these problems."""
    difference: Estimate
    """Mean solve rate minus that of the first policy, on new problems, paired by problem."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """All policies, the best first."""

    policies: tuple[RankedPolicy, ...]
    best: tuple[str, ...]
    """The fewest policies of which one is the best on these problems, with a chance of at least `level`."""
    level: float


def rank_policies(outcomes: Outcomes, resampling: Resampling) -> Ranking:
    """Rank policies by the posterior mean of their mean solve rate. n may differ between cells, and be 1.

    Raises:
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    table = outcomes.canonical()
    resampling = resampling.with_groups(table.groups)
    rates_M = [MeanRate.of(*counts) for counts in zip(table.num_samples_MP, table.num_correct_MP, strict=True)]
    mean_M, chance_M = np.array([rate.mean for rate in rates_M]), chances_first(rates_M)
    order_M = np.argsort(-mean_M.round(12), kind="stable")
    rate_MP = table.solve_rate_MP[order_M]
    differences = [NO_DIFFERENCE, *means_over_problems(rate_MP[1:] - rate_MP[0], resampling)]
    policies = tuple(
        RankedPolicy(
            policy=table.policies[m],
            rank=int((mean_M > mean_M[m] + _NOISE).sum()) + 1,
            pass_at_1=float(rate_MP[place].mean()),
            mean=rates_M[m].mean,
            interval=rates_M[m].interval(resampling.level),
            chance_first=float(chance_M[m]),
            difference=differences[place],
        )
        for place, m in enumerate(order_M)
    )
    return Ranking(policies, _credible_set(policies, resampling.level), resampling.level)


def _credible_set(policies: tuple[RankedPolicy, ...], level: float) -> tuple[str, ...]:
    """Return the policies with the highest chances to be first, until these reach the level; ties stay together."""
    by_chance = sorted(policies, key=lambda policy: -policy.chance_first)
    total, least = 0.0, 0.0
    for policy in by_chance:
        total, least = total + policy.chance_first, policy.chance_first
        if total >= level:
            break
    return tuple(policy.policy for policy in by_chance if policy.chance_first >= least - _NOISE)
